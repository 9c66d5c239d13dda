//! The cells of the table: a workload with its amounts, or a real program with its input.

use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::child::{self, Measured, Outcome};
use super::programs::Program;
use super::redis::Redis;
use super::rivals::Rival;
use crate::workload::{MEASURED_CPU_S, peak_resident_bytes};

/// What a cell runs.
#[derive(Clone, Debug)]
pub enum Work {
    /// One of our workloads, with these arguments.
    Workload(Vec<String>),
    /// A real program.
    Program(Program),
    /// A redis server under our own load.
    Redis(Redis),
}

/// What a cell's figures are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Work in which one thread allocates.
    Single,
    /// Work in which several threads allocate.
    Multi,
    /// A question with an answer of its own, in the workload's report; its CPU time and memory are in no mean.
    Question,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Name in tables and filters.
    pub name: String,
    /// What its figures are for.
    pub kind: Kind,
    /// What to run.
    pub work: Work,
    /// A run that takes longer is killed.
    pub limit: Duration,
    /// It is run in so many rounds at most: questions idle for long, and their answers scatter little.
    pub rounds_max: usize,
}

/// One run of one allocator on one cell.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its cost.
    pub measured: Measured,
    /// What the workload reported.
    pub report: Value,
    /// Hash of a program's output, the same for every allocator.
    pub output: Option<u64>,
}

/// `(name, arguments, kind, amount, quick)`: the amount is `ops` at full scale, 0 leaves the workload's default; `quick`
/// are further arguments of the quick run.
type Row = (&'static str, &'static str, Kind, usize, &'static str);

const ROWS: [Row; 24] = [
    ("server", "server", Kind::Multi, 40_000_000, ""),
    ("producer-consumer", "producer-consumer", Kind::Multi, 8_000_000, ""),
    ("fifo", "fifo", Kind::Multi, 32_000_000, ""),
    ("graph", "graph", Kind::Multi, 2_400_000, ""),
    ("churn", "churn", Kind::Multi, 48_000_000, ""),
    ("large", "large", Kind::Multi, 20_000, ""),
    ("realloc", "realloc", Kind::Multi, 4_000_000, ""),
    ("cache-scratch", "cache-scratch", Kind::Multi, 1_500_000, ""),
    ("cache-thrash", "cache-thrash", Kind::Multi, 1_500_000, ""),
    ("compiler", "compiler", Kind::Multi, 24_000_000, ""),
    ("thread-churn", "thread-churn", Kind::Multi, 16_000, ""),
    ("churn-1", "churn threads=1", Kind::Single, 24_000_000, ""),
    ("fragmentation", "fragmentation", Kind::Single, 2, ""),
    ("kv-100k", "kv live=100000", Kind::Single, 12_000_000, ""),
    ("kv-10m", "kv live=10000000", Kind::Single, 5_000_000, "live=1000000"),
    ("live-churn", "live-churn", Kind::Single, 32_000_000, ""),
    ("live-churn-10m", "live-churn live=10000000", Kind::Single, 8_000_000, "live=1000000"),
    // Closest to the measurement that the target for churn comes from.
    ("live-churn-wide", "live-churn sizes=uniform bytes_max=2048", Kind::Single, 12_000_000, ""),
    ("working-set", "working-set", Kind::Single, 8_000_000, "live=256"),
    ("memory-return", "memory-return", Kind::Single, 4_000_000, ""),
    ("thread-cycle", "thread-cycle", Kind::Question, 48_000, ""),
    ("fragmentation-clustered", "shifting cluster=1024", Kind::Question, 1, "live=64"),
    ("fragmentation-adversarial", "shifting cluster=1", Kind::Question, 1, "live=64"),
    ("idle-cost", "idle-cost", Kind::Question, 0, "live=128"),
];
/// Workloads that are no cells of this table, because they have tables of their own.
#[cfg(test)]
const ELSEWHERE: [&str; 2] = ["hinted", "pairs"];

const LIMIT: Duration = Duration::from_secs(300);
const QUESTION_ROUNDS: usize = 3;

/// Our workloads on `threads` threads. `quick` does an eighth of the work.
pub fn workloads(threads: usize, quick: bool) -> Vec<Cell> {
    let cell = |(name, line, kind, ops, smaller): Row| {
        let mut arguments: Vec<String> = line.split(' ').map(String::from).collect();
        if kind == Kind::Multi {
            arguments.push(format!("threads={threads}"));
        }
        if ops > 0 {
            arguments.push(format!("ops={}", if quick { (ops / 8).max(1) } else { ops }));
        }
        if quick {
            // A later argument of the same name counts.
            arguments.extend(smaller.split_whitespace().map(String::from));
        }
        Cell::new(name, kind, Work::Workload(arguments))
    };
    ROWS.map(cell).into()
}

impl Cell {
    /// A row.
    pub fn new(name: &str, kind: Kind, work: Work) -> Self {
        let rounds_max = if kind == Kind::Question { QUESTION_ROUNDS } else { usize::MAX };
        Self { name: name.to_owned(), kind, work, limit: LIMIT, rounds_max }
    }

    /// Runs it once on `rival`; `workload` is our workload program.
    pub fn run(&self, rival: &Rival, workload: &Path, scratch: &Path) -> std::io::Result<Run> {
        match &self.work {
            Work::Workload(arguments) => {
                let mut measured =
                    child::run(rival.apply(Command::new(workload).args(arguments)), scratch, self.limit)?;
                let report = report_of(scratch);
                if let Some(peak) = report["peak_rss_bytes"].as_u64() {
                    measured.rss_max_bytes = peak;
                }
                if let Some(counting) = report[MEASURED_CPU_S].as_f64() {
                    (measured.user_s, measured.system_s) = (counting, 0.0);
                }
                Ok(Run { measured, report, output: None })
            }
            Work::Program(program) => {
                let mut command = program.command();
                let measured = child::run(rival.apply(&mut command), scratch, self.limit)?;
                warn_if_masked(&self.name, &measured);
                let finished = measured.outcome == Outcome::Finished;
                let output = if finished { Some(hash_of(&child::stdout_path(scratch))?) } else { None };
                Ok(Run { measured, report: Value::Null, output })
            }
            Work::Redis(redis) => {
                let measured = redis.run(rival, scratch, self.limit)?;
                warn_if_masked(&self.name, &measured);
                Ok(Run { measured, report: Value::Null, output: None })
            }
        }
    }
}

/// Says so when a peak may be the runner's own.
fn warn_if_masked(cell: &str, measured: &Measured) {
    let own = peak_resident_bytes();
    if measured.rss_max_bytes <= own {
        eprintln!("{cell}: peak memory is not above the runner's own {} MiB, so it says nothing", own >> 20);
    }
}

fn report_of(scratch: &Path) -> Value {
    let text = std::fs::read(child::stdout_path(scratch)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or(Value::Null)
}

/// FNV-1a of a file: enough to tell outputs apart. Read in pieces: the kernel counts a parent's peak memory into its
/// children's `ru_maxrss`, so the runner must stay small.
fn hash_of(path: &Path) -> std::io::Result<u64> {
    let mut file = std::fs::File::open(path)?;
    let (mut hash, mut piece) = (0xcbf2_9ce4_8422_2325, [0u8; 1 << 14]);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(hash);
        }
        let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        hash = piece[..read].iter().fold(hash, fold);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload;

    #[test]
    fn every_row_names_a_workload_and_every_workload_has_a_row_or_a_table() {
        let rows: Vec<&str> = ROWS.iter().map(|row| row.1.split(' ').next().unwrap_or_default()).collect();
        assert!(rows.iter().all(|name| workload::find(name).is_some()), "{rows:?}");
        let missing = |name: &&str| !rows.contains(name) && !ELSEWHERE.contains(name);
        let missing: Vec<&str> = workload::WORKLOADS.iter().map(|workload| workload.name).filter(missing).collect();
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn a_quick_run_does_less() {
        let arguments = |quick| {
            let cells = workloads(2, quick);
            let cell = cells.into_iter().find(|cell| cell.name == "kv-10m").expect("there is such a cell");
            let Work::Workload(arguments) = cell.work else { panic!("it is a workload") };
            workload::Parameters::parse(arguments.into_iter().skip(1)).expect("well-formed")
        };
        assert_eq!((arguments(false).number("live", 0), arguments(false).number("ops", 0)), (10_000_000, 5_000_000));
        assert_eq!((arguments(true).number("live", 0), arguments(true).number("ops", 0)), (1_000_000, 625_000));
    }
}
