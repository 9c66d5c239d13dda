//! Instructions per malloc and free, counted by callgrind: exact, so that a gate in continuous integration can hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::child::{self, Outcome, stdout_path};
use super::measure::describe;
use super::rivals::Rival;

/// Orders in which the blocks of a batch are freed: random in batches of 256 (fast paths alone), then three orders in
/// batches of 16,384 (with the slow paths as they come).
pub const ORDERS: [&str; 4] = ["shallow", "lifo", "fifo", "random"];
/// Pairs of the shorter run: a multiple of the workload's batch, large enough for slow paths to weigh as they should.
const PAIRS: usize = 1 << 19;
/// How far a figure may rise over the checked-in one.
pub const GATE_TOLERANCE: f64 = 1.02;
const LIMIT: Duration = Duration::from_secs(300);

/// Instructions per pair, by order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PerPair(pub BTreeMap<String, f64>);

/// What callgrind counted for everyone.
#[derive(Debug, Default, Serialize)]
pub struct Counted {
    /// The measuring loop itself, without calls; part of every figure below.
    pub loop_alone: PerPair,
    /// By allocator, in column order.
    pub rivals: Vec<(String, PerPair)>,
    /// Allocators that failed, with the reason.
    pub failed: Vec<(String, String)>,
}

/// Counts for all `rivals`.
pub fn count(rivals: &[Rival], workload: &Path, scratch: &Path) -> Result<Counted, String> {
    let bare = Rival { name: "none".into(), origin: String::new(), preload: None, environment: vec![] };
    let mut counted = Counted::default();
    for order in ORDERS {
        let figure = per_pair(&bare, &format!("{order}-loop"), workload, scratch)?;
        counted.loop_alone.0.insert(order.into(), figure);
    }
    for rival in rivals {
        let mut figures = PerPair::default();
        for order in ORDERS {
            match per_pair(rival, order, workload, scratch) {
                Ok(figure) => drop(figures.0.insert(order.into(), figure)),
                Err(why) => counted.failed.push((format!("{} ({order})", rival.name), why)),
            }
        }
        eprintln!("{:14} {:?}", rival.name, figures.0);
        counted.rivals.push((rival.name.clone(), figures));
    }
    Ok(counted)
}

/// The difference between N and 2N pairs, divided by N: start-up and warm-up cancel.
fn per_pair(rival: &Rival, order: &str, workload: &Path, scratch: &Path) -> Result<f64, String> {
    let once = instructions(rival, order, PAIRS, workload, scratch)?;
    let twice = instructions(rival, order, 2 * PAIRS, workload, scratch)?;
    Ok((twice as f64 - once as f64) / PAIRS as f64)
}

fn instructions(rival: &Rival, order: &str, pairs: usize, workload: &Path, scratch: &Path) -> Result<u64, String> {
    let log = scratch.join("callgrind.log");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", &format!("--log-file={}", log.display())]);
    command.arg(workload).args(["pairs", &format!("order={order}"), &format!("ops={pairs}")]);
    let measured = child::run(rival.apply(&mut command), scratch, LIMIT)
        .map_err(|error| format!("valgrind does not start: {error}; `apt-get install valgrind`"))?;
    if measured.outcome != Outcome::Finished {
        return Err(describe(&measured));
    }
    let reported = std::fs::read_to_string(stdout_path(scratch)).unwrap_or_default();
    if !reported.contains(&format!("\"pairs\":{pairs}")) {
        return Err(format!("the workload reported `{}`", reported.trim()));
    }
    collected(&std::fs::read_to_string(&log).unwrap_or_default())
        .ok_or("callgrind reported no instruction count".into())
}

/// The count in callgrind's log: `==123== Collected : 456`.
fn collected(log: &str) -> Option<u64> {
    log.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}

/// Orders in which `measured` is more than [`GATE_TOLERANCE`] over `allowed`, or for which either has no figure.
pub fn gate(measured: &PerPair, allowed: &PerPair) -> Vec<String> {
    ORDERS
        .iter()
        .filter_map(|order| match (measured.0.get(*order), allowed.0.get(*order)) {
            (Some(now), Some(then)) if *now <= then * GATE_TOLERANCE => None,
            (Some(now), Some(then)) => Some(format!(
                "{order}: {now:.1} instructions per pair, {:+.1} % over the {then:.1} checked in",
                100.0 * (now / then - 1.0)
            )),
            (None, _) => Some(format!("{order}: not measured")),
            (_, None) => Some(format!("{order}: the gate file has no figure")),
        })
        .collect()
}

/// The table.
pub fn markdown(counted: &Counted) -> String {
    let mut text = String::from(
        "Instructions per malloc and free (callgrind, exact), with the measuring loop and, in brackets, without it.\n\n",
    );
    let _ = writeln!(text, "| | {} |\n|---|{}", ORDERS.join(" | "), "---|".repeat(ORDERS.len()));
    for (name, figures) in &counted.rivals {
        let entries = ORDERS.map(|order| {
            let (Some(gross), Some(own)) = (figures.0.get(order), counted.loop_alone.0.get(order)) else {
                return "failed".to_owned();
            };
            format!("{gross:.1} ({:.1})", gross - own)
        });
        let _ = writeln!(text, "| {name} | {} |", entries.join(" | "));
    }
    for (name, why) in &counted.failed {
        let _ = writeln!(text, "\n- {name}: {why}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(lifo: f64) -> PerPair {
        PerPair(ORDERS.iter().map(|order| ((*order).into(), if *order == "lifo" { lifo } else { 50.0 })).collect())
    }

    #[test]
    fn the_gate_lets_two_per_cent_pass_and_no_more() {
        assert_eq!(gate(&figures(45.8), &figures(45.0)), Vec::<String>::new());
        assert_eq!(gate(&figures(30.0), &figures(45.0)), Vec::<String>::new());
        assert_eq!(gate(&figures(46.0), &figures(45.0)).len(), 1);
        assert_eq!(gate(&PerPair::default(), &figures(45.0)).len(), ORDERS.len(), "nothing measured is no pass");
        assert_eq!(gate(&figures(45.0), &PerPair::default()).len(), ORDERS.len());
    }

    #[test]
    fn the_count_is_found_in_the_log() {
        assert_eq!(collected("==1== Events    : Ir\n==1== Collected : 123456\n"), Some(123_456));
        assert_eq!(collected("==1== nothing"), None);
    }
}
