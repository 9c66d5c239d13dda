//! `tierctl fault`.

use std::path::PathBuf;

use serde::Serialize;
use tiermem_emulator::fault::{Fault, FaultKind, Lasts, Plan, Trigger};
use tiermem_tiers::Bytes;

use crate::exit::{Exit, Failure};
use crate::fault_plan;
use crate::output::{Align, Output, Table};

/// Kind and version of [`Document`].
const FORMAT: &str = "tiermem-fault-plan/1";

/// Shown below the options.
const HELP: &str = "\
A plan, with every key:
  version = 1
  seed = 42                  # decides what is left open; same seed, same faults
  [[fault]]
  kind = \"poison\"            # poison, remove, link-down, shrink, slow, full, io-error, reset or crash
  tier = \"slow\"              # every tier, if left out
  at_operation = 3           # the tier's third reserve, release, read or write; or:
  # at_time = \"20 ms\"        # virtual, or since a real program opened the tier; or:
  # probability = 0.01       # with each operation
  times = 1                  # how often at most
  # for_operations = 10      # how long (not poison and crash), or:
  # for_time = \"5 ms\"        # for ever, if left out; a reset device is there again at once
  extent = 0                 # poison: the tier's first extent; any that is held, if left out
  offset = \"64 KiB\"          # poison: where in it; anywhere, if left out
  grain = \"os-page\"          # poison: or \"line\"
  # to = \"64 MiB\"            # shrink
  # factor = 4               # slow
  # on = \"read\"              # io-error: read, write or both
  # at_persist_point = 12    # crash of a program with persistent data, instead of the three above
  # torn = true              # then: one line arrives in part

Put it in force with `tierctl run --faults PLAN.toml --tier … -- CMD`.";

/// Check and show a plan of faults.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct FaultVerb {
    /// The plan.
    #[arg(value_name = "PLAN.toml")]
    plan: PathBuf,

    /// Say nothing if the plan is good.
    #[arg(long, conflicts_with = "script")]
    check: bool,

    /// Print it on one line, for the environment variable TIERMEM_FAULTS of a program that is not started by `tierctl run`.
    #[arg(long)]
    script: bool,
}

/// `tiermem-fault-plan/1`: `script` is the plan on one line; of a fault's triggers and lengths one each is not null.
#[derive(Debug, Serialize)]
struct Document {
    file: String,
    seed: u64,
    script: String,
    faults: Vec<FaultDocument>,
    crash_at_persist_point: Option<u64>,
}

#[derive(Debug, Serialize)]
struct FaultDocument {
    kind: &'static str,
    tier: Option<String>,
    at_operation: Option<u64>,
    at_ns: Option<u64>,
    probability: Option<f64>,
    for_operations: Option<u64>,
    for_ns: Option<u64>,
    times: Option<u32>,
    what: String,
}

impl FaultVerb {
    /// Does it.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        let plan = fault_plan::read(&self.plan)?;
        if self.check {
            return Ok(Exit::Ok);
        }
        if self.script {
            output.text(&plan.script().to_string())?;
            return Ok(Exit::Ok);
        }
        let document = document(self.plan.display().to_string(), &plan);
        if output.is_json() {
            output.json(FORMAT, &document)?
        } else {
            output.text(&text(&plan))?
        }
        Ok(Exit::Ok)
    }
}

fn document(file: String, plan: &Plan) -> Document {
    let fault = |fault: &Fault| FaultDocument {
        kind: fault.kind.as_str(),
        tier: fault.tier.map(|tier| tier.to_string()),
        at_operation: if let Trigger::AtOperation(operation) = fault.trigger { Some(operation) } else { None },
        at_ns: if let Trigger::AtTime(ns) = fault.trigger { Some(ns) } else { None },
        probability: if let Trigger::Probability(p) = fault.trigger { Some(p) } else { None },
        for_operations: if let Lasts::Operations(count) = fault.lasts { Some(count) } else { None },
        for_ns: if let Lasts::Time(ns) = fault.lasts { Some(ns) } else { None },
        times: (fault.times != u32::MAX).then_some(fault.times),
        what: what(fault.kind),
    };
    Document {
        file,
        seed: plan.script().seed,
        script: plan.script().to_string(),
        faults: plan.script().faults.iter().map(fault).collect(),
        crash_at_persist_point: plan.crash().map(|crash| crash.point),
    }
}

fn text(plan: &Plan) -> String {
    let mut table = Table::new(&[
        ("TIER", Align::Left),
        ("FAULT", Align::Left),
        ("WHEN", Align::Left),
        ("FOR", Align::Left),
        ("WHAT", Align::Left),
    ]);
    for fault in &plan.script().faults {
        let times = match fault.times {
            1 => String::new(),
            u32::MAX => ", as often as it comes".to_owned(),
            n => format!(", at most {n} times"),
        };
        table.row([
            fault.tier.map_or("every".to_owned(), |tier| tier.to_string()),
            fault.kind.as_str().to_owned(),
            format!("{}{times}", when(fault.trigger)),
            how_long(fault),
            what(fault.kind),
        ]);
    }
    let mut text = format!("seed {}\n{}", plan.script().seed, table.render());
    if let Some(crash) = plan.crash() {
        let torn = if crash.torn { ", one line torn" } else { "" };
        text.push_str(&format!("the host crashes at persist point {}{torn}\n", crash.point));
    }
    text
}

fn when(trigger: Trigger) -> String {
    match trigger {
        Trigger::AtOperation(operation) => format!("operation {operation}"),
        Trigger::AtTime(ns) => time(ns),
        Trigger::Probability(p) => format!("each operation with probability {p}"),
    }
}

fn how_long(fault: &Fault) -> String {
    match (fault.kind, fault.lasts) {
        (FaultKind::Poison { .. }, _) => "until repaired".to_owned(),
        (FaultKind::Crash, _) => String::new(),
        (_, Lasts::Forever) => "ever".to_owned(),
        (_, Lasts::Operations(0)) => "an instant".to_owned(),
        (_, Lasts::Operations(1)) => "1 operation".to_owned(),
        (_, Lasts::Operations(count)) => format!("{count} operations"),
        (_, Lasts::Time(ns)) => time(ns),
    }
}

fn time(ns: u64) -> String {
    tiermem_emulator::time::Time(ns.saturating_mul(1000)).to_string()
}

fn what(kind: FaultKind) -> String {
    match kind {
        FaultKind::Poison { extent, offset, grain } => {
            let extent = extent.map_or("any extent".to_owned(), |number| format!("extent {number}"));
            let offset = offset.map_or("anywhere".to_owned(), |offset| format!("at {}", Bytes(offset)));
            format!("{} of {extent}, {offset}", grain.as_str())
        }
        FaultKind::Remove => "what it held is lost; it returns empty".to_owned(),
        FaultKind::LinkDown => "nothing can be reached; nothing is lost".to_owned(),
        FaultKind::Shrink { to } => format!("to {to}"),
        FaultKind::Slow { factor } => format!("{factor} times as slow, for models"),
        FaultKind::Full => "nothing more can be reserved".to_owned(),
        FaultKind::IoError { reads: true, writes: true } => "reads and writes fail".to_owned(),
        FaultKind::IoError { reads: true, .. } => "reads fail".to_owned(),
        FaultKind::IoError { .. } => "writes fail".to_owned(),
        FaultKind::Reset => "what it held is lost".to_owned(),
        FaultKind::Crash => "the process is killed".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "version = 1\nseed = 7\n[[fault]]\nkind = \"poison\"\ntier = \"slow\"\nat_time = \"20 ms\"\n\
                        [[fault]]\nkind = \"io-error\"\nprobability = 0.5\non = \"read\"\nfor_operations = 2\n\
                        [[fault]]\nkind = \"crash\"\nat_persist_point = 3\n";

    #[test]
    fn people_see_what_comes_when() {
        let text = text(&Plan::parse(PLAN, "p").unwrap());
        for part in [
            "seed 7",
            "20.0 ms",
            "until repaired",
            "os-page of any extent",
            "probability 0.5, as often",
            "persist point 3",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }

    #[test]
    fn the_json_form_is_stable() {
        let document = document("p".into(), &Plan::parse(PLAN, "p").unwrap());
        let value = serde_json::to_value(&document).unwrap();
        let keys = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(keys(&value), "crash_at_persist_point faults file script seed");
        assert_eq!(
            keys(&value["faults"][0]),
            "at_ns at_operation for_ns for_operations kind probability tier times what"
        );
        assert_eq!(
            (&value["faults"][0]["at_ns"], &value["faults"][1]["times"]),
            (&20_000_000.into(), &serde_json::Value::Null)
        );
    }

    #[test]
    fn the_help_shows_a_good_plan() {
        let plan: String =
            HELP.lines().filter_map(|line| line.strip_prefix("  ")).map(|line| format!("{line}\n")).collect();
        Plan::parse(&plan, "help").unwrap_or_else(|error| panic!("{error}"));
    }
}
