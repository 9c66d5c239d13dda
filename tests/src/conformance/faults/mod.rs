//! What every tier promises when things go wrong: the second half of the contract, as code.
//!
//! Each check puts a fault in force around a tier of its own and looks at what the tier's users see: the typed error that
//! the interface names, at the place where it belongs; nothing else lost, by checksums over everything else that is held;
//! bad space set aside until it is repaired; and a tier that goes on working as far as it can. No check may end in a panic
//! or a signal.

mod passing;
mod poison;
mod storm;
mod witness;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tiermem_tiers::Provider;
use tiermem_tiers::provider::fault::{Clock, Faulty, Script};

use super::tools::failed;
use super::{Outcome, Report};

/// The tier under test.
pub struct Subject<'a> {
    /// Opens it afresh, with at least 16 MiB.
    pub open: &'a dyn Fn() -> Box<dyn Provider>,
    /// Goes around the faulty tier; gives it as it is, except in the suite's own negative controls.
    pub around: &'a dyn Fn(Faulty) -> Box<dyn Provider>,
}

type Check = (&'static str, fn(&Subject<'_>) -> Outcome);

const CHECKS: [Check; 11] = [
    ("poison-is-typed-and-local", poison::typed_and_local),
    ("poisoned-space-is-set-aside", poison::set_aside),
    ("repaired-space-comes-back", poison::repaired),
    ("removed-is-gone-and-returns-empty", passing::removed),
    ("link-down-loses-nothing", passing::link_down),
    ("reset-loses-contexts-only", passing::reset),
    ("shrunk-is-full", passing::shrunk),
    ("full-passes", passing::full),
    ("io-error-is-typed-and-passes", passing::io_error),
    ("storm-of-everything", storm::everything),
    ("storm-repeats-by-its-seed", storm::repeats),
];

impl Subject<'_> {
    fn under(&self, script: &str) -> Result<Box<dyn Provider>, String> {
        let script: Script = script.parse().map_err(failed("the check's own script"))?;
        let faulty = Faulty::new((self.open)(), &script, Clock::Virtual).map_err(failed("wrapping the tier"))?;
        Ok((self.around)(faulty))
    }
}

/// Runs all checks.
pub fn run(subject: &Subject<'_>, report: &mut Report<'_>) {
    for (name, check) in CHECKS {
        report(name, without_panic(check, subject));
    }
}

/// Runs one check; `None` if there is none of this name.
pub fn check(subject: &Subject<'_>, name: &str) -> Option<Outcome> {
    CHECKS.iter().find(|(known, _)| *known == name).map(|(_, check)| without_panic(*check, subject))
}

fn without_panic(check: fn(&Subject<'_>) -> Outcome, subject: &Subject<'_>) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| check(subject))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
        Err(format!("it panics: {text}"))
    })
}
