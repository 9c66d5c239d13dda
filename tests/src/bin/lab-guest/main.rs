//! `lab-guest CHECK ARGUMENTS…`: what the QEMU lab's tests look at inside a guest, one check a call, one line about it.
//! Exit code 0 if it holds, 1 if not, 2 for a wrong call. Buildable as one static binary
//! (`-C target-feature=+crt-static`).

#![expect(unsafe_code, reason = "the checks write to memory that they map, while it moves and breaks")]

mod bandwidth;
mod faults;
mod kept;
mod memory;
mod moving;
mod nodes;
mod pool;
mod reclaim;

use std::process::ExitCode;

/// What a check found, or why it does not hold.
type Outcome = Result<String, String>;

/// A check takes its arguments.
type Check = fn(&Arguments<'_>) -> Outcome;

const CHECKS: [(&str, &str, Check); 16] = [
    ("bandwidth", "SPEC…", bandwidth::beside_dram),
    ("lies-on", "NODE", nodes::lies_on),
    ("weighted", "NODE=WEIGHT…", nodes::weighted),
    ("move-pages", "NEAR FAR", moving::move_pages),
    ("mbind", "NEAR FAR", moving::mbind),
    ("lost-updates-are-seen", "", moving::lost_updates_are_seen),
    ("reclaim", "NEAR FAR", reclaim::demotes_and_promotes),
    ("increments", "DEVICE", pool::increments),
    ("keep", "FILE", kept::keep),
    ("kept", "FILE", kept::kept),
    ("stripes", "DEVICE MIB", kept::stripes),
    ("poisoned", "SPEC", faults::poisoned),
    ("poisoned-device", "SPEC", faults::poisoned_device),
    ("set-aside", "SPEC OFFSET GRANULES", faults::set_aside),
    ("removed", "SPEC DEVICE", faults::removed),
    ("break", "DEVICE OFFSET", faults::break_page),
];

/// A check's arguments.
struct Arguments<'a>(&'a [String]);

impl Arguments<'_> {
    fn text(&self, position: usize) -> Result<&str, String> {
        self.0.get(position).map(String::as_str).ok_or_else(|| format!("argument {} is missing", position + 1))
    }

    fn number<T: std::str::FromStr>(&self, position: usize) -> Result<T, String> {
        let text = self.text(position)?;
        text.parse().map_err(|_| format!("{text} is not a number that fits"))
    }
}

/// Turns anything that can be shown into the reason of a failure.
fn failed<E: std::fmt::Display>(doing: &str) -> impl Fn(E) -> String {
    move |error| format!("{doing}: {error}")
}

/// Fails with `why` unless `truth` holds.
fn ensure(truth: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if truth { Ok(()) } else { Err(why()) }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let known = words.split_first().and_then(|(name, rest)| Some((CHECKS.iter().find(|check| check.0 == name)?, rest)));
    let Some(((name, _, check), rest)) = known else {
        CHECKS.iter().for_each(|(name, arguments, _)| eprintln!("usage: lab-guest {name} {arguments}"));
        return ExitCode::from(2);
    };
    match check(&Arguments(rest)) {
        Ok(found) => println!("ok {name}: {found}"),
        Err(why) => {
            println!("not ok {name}: {why}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
