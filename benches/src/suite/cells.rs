//! The cells of the table: a workload with its amounts, or a real program with its input.

use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::child::{self, Measured, Outcome};
use super::programs::Program;
use super::redis::Redis;
use super::rivals::Rival;
use crate::workload::peak_resident_bytes;

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

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Name in tables and filters.
    pub name: String,
    /// Whether several threads allocate.
    pub multi_threaded: bool,
    /// What to run.
    pub work: Work,
    /// A run that takes longer is killed.
    pub limit: Duration,
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

/// `(name, arguments, multi-threaded, amount)`: the amount is `ops` at full scale; 0 leaves the workload's default.
type Row = (&'static str, &'static str, bool, usize);

const ROWS: [Row; 16] = [
    ("server", "server", true, 40_000_000),
    ("producer-consumer", "producer-consumer", true, 8_000_000),
    ("fifo", "fifo", true, 32_000_000),
    ("graph", "graph", true, 2_400_000),
    ("churn", "churn", true, 48_000_000),
    ("large", "large", true, 20_000),
    ("realloc", "realloc", true, 4_000_000),
    ("cache-scratch", "cache-scratch", true, 1_500_000),
    ("cache-thrash", "cache-thrash", true, 1_500_000),
    ("compiler", "compiler", true, 24_000_000),
    ("thread-churn", "thread-churn", true, 16_000),
    ("churn-1", "churn threads=1", false, 24_000_000),
    ("fragmentation", "fragmentation", false, 2),
    ("kv-100k", "kv live=100000", false, 12_000_000),
    ("kv-10m", "kv live=10000000", false, 5_000_000),
    ("memory-return", "memory-return", false, 4_000_000),
];

const LIMIT: Duration = Duration::from_secs(300);

/// Our workloads on `threads` threads. `quick` does an eighth of the work.
pub fn workloads(threads: usize, quick: bool) -> Vec<Cell> {
    let cell = |(name, line, multi_threaded, ops): Row| {
        let mut arguments: Vec<String> = line.split(' ').map(String::from).collect();
        if multi_threaded {
            arguments.push(format!("threads={threads}"));
        }
        arguments.push(format!("ops={}", if quick { (ops / 8).max(1) } else { ops }));
        if quick && name == "kv-10m" {
            arguments[1] = "live=1000000".into();
        }
        Cell { name: name.to_owned(), multi_threaded, work: Work::Workload(arguments), limit: LIMIT }
    };
    ROWS.map(cell).into()
}

impl Cell {
    /// A row for a real program.
    pub fn program(name: &str, multi_threaded: bool, work: Work) -> Self {
        Self { name: name.to_owned(), multi_threaded, work, limit: LIMIT }
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
    fn every_row_names_a_workload_and_every_workload_but_pairs_has_a_row() {
        let rows: Vec<&str> = ROWS.iter().map(|row| row.1.split(' ').next().unwrap_or_default()).collect();
        assert!(rows.iter().all(|name| workload::find(name).is_some()), "{rows:?}");
        let missing: Vec<&str> =
            workload::WORKLOADS.iter().map(|workload| workload.name).filter(|name| !rows.contains(name)).collect();
        assert_eq!(missing, ["pairs"]);
    }
}
