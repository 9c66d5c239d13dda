//! Which tests that start guests are to be run: `TIERMEM_LAB` says `off`, `short` or `full`; without it the short ones run where
//! [`fetch`](crate::fetch::fetch) has been.

use crate::cache::Cache;

/// Says which are wanted.
pub const VARIABLE: &str = "TIERMEM_LAB";

/// Which set a test is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// What every run of the tests looks at.
    Short,
    /// Everything else.
    Full,
}

/// What is to be done with a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It runs.
    Run,
    /// It does not, for this reason.
    Skip(String),
    /// It was asked for and cannot run.
    Fail(String),
}

/// The verdict about tests of this set, here and now.
pub fn verdict(set: Set) -> Verdict {
    let asked = std::env::var(VARIABLE).unwrap_or_default();
    decide(&asked, set, || Cache::of_user().and_then(|cache| cache.is_ready()).map_err(|error| error.to_string()))
}

fn decide(asked: &str, set: Set, ready: impl FnOnce() -> Result<(), String>) -> Verdict {
    match (asked, set) {
        ("off", _) => Verdict::Skip(format!("the QEMU lab is switched off ({VARIABLE}=off)")),
        ("short", Set::Short) | ("full", _) => match ready() {
            Ok(()) => Verdict::Run,
            Err(why) => Verdict::Fail(format!("{VARIABLE}={asked}, and {why}")),
        },
        ("", Set::Short) => ready().map_or_else(Verdict::Skip, |()| Verdict::Run),
        ("" | "short", Set::Full) => {
            Verdict::Skip("of the QEMU lab only the short set is run (`cargo xtask test --lab` runs all)".into())
        }
        _ => Verdict::Fail(format!("{VARIABLE}={asked}: off, short or full")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Set, Verdict, decide};

    #[test]
    fn what_is_asked_for_runs_or_fails_and_nothing_is_passed_over() {
        let with = |asked, set| decide(asked, set, || Ok(()));
        let without = |asked, set| decide(asked, set, || Err("nothing is here".into()));
        for (asked, set) in [("", Set::Short), ("short", Set::Short), ("full", Set::Short), ("full", Set::Full)] {
            assert_eq!(with(asked, set), Verdict::Run, "{asked} {set:?}");
        }
        for (asked, set) in [("", Set::Full), ("short", Set::Full), ("off", Set::Short), ("off", Set::Full)] {
            assert!(matches!(with(asked, set), Verdict::Skip(_)), "{asked} {set:?}");
        }
        assert_eq!(without("", Set::Short), Verdict::Skip("nothing is here".into()));
        for (asked, set) in [("short", Set::Short), ("full", Set::Short), ("full", Set::Full)] {
            assert_eq!(without(asked, set), Verdict::Fail(format!("TIERMEM_LAB={asked}, and nothing is here")));
        }
        assert!(matches!(with("al", Set::Short), Verdict::Fail(why) if why.contains("off, short or full")));
    }
}
