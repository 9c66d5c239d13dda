//! Killing a real program at each of its persist points in turn.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use super::Crash;

const SIGKILL: i32 = 9;

/// A program that has so many persist points does not end.
const POINTS_MAX: u64 = 100_000;

/// What a sweep has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Persist points of the program.
    pub points: u64,
    /// Crashes: one for each point, seed and kind.
    pub crashes: u64,
}

/// Runs a program again and again, and lets it crash at its first persist point, at its second one and so on, until it ends by
/// itself; at each with every one of `seeds`, whole lines first and then with a torn one. After each crash (and at the
/// end, with `None`) `check` looks at what is left.
///
/// `prepare` makes the program's files as they are to be at its start, and gives the command. The program opens its
/// [`Durable`](super::Durable) with [`Crash::from_environment`].
///
/// # Errors
/// What `check` says, with the crash that led to it, which repeats it; or that the program failed in another way.
pub fn at_every_point(
    seeds: &[u64],
    mut prepare: impl FnMut() -> Command,
    mut check: impl FnMut(Option<Crash>) -> Result<(), String>,
) -> Result<Sweep, String> {
    let mut sweep = Sweep::default();
    for point in 1..=POINTS_MAX {
        for (&seed, torn) in seeds.iter().flat_map(|seed| [(seed, false), (seed, true)]) {
            let crash = Crash { point, seed, torn };
            let output = prepare().env(Crash::VARIABLE, crash.to_string()).output();
            let output = output.map_err(|error| format!("starting the program: {error}"))?;
            if output.status.success() {
                // It has no such point: it is through.
                check(None).map_err(|error| format!("without a crash: {error}"))?;
                return Ok(sweep);
            }
            if output.status.signal() != Some(SIGKILL) {
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(format!("at {crash} the program failed by itself ({}): {said}", output.status));
            }
            check(Some(crash)).map_err(|error| format!("{error} (to repeat: {}={crash})", Crash::VARIABLE))?;
            sweep.crashes += 1;
        }
        sweep.points = point;
    }
    Err(format!("the program has not ended after {POINTS_MAX} persist points"))
}
