//! What is to go wrong, when, and for how long; and its form on one line, for an environment variable.
//!
//! ```text
//! SCRIPT = PART { ";" PART }
//! PART   = "seed=" NUMBER | KIND { " " KEY "=" VALUE }
//! KIND   = "poison" | "remove" | "link-down" | "shrink" | "slow" | "full" | "io-error" | "reset" | "crash"
//! KEY    = "tier" (all, if left out)
//!        | "at-op" | "at-ns" | "probability"           when; exactly one
//!        | "for-ops" | "for-ns"                        for how long; for ever, if left out
//!        | "times"                                     how often; 1, or with "probability" as often as it comes
//!        | "extent" | "offset" | "grain"               poison: which extent, where in it, `os-page` or `line`
//!        | "to"                                        shrink: bytes
//!        | "factor"                                    slow: by how much
//!        | "on"                                        io-error: `read`, `write` or `both`
//! ```

use std::fmt;
use std::str::FromStr;

use crate::{Bytes, TierName};

/// Bytes of a cache line: the least that devices poison (CXL 3.1, section 8.2.10.9.4: media poison in units of 64 bytes).
pub const LINE: u64 = 64;

/// A list of faults and the seed of everything random in them: the same script and the same operations give the same
/// faults.
///
/// ```
/// use tiermem_tiers::provider::fault::Script;
/// let text = "seed=7;poison tier=slow at-op=3 extent=0 offset=4096 grain=line";
/// let script: Script = text.parse()?;
/// assert_eq!((script.seed, script.faults.len(), script.to_string()), (7, 1, text.to_owned()));
/// # Ok::<(), tiermem_tiers::provider::fault::ScriptError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// Decides what a fault leaves open (which extent, where in it) and what has a probability.
    pub seed: u64,
    /// The faults.
    pub faults: Vec<Fault>,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// The tier; `None` for every tier that the script is given to, each for itself.
    pub tier: Option<TierName>,
    /// What.
    pub kind: FaultKind,
    /// When.
    pub trigger: Trigger,
    /// For how long.
    pub lasts: Lasts,
    /// How often at most.
    pub times: u32,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum FaultKind {
    /// Memory becomes unreadable, until it is [repaired](crate::Provider::repair). What was there is lost.
    Poison {
        /// The how-manieth extent that the tier has handed out, from 0; `None` for one that is held, by the seed.
        extent: Option<u32>,
        /// Byte within the extent, rounded down to the grain; `None` for any, by the seed.
        offset: Option<u64>,
        /// How much.
        grain: Grain,
    },
    /// The device is removed. When it returns, it is empty: extents from before stay lost until they are released.
    Remove,
    /// The link is down. When it is up again, all is as before.
    LinkDown,
    /// The tier has only this much from now on. What is held stays.
    Shrink {
        /// The new capacity.
        to: Bytes,
    },
    /// The device is slower. Models ask for the factor; nothing else changes.
    Slow {
        /// By how much, at least 1.
        factor: f64,
    },
    /// Nothing more can be reserved.
    Full,
    /// Reads and writes through the provider fail with `EIO`.
    IoError {
        /// Reads do.
        reads: bool,
        /// Writes do.
        writes: bool,
    },
    /// The device is reset: what it held is lost as by a removal, and it is there again at once, empty.
    Reset,
    /// The host stops: the process is killed at once (`SIGKILL`), with nothing flushed, closed or given back.
    Crash,
}

/// How much is poisoned at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grain {
    /// An OS page: also loads and stores get a SIGBUS, because that is how much a kernel takes out of service.
    #[default]
    OsPage,
    /// A [`LINE`]: only what goes through the provider sees it.
    Line,
}

/// When a fault comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trigger {
    /// With this operation (reserve, release, read, write) on the tier, counted from 1; before it is carried out.
    AtOperation(u64),
    /// At this time, nanoseconds: virtual, or since the tier was opened.
    AtTime(u64),
    /// With each operation, with this probability.
    Probability(f64),
}

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// For ever.
    Forever,
    /// For this many operations, the one that it comes with included.
    Operations(u64),
    /// For this long, nanoseconds.
    Time(u64),
}

impl FaultKind {
    /// Its word in a script and in a plan.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Poison { .. } => "poison",
            Self::Remove => "remove",
            Self::LinkDown => "link-down",
            Self::Shrink { .. } => "shrink",
            Self::Slow { .. } => "slow",
            Self::Full => "full",
            Self::IoError { .. } => "io-error",
            Self::Reset => "reset",
            Self::Crash => "crash",
        }
    }
}

impl Grain {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OsPage => "os-page",
            Self::Line => "line",
        }
    }
}

impl Script {
    /// Whether anything in it is for this tier.
    pub fn concerns(&self, tier: TierName) -> bool {
        self.faults.iter().any(|fault| fault.tier.is_none_or(|name| name == tier))
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed={}", self.seed)?;
        self.faults.iter().try_for_each(|fault| write!(f, ";{fault}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        if let Some(tier) = self.tier {
            write!(f, " tier={tier}")?;
        }
        match self.trigger {
            Trigger::AtOperation(operation) => write!(f, " at-op={operation}")?,
            Trigger::AtTime(ns) => write!(f, " at-ns={ns}")?,
            Trigger::Probability(p) => write!(f, " probability={p}")?,
        }
        match self.lasts {
            Lasts::Forever => {}
            Lasts::Operations(count) => write!(f, " for-ops={count}")?,
            Lasts::Time(ns) => write!(f, " for-ns={ns}")?,
        }
        if self.times != times_default(self.trigger) {
            write!(f, " times={}", self.times)?;
        }
        match self.kind {
            FaultKind::Poison { extent, offset, grain } => {
                extent.map_or(Ok(()), |number| write!(f, " extent={number}"))?;
                offset.map_or(Ok(()), |offset| write!(f, " offset={offset}"))?;
                write!(f, " grain={}", grain.as_str())
            }
            FaultKind::Shrink { to } => write!(f, " to={}", to.0),
            FaultKind::Slow { factor } => write!(f, " factor={factor}"),
            FaultKind::IoError { reads, writes } => {
                let on = ["none", "read", "write", "both"][usize::from(reads) + 2 * usize::from(writes)];
                write!(f, " on={on}")
            }
            _ => Ok(()),
        }
    }
}

/// How often a fault comes if nothing is said.
pub const fn times_default(trigger: Trigger) -> u32 {
    match trigger {
        Trigger::Probability(_) => u32::MAX,
        _ => 1,
    }
}

/// How long a fault lasts if nothing is said.
pub const fn lasts_default(kind: FaultKind) -> Lasts {
    match kind {
        FaultKind::Reset => Lasts::Operations(0),
        _ => Lasts::Forever,
    }
}

/// What is wrong with a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    part: String,
    reason: &'static str,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}; `tierctl fault PLAN.toml --script` writes what is wanted here", self.part, self.reason)
    }
}

impl std::error::Error for ScriptError {}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let mut script = Self::default();
        for part in parts(text) {
            match part.map_err(|PartError { part, reason }| ScriptError { part: part.to_owned(), reason })? {
                Part::Seed(seed) => script.seed = seed,
                Part::Fault(fault) => script.faults.push(fault),
            }
        }
        Ok(script)
    }
}

/// A part of a script.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Seed(u64),
    Fault(Fault),
}

/// A part that is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartError<'a> {
    pub part: &'a str,
    pub reason: &'static str,
}

/// The parts of a script, read one after the other; nothing is allocated.
pub(super) fn parts(text: &str) -> impl Iterator<Item = Result<Part, PartError<'_>>> {
    text.split(';').map(str::trim).filter(|part| !part.is_empty()).map(|part| {
        let read = match part.strip_prefix("seed=") {
            Some(seed) => seed.parse().map(Part::Seed).map_err(|_| "a seed is a whole number"),
            None => fault(part).map(Part::Fault),
        };
        read.map_err(|reason| PartError { part, reason })
    })
}

fn number<T: FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| "not a number, or not one that fits")
}

fn fault(part: &str) -> Result<Fault, &'static str> {
    let mut words = part.split_whitespace();
    let mut kind = bare_kind(words.next().unwrap_or_default())?;
    let (mut tier, mut trigger, mut lasts, mut times) = (None, None, None, None);
    for word in words {
        let (key, value) = word.split_once('=').ok_or("what follows the kind is KEY=VALUE")?;
        match (key, &mut kind) {
            ("tier", _) => tier = Some(TierName::new(value).ok_or("not the name of a tier")?),
            ("at-op", _) => trigger = Some(Trigger::AtOperation(number(value)?)),
            ("at-ns", _) => trigger = Some(Trigger::AtTime(number(value)?)),
            ("probability", _) => trigger = Some(Trigger::Probability(number(value)?)),
            ("for-ops", _) => lasts = Some(Lasts::Operations(number(value)?)),
            ("for-ns", _) => lasts = Some(Lasts::Time(number(value)?)),
            ("times", _) => times = Some(number(value)?),
            ("extent", FaultKind::Poison { extent, .. }) => *extent = Some(number(value)?),
            ("offset", FaultKind::Poison { offset, .. }) => *offset = Some(number(value)?),
            ("grain", FaultKind::Poison { grain, .. }) => {
                let known = [Grain::OsPage, Grain::Line].into_iter().find(|grain| grain.as_str() == value);
                *grain = known.ok_or("a grain is `os-page` or `line`")?;
            }
            ("to", FaultKind::Shrink { to }) => to.0 = number(value)?,
            ("factor", FaultKind::Slow { factor }) => *factor = number(value)?,
            ("on", FaultKind::IoError { reads, writes }) => {
                (*reads, *writes) = match value {
                    "read" => (true, false),
                    "write" => (false, true),
                    "both" => (true, true),
                    _ => return Err("`on` is `read`, `write` or `both`"),
                }
            }
            _ => return Err("unknown key for this kind of fault"),
        }
    }
    let trigger = trigger.ok_or("it does not say when: `at-op`, `at-ns` or `probability`")?;
    let lasts = lasts.unwrap_or(lasts_default(kind));
    Ok(Fault { tier, kind, trigger, lasts, times: times.unwrap_or(times_default(trigger)) })
}

/// A kind with nothing said about it.
fn bare_kind(word: &str) -> Result<FaultKind, &'static str> {
    let all = [
        FaultKind::Poison { extent: None, offset: None, grain: Grain::OsPage },
        FaultKind::Remove,
        FaultKind::LinkDown,
        FaultKind::Shrink { to: Bytes::ZERO },
        FaultKind::Slow { factor: 1.0 },
        FaultKind::Full,
        FaultKind::IoError { reads: true, writes: true },
        FaultKind::Reset,
        FaultKind::Crash,
    ];
    all.into_iter().find(|kind| kind.as_str() == word).ok_or("unknown kind of fault")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let text = "seed=9;poison tier=slow at-op=3 extent=0 offset=4096 grain=line;remove at-ns=7 for-ops=5;\
                    link-down probability=0.25 for-ns=12 times=3;shrink at-op=1 to=4194304;slow at-op=2 factor=2.5;\
                    full at-op=4;io-error at-op=5 on=write;reset at-op=6 for-ops=0;crash at-op=8";
        let script: Script = text.parse().unwrap();
        assert_eq!(script.to_string(), text);
        assert_eq!(script.faults[7].lasts, Lasts::Operations(0), "a reset device is there again at once");
        assert!(script.concerns(TierName::new("fast").unwrap()));
        let one: Script = "full tier=a at-op=1".parse().unwrap();
        assert!(one.concerns(TierName::new("a").unwrap()) && !one.concerns(TierName::new("b").unwrap()));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("melt at-op=1", "unknown kind"),
            ("poison", "does not say when"),
            ("poison at-op=x", "not a number"),
            ("full at-op=1 to=3", "unknown key"),
            ("full at-op=1 tier=9", "name of a tier"),
            ("seed=-1", "whole number"),
            ("poison at-op=1 grain=bit", "os-page"),
            ("full now", "KEY=VALUE"),
        ] {
            let error = text.parse::<Script>().unwrap_err().to_string();
            assert!(error.contains(word) && error.contains(text), "{error}");
        }
    }
}
