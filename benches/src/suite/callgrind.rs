//! Counting the instructions of a workload with callgrind.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::child::{self, Outcome, stdout_path};
use super::measure::describe;
use super::rivals::Rival;

const LIMIT: Duration = Duration::from_secs(300);

/// Instructions for each of `amount` units of the workload that `arguments` name: the difference between runs of one and
/// of two times the amount, divided by it, so that start-up and warm-up cancel. The workload must report what it did as
/// `"reported":N`.
pub fn per_unit(
    rival: &Rival,
    arguments: &[&str],
    (amount, reported): (usize, &str),
    workload: &Path,
    scratch: &Path,
) -> Result<f64, String> {
    let count = |amount: usize| -> Result<u64, String> {
        let mut all: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        all.push(format!("ops={amount}"));
        instructions(rival, &all, &format!("\"{reported}\":{amount}"), workload, scratch)
    };
    let (once, twice) = (count(amount)?, count(2 * amount)?);
    Ok((twice as f64 - once as f64) / amount as f64)
}

fn instructions(
    rival: &Rival,
    arguments: &[String],
    expected: &str,
    workload: &Path,
    scratch: &Path,
) -> Result<u64, String> {
    let log = scratch.join("callgrind.log");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", &format!("--log-file={}", log.display())]);
    command.arg(workload).args(arguments);
    let measured = child::run(rival.apply(&mut command), scratch, LIMIT)
        .map_err(|error| format!("valgrind does not start: {error}; `apt-get install valgrind`"))?;
    if measured.outcome != Outcome::Finished {
        return Err(describe(&measured));
    }
    let reported = std::fs::read_to_string(stdout_path(scratch)).unwrap_or_default();
    if !reported.contains(expected) {
        return Err(format!("the workload reported `{}`, not {expected}", reported.trim()));
    }
    collected(&std::fs::read_to_string(&log).unwrap_or_default())
        .ok_or("callgrind reported no instruction count".into())
}

/// The count in callgrind's log: `==123== Collected : 456`.
fn collected(log: &str) -> Option<u64> {
    log.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_the_log() {
        assert_eq!(collected("==1== Events    : Ir\n==1== Collected : 123456\n"), Some(123_456));
        assert_eq!(collected("==1== nothing"), None);
    }
}
