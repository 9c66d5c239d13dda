//! What `tierctl run` says on stderr when its program has ended.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde::Serialize;
use tiermem_tiers::Bytes;

use crate::events::{Weight, describe, weight};
use crate::output::{Align, Table};
use crate::record::kernel::Residence;
use crate::record::{ProcessRecord, RunRecord, TierTotal, tier_totals};
use crate::run::child::Ending;

/// At most this many event lines.
const EVENTS_MAX: usize = 8;

/// Kind and version of [`Summary`].
pub const RUN_FORMAT: &str = "tiermem-run/1";

/// The summary for programs: [`RUN_FORMAT`].
///
/// `exit_code` is the code of an exited program, else null and `signal` is the number of the signal. Sizes are in
/// bytes, times in milliseconds since the run began.
#[derive(Debug, Serialize)]
pub struct Summary {
    command: Vec<String>,
    started_unix_s: u64,
    duration_ms: u64,
    exit_code: Option<u8>,
    signal: Option<i32>,
    policy: Option<String>,
    processes: usize,
    tiers: Vec<TierTotal>,
    kernel: Option<KernelCounts>,
    events: Vec<SummaryEvent>,
    sampling: SummarySampling,
}

/// The kernel's counts of the process that held most.
#[derive(Debug, Serialize)]
struct KernelCounts {
    pid: u32,
    /// When it held most.
    most: Residence,
    /// The last count before it ended.
    last: Residence,
}

#[derive(Debug, Serialize)]
struct SummaryEvent {
    /// The first of them.
    at_ms: i64,
    /// The process of the first.
    pid: u32,
    /// How many processes had it.
    processes: usize,
    kind: &'static str,
    text: String,
    bytes: u64,
    count: u64,
}

#[derive(Debug, Serialize)]
struct SummarySampling {
    rounds: u64,
    interval_ms_max: u64,
    failures: u64,
}

/// The summary for programs.
pub fn document(run: &RunRecord) -> Summary {
    let (exit_code, signal) = match run.ending {
        Ending::Exited(code) => (Some(code), None),
        Ending::Killed(signal) => (None, Some(signal)),
    };
    let sampling = run.recorded.sampling;
    Summary {
        command: run.command.clone(),
        started_unix_s: run.started_unix_s,
        duration_ms: u64::try_from(run.duration.as_millis()).unwrap_or(u64::MAX),
        exit_code,
        signal,
        policy: run.policy.clone(),
        processes: run.recorded.processes.len(),
        tiers: tier_totals(&run.recorded),
        kernel: kernel_counts(run),
        events: important_events(run),
        sampling: SummarySampling {
            rounds: sampling.rounds,
            interval_ms_max: sampling.interval_ms_max,
            failures: sampling.failures,
        },
    }
}

fn kernel_counts(run: &RunRecord) -> Option<KernelCounts> {
    let process = run.largest()?;
    let (most, last) = (process.kernel.most.clone()?, process.kernel.last.clone()?);
    Some(KernelCounts { pid: process.snapshot.pid, most, last })
}

/// The summary for people.
pub fn text(run: &RunRecord) -> String {
    let mut text = format!("tierctl: {}\n", headline(run));
    let totals = tier_totals(&run.recorded);
    if totals.is_empty() {
        text.push_str(
            "tierctl: no process published figures: it ended too early, or it does not use the C library's malloc\n",
        );
        return text;
    }
    text.push_str(&tier_table(&totals));
    text.push_str(&run.largest().map(kernel_table).unwrap_or_default());
    let running = run.recorded.processes.iter().filter(|p| !p.ended).count();
    if running > 0 {
        let _ = writeln!(text, "{running} of its processes still run; `tierctl ps` lists them");
    }
    let events = important_events(run);
    for event in events.iter().take(EVENTS_MAX) {
        let times = if event.count > 1 { format!(" ×{}", group_thousands(event.count)) } else { String::new() };
        let who = match event.processes {
            1 if run.recorded.processes.len() == 1 => String::new(),
            1 => format!(" in process {}", event.pid),
            n => format!(" in {n} processes"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:>9.3} s  {}{times}{who}", event.at_ms as f64 / 1000.0, event.text);
    }
    if events.len() > EVENTS_MAX {
        let _ = writeln!(text, "… and {} more events", events.len() - EVENTS_MAX);
    }
    text
}

fn headline(run: &RunRecord) -> String {
    let program = run.command.first().map_or("the program", String::as_str);
    let seconds = run.duration.as_secs_f64();
    let ending = match run.ending {
        Ending::Exited(code) => format!("exit code {code}"),
        Ending::Killed(signal) => format!("killed by signal {signal}"),
    };
    let processes = match run.recorded.processes.len() {
        1 => String::new(),
        n => format!(", {n} processes"),
    };
    format!("{program} ran {seconds:.3} s{processes}, {ending}")
}

/// The tiers as a table.
pub fn tier_table(totals: &[TierTotal]) -> String {
    let mut table = Table::new(&[
        ("TIER", Align::Left),
        ("KIND", Align::Left),
        ("LIVE PEAK", Align::Right),
        ("COMMITTED PEAK", Align::Right),
        ("ALLOCATIONS", Align::Right),
        ("FALLBACKS", Align::Right),
        ("RETURNED", Align::Right),
    ]);
    for tier in totals {
        table.row([
            tier.name.clone(),
            tier.kind.clone(),
            Bytes(tier.live_max).to_string(),
            Bytes(tier.committed_max).to_string(),
            group_thousands(tier.allocations),
            group_thousands(tier.fallbacks),
            Bytes(tier.returned).to_string(),
        ]);
    }
    table.render()
}

/// What the kernel counts in the process that held most.
fn kernel_table(process: &ProcessRecord) -> String {
    let pid = process.snapshot.pid;
    let title = format!("THE KERNEL'S COUNT (smaps of {pid})");
    let tiers = process.kernel.last.iter().flat_map(|r| &r.tiers).map(|t| (t.name.as_str(), Align::Right));
    let mut columns =
        vec![(title.as_str(), Align::Left), ("ANONYMOUS", Align::Right), ("OF THAT COPIES", Align::Right)];
    columns.extend(tiers);
    columns.push(("PROGRAM FILES", Align::Right));
    let mut table = Table::new(&columns);
    for (when, residence) in process.kernel.shown() {
        let mut row = vec![format!("{when}, {:.1} s", residence.at_ms as f64 / 1000.0)];
        let tiers = residence.tiers.iter().map(|t| t.resident);
        let figures = [residence.anonymous, residence.copied].into_iter().chain(tiers).chain([residence.files]);
        row.extend(figures.map(|bytes| Bytes(bytes).to_string()));
        table.row(row);
    }
    let mut text = table.render();
    if process.kernel.shown().any(|(_, r)| r.copied > 0) {
        text.push_str("copies: OS pages of a tier's file that were written after a fork; they lie in DRAM now\n");
    }
    text
}

impl SummaryEvent {
    /// Adds an event that is alike. `last_pids` knows the process that each text was last seen in.
    fn add(&mut self, other: Self, last_pids: &mut HashMap<String, u32>) {
        self.count += other.count;
        self.bytes = self.bytes.saturating_add(other.bytes);
        if last_pids.insert(other.text, other.pid) != Some(other.pid) {
            self.processes += 1;
        }
        if other.at_ms < self.at_ms {
            (self.at_ms, self.pid) = (other.at_ms, other.pid);
        }
    }
}

/// Events above [`Weight::Normal`], the serious ones first, each sort in order of time; alike ones are added up
/// under the time and process of the first.
fn important_events(run: &RunRecord) -> Vec<SummaryEvent> {
    let mut found: Vec<(Weight, SummaryEvent)> = Vec::new();
    let mut last_pids: HashMap<String, u32> = HashMap::new();
    for process in &run.recorded.processes {
        for event in &process.snapshot.events {
            let weight = weight(event, &process.snapshot);
            if weight == Weight::Normal {
                continue;
            }
            let text = describe(&tiermem::control::Event { bytes: 0, ..event.clone() }, &process.snapshot);
            let pid = process.snapshot.pid;
            let at_ms = process.started_ms.saturating_add_unsigned(event.at_ms).max(0);
            let (kind, bytes, count) = (event.kind.as_str(), event.bytes, event.count);
            let one = SummaryEvent { at_ms, pid, processes: 1, kind, text, bytes, count };
            match found.iter_mut().find(|(_, e)| e.text == one.text) {
                Some((_, same)) => same.add(one, &mut last_pids),
                None => {
                    last_pids.insert(one.text.clone(), pid);
                    found.push((weight, one));
                }
            }
        }
    }
    found.sort_by_key(|(weight, event)| (std::cmp::Reverse(*weight), event.at_ms));
    found.into_iter().map(|(_, event)| event).collect()
}

/// `1234567` as `1,234,567`.
pub fn group_thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{RUN_FORMAT, document, group_thousands, text};
    use crate::output::Output;
    use crate::report::example;

    #[test]
    fn people_see_tiers_and_what_matters() {
        let text = text(&example::server());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "tierctl: /usr/bin/redis-server ran 14.091 s, exit code 0");
        assert!(lines[1].starts_with("TIER  KIND      LIVE PEAK  COMMITTED PEAK"));
        assert!(lines[3].starts_with("slow  dax-file    327 MiB") && lines[3].contains("3,402,117"), "{text}");
        assert!(lines[4].starts_with("THE KERNEL'S COUNT (smaps of 4242)  ANONYMOUS  OF THAT COPIES"), "{text}");
        assert!(
            lines[5].starts_with("at its most, 9.7 s") && lines[5].contains("93 MiB") && lines[5].contains("31 MiB")
        );
        assert!(lines[6].starts_with("at last, 13.9 s") && lines[7].starts_with("copies: "), "{text}");
        assert!(lines[8].contains("3.114 s  dram reached its limit") && lines[8].ends_with("×3,402,117"), "{text}");
        assert!(lines[9].contains("7.954 s  the process forked") && lines[9].contains("DRAM"), "{text}");
        assert!(!text.contains("the allocator started"), "normal events are left out");
    }

    #[test]
    fn alike_events_of_several_processes_are_one_and_serious_ones_come_first() {
        let mut run = example::two_processes();
        let mut third = run.recorded.processes[1].clone();
        third.snapshot.pid += 1;
        run.recorded.processes.push(third);
        let text = text(&run);
        let events: Vec<&str> = text.lines().filter(|l| l.starts_with(' ')).collect();
        assert!(events[0].contains("null pointer ×4 in 2 processes"), "{text}");
        assert!(events.last().unwrap().contains("in process 4242"), "{text}");
        assert!(text.contains("2 of its processes still run"));
    }

    #[test]
    fn the_json_form_is_stable() {
        let text = Output::document(RUN_FORMAT, &document(&example::two_processes())).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let keys = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(
            keys(&value),
            "command duration_ms events exit_code format kernel policy processes sampling signal started_unix_s tiers"
        );
        assert_eq!((&value["exit_code"], &value["signal"]), (&serde_json::Value::Null, &11.into()));
        assert_eq!(
            keys(&value["tiers"][0]),
            "allocations committed committed_max fallbacks frees kind limit live live_max name quarantined \
             returned unavailable"
        );
        assert_eq!(keys(&value["events"][0]), "at_ms bytes count kind pid processes text");
        assert_eq!(keys(&value["kernel"]), "last most pid");
        assert_eq!(keys(&value["kernel"]["most"]), "anonymous at_ms copied files tiers");
        assert_eq!(keys(&value["kernel"]["most"]["tiers"][0]), "name resident");
        assert_eq!(keys(&value["sampling"]), "failures interval_ms_max rounds");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(group_thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
