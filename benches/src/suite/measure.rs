//! The interleaved run: in each round every allocator does every cell, next to each other in time.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::cells::{Cell, Kind, Run};
use super::child::{Measured, Outcome};
use super::rivals::{Absent, Rival};
use super::statistics::Spread;

/// All runs of one allocator on one cell, in the order of the rounds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Series {
    /// One a round.
    pub runs: Vec<Measured>,
    /// What the workload reported, one a round, where it reports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<Value>,
}

impl Series {
    /// How the first run that did not finish ended.
    pub fn failure(&self) -> Option<&Measured> {
        self.runs.iter().find(|run| run.outcome != Outcome::Finished)
    }

    /// `figure` of each run, if all finished.
    pub fn figures(&self, figure: impl Fn(&Measured) -> f64) -> Option<Vec<f64>> {
        (!self.runs.is_empty() && self.failure().is_none()).then(|| self.runs.iter().map(figure).collect())
    }
}

/// One row: every allocator's series on a cell.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The cell's name.
    pub cell: String,
    /// What its figures are for.
    pub kind: Kind,
    /// By allocator.
    pub series: BTreeMap<String, Series>,
}

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct Results {
    /// The machine, in general words.
    pub machine: String,
    /// Rounds finished.
    pub rounds: usize,
    /// Those who took part, in column order.
    pub rivals: Vec<Rival>,
    /// Allocators that could not take part.
    pub absent: Vec<Absent>,
    /// Cells that could not run here, and why.
    pub missing_cells: Vec<Absent>,
    /// Cell by cell.
    pub rows: Vec<Row>,
}

impl Results {
    /// The rows whose CPU time and memory are compared: all but the questions.
    pub fn work(&self) -> impl DoubleEndedIterator<Item = &Row> {
        self.rows.iter().filter(|row| row.kind != Kind::Question)
    }

    /// What `rival` reported under `key` in the runs of `cell`.
    pub fn reported(&self, cell: &str, rival: &str, key: &str) -> Option<Spread> {
        let series = self.rows.iter().find(|row| row.cell == cell)?.series.get(rival)?;
        if series.failure().is_some() {
            return None;
        }
        let values: Vec<f64> = series.reports.iter().filter_map(|report| report[key].as_f64()).collect();
        Spread::of(&values)
    }
}

/// Empty rows for the cells.
pub fn rows(cells: &[Cell]) -> Vec<Row> {
    let row = |cell: &Cell| Row { cell: cell.name.clone(), kind: cell.kind, series: BTreeMap::new() };
    cells.iter().map(row).collect()
}

/// Runs round number `round` and adds it to `rows`. An allocator that failed a cell is not run on it again.
pub fn round(
    round: usize,
    cells: &[Cell],
    rivals: &[Rival],
    rows: &mut [Row],
    workload: &Path,
    scratch: &Path,
) -> std::io::Result<()> {
    for (cell, row) in cells.iter().zip(rows).filter(|(cell, _)| round < cell.rounds_max) {
        let mut expected = None;
        for turn in 0..rivals.len() {
            // Another first in each round, so that nobody always follows the same neighbour's heat.
            let rival = &rivals[(turn + round) % rivals.len()];
            let series = row.series.entry(rival.name.clone()).or_default();
            if series.failure().is_some() {
                continue;
            }
            let mut run = cell.run(rival, workload, scratch)?;
            check_output(&mut run, &mut expected);
            let (cpu_s, rss_mib) = (run.measured.cpu_s(), run.measured.rss_max_bytes >> 20);
            let failed = run.measured.outcome != Outcome::Finished;
            let ending = if failed { describe(&run.measured) } else { String::new() };
            eprintln!(
                "round {}: {:18} {:14} cpu {cpu_s:7.3} s, rss {rss_mib:5} MiB {ending}",
                round + 1,
                cell.name,
                rival.name
            );
            series.runs.push(run.measured);
            if !run.report.is_null() {
                series.reports.push(run.report);
            }
        }
    }
    Ok(())
}

/// A program must print the same on every allocator: the first that finished in the round sets what is expected.
fn check_output(run: &mut Run, expected: &mut Option<u64>) {
    let Some(output) = run.output else { return };
    if *expected.get_or_insert(output) != output {
        run.measured.outcome = Outcome::WrongOutput;
    }
}

/// How a run failed, in words.
pub fn describe(run: &Measured) -> String {
    let ending = match run.outcome {
        Outcome::Finished => "finished".to_owned(),
        Outcome::Exited(code) => format!("exit {code}"),
        Outcome::Signalled(6) => "aborted".to_owned(),
        Outcome::Signalled(11) => "segmentation fault".to_owned(),
        Outcome::Signalled(signal) => format!("signal {signal}"),
        Outcome::TimedOut => "timed out".to_owned(),
        Outcome::WrongOutput => "wrong output".to_owned(),
    };
    if run.stderr.is_empty() { ending } else { format!("{ending}: {}", run.stderr.lines().last().unwrap_or_default()) }
}

/// The machine in general words: processors, memory, kernel.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (cpuinfo, meminfo) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let virtual_machine = if cpuinfo.contains("hypervisor") { ", virtual" } else { "" };
    let kibibytes: f64 = meminfo.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    let kernel: String = release.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    format!("{processors} processors{virtual_machine}, {:.0} GiB, Linux {kernel}", kibibytes / 1048576.0)
}

/// The system's setting for transparent huge pages, such as `madvise`.
pub fn transparent_huge_pages() -> String {
    let text = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let chosen = text.split('[').nth(1).and_then(|rest| rest.split(']').next());
    chosen.unwrap_or("not supported by this kernel").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_output_than_the_first_is_a_failure() {
        let finished = Measured {
            outcome: Outcome::Finished,
            user_s: 1.0,
            system_s: 0.0,
            wall_s: 1.0,
            rss_max_bytes: 1,
            stderr: String::new(),
        };
        let run = |output| Run { measured: finished.clone(), report: Value::Null, output: Some(output) };
        let (mut first, mut same, mut other, mut expected) = (run(1), run(1), run(2), None);
        for run in [&mut first, &mut same, &mut other] {
            check_output(run, &mut expected);
        }
        assert_eq!(first.measured.outcome, Outcome::Finished);
        assert_eq!(same.measured.outcome, Outcome::Finished);
        assert_eq!(other.measured.outcome, Outcome::WrongOutput);
        let series = Series { runs: vec![first.measured, other.measured], reports: vec![] };
        assert_eq!(series.figures(Measured::cpu_s), None, "a failed series has no figures");
    }
}
