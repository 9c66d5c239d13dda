//! The choices of a run: what the hardware and the timing decide. Everything else follows from the program.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// What is being chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Who goes on, or what crashes; see the codes below.
    Next,
    /// Which version of a line a host gets: 0 the newest, 1 the one before, …
    Version,
    /// How many stores of another host's dirty line have been written back by now.
    WriteBack,
    /// Whether the host's own dirty line has left its cache by now: 1 for yes.
    Evict,
    /// How many stores of another host's buffer have become visible by now.
    Drain,
    /// How much of a line outlives a crash; see `AFTER_CRASH_…`.
    Survives,
    /// Whether the line turns out to be poisoned: 1 for yes.
    Poison,
    /// Whether an invalidated dirty line is written back (1) or dropped (0).
    Invalidate,
    /// A choice of the program's own ([`choose`](super::Host::choose)).
    Program,
}

/// [`Kind::Next`]: this host crashes.
pub(super) const CRASH: u8 = 0x40;
/// [`Kind::Next`]: power is lost.
pub(super) const POWER_LOSS: u8 = 0x80;
/// The host number of choices that belong to no host.
pub(super) const NOBODY: u8 = 0xFF;
/// Most options that a choice offers.
pub(super) const MAX_OPTIONS: usize = 16;

impl Kind {
    const ALL: [(Self, char); 9] = [
        (Self::Next, 's'),
        (Self::Version, 'v'),
        (Self::WriteBack, 'w'),
        (Self::Evict, 'e'),
        (Self::Drain, 'd'),
        (Self::Survives, 'c'),
        (Self::Poison, 'p'),
        (Self::Invalidate, 'i'),
        (Self::Program, 'u'),
    ];

    fn letter(self) -> char {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or('?', |&(_, letter)| letter)
    }
}

/// Names a choice so that the name keeps its meaning while others change: the operation of the host during which it
/// came up, and which of its kind there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) host: u8,
    pub(super) op: u32,
    pub(super) kind: Kind,
    pub(super) nth: u16,
}

/// A choice that was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) key: Key,
    options: [u8; MAX_OPTIONS],
    len: u8,
    /// The code that was taken.
    pub(super) taken: u8,
}

impl Chosen {
    /// What could have been taken, the usual first.
    pub(super) fn options(&self) -> &[u8] {
        &self.options[..usize::from(self.len)]
    }

    /// Whether it is not the usual.
    pub(super) fn deviates(&self) -> bool {
        self.taken != self.options[0]
    }
}

/// Who decides.
pub(super) trait Decide {
    /// Takes one of the options, of which the first is the usual; there are two at least. `position` counts the
    /// choices of the run.
    fn decide(&mut self, position: usize, key: Key, options: &[u8]) -> u8;

    /// Whether the run need not go on from this state, because another has.
    fn seen(&mut self, _position: usize, _state: u64) -> bool {
        false
    }
}

/// Follows a list, then the usual.
#[derive(Debug, Default)]
pub(super) struct Prefix(pub(super) Vec<u8>);

impl Decide for Prefix {
    fn decide(&mut self, position: usize, _key: Key, options: &[u8]) -> u8 {
        self.0.get(position).copied().filter(|code| options.contains(code)).unwrap_or(options[0])
    }
}

/// A schedule: where a run deviates from the usual. It prints as one line, and parses back from it.
///
/// ```
/// use tiermem_emulator::coherence::Schedule;
/// let schedule: Schedule = "v1 0.4s0=1 1.9v0=2".parse().unwrap();
/// assert_eq!(schedule.len(), 2);
/// assert_eq!(schedule.to_string(), "v1 0.4s0=1 1.9v0=2");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    pub(super) deviations: Vec<(Key, u8)>,
}

impl Schedule {
    /// How many deviations there are. The empty schedule is the run in which hosts take turns only when they wait, and
    /// caches behave as if they were coherent.
    pub fn len(&self) -> usize {
        self.deviations.len()
    }

    /// Whether nothing deviates.
    pub fn is_empty(&self) -> bool {
        self.deviations.is_empty()
    }

    pub(super) fn of(trace: &[Chosen]) -> Self {
        Self { deviations: trace.iter().filter(|c| c.deviates()).map(|c| (c.key, c.taken)).collect() }
    }
}

/// Follows a schedule.
#[derive(Debug)]
pub(super) struct Keyed(HashMap<Key, u8>);

impl Keyed {
    pub(super) fn new(schedule: &Schedule) -> Self {
        Self(schedule.deviations.iter().copied().collect())
    }
}

impl Decide for Keyed {
    fn decide(&mut self, _position: usize, key: Key, options: &[u8]) -> u8 {
        self.0.get(&key).copied().filter(|code| options.contains(code)).unwrap_or(options[0])
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("v1")?;
        for (key, code) in &self.deviations {
            let letter = key.kind.letter();
            match key.host {
                NOBODY => write!(f, " -.{}{letter}{}={code}", key.op, key.nth)?,
                host => write!(f, " {host}.{}{letter}{}={code}", key.op, key.nth)?,
            }
        }
        Ok(())
    }
}

/// A text that is no schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleError {
    /// The part that was not understood.
    pub part: String,
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\"{}\" is no part of a schedule: copy the whole line that the explorer printed, from \"v1\" on",
            self.part
        )
    }
}

impl std::error::Error for ScheduleError {}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let mut parts = text.split_whitespace();
        let version = parts.next().unwrap_or_default();
        if version != "v1" {
            return Err(ScheduleError { part: version.to_owned() });
        }
        let deviations = parts.map(|part| deviation(part).ok_or_else(|| ScheduleError { part: part.to_owned() }));
        Ok(Self { deviations: deviations.collect::<Result<_, _>>()? })
    }
}

fn deviation(part: &str) -> Option<(Key, u8)> {
    let (host, rest) = part.split_once('.')?;
    let at = rest.find(|c: char| c.is_ascii_alphabetic())?;
    let (op, rest) = rest.split_at(at);
    let mut rest = rest.chars();
    let letter = rest.next()?;
    let &(kind, _) = Kind::ALL.iter().find(|&&(_, l)| l == letter)?;
    let (nth, code) = rest.as_str().split_once('=')?;
    let host = if host == "-" { NOBODY } else { host.parse().ok()? };
    Some((Key { host, op: op.parse().ok()?, kind, nth: nth.parse().ok()? }, code.parse().ok()?))
}

/// The choices of a run, as they are made.
pub(super) struct Choices {
    pub(super) decider: Box<dyn Decide>,
    pub(super) trace: Vec<Chosen>,
    /// Whether the usual is taken without asking, until somebody makes progress.
    pub(super) calm: bool,
}

impl Choices {
    pub(super) fn new(decider: Box<dyn Decide>) -> Self {
        Self { decider, trace: Vec::new(), calm: false }
    }

    /// Lets the decider take one of `options`, the usual first.
    pub(super) fn choose(&mut self, host: u8, op: u32, kind: Kind, options: &[u8]) -> u8 {
        let options = &options[..options.len().min(MAX_OPTIONS)];
        if options.len() < 2 || self.calm {
            return options[0];
        }
        let nth = self.nth(host, op, kind);
        let key = Key { host, op, kind, nth };
        let taken = self.decider.decide(self.trace.len(), key, options);
        let mut stored = [0; MAX_OPTIONS];
        stored[..options.len()].copy_from_slice(options);
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_OPTIONS")]
        self.trace.push(Chosen { key, options: stored, len: options.len() as u8, taken });
        taken
    }

    /// Whether the run need not go on from this state.
    pub(super) fn seen(&mut self, state: u64) -> bool {
        !self.calm && self.decider.seen(self.trace.len(), state)
    }

    /// How many choices of this kind the operation has had before.
    fn nth(&self, host: u8, op: u32, kind: Kind) -> u16 {
        let same_op = |c: &&Chosen| c.key.host == host && c.key.op == op;
        let earlier = self.trace.iter().rev().take_while(same_op).find(|c| c.key.kind == kind);
        earlier.map_or(0, |c| c.key.nth + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_no_schedule() {
        for text in ["", "v2 0.1s0=1", "v1 0.1", "v1 x.1s0=1", "v1 0.1z0=1", "v1 0.1s0=999", "v1 0.s0=1"] {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.to_string().contains("from \"v1\" on"), "{text}: {error}");
        }
    }

    #[test]
    fn choices_of_one_operation_are_told_apart() {
        let mut choices = Choices::new(Box::new(Prefix(vec![1])));
        assert_eq!(choices.choose(0, 1, Kind::Version, &[0, 1]), 1);
        assert_eq!(choices.choose(0, 1, Kind::WriteBack, &[0, 1]), 0);
        choices.choose(0, 1, Kind::Version, &[0, 1]);
        choices.choose(0, 2, Kind::Version, &[0, 1]);
        let nths: Vec<u16> = choices.trace.iter().map(|c| c.key.nth).collect();
        assert_eq!(nths, [0, 0, 1, 0]);
        assert_eq!(Schedule::of(&choices.trace).to_string(), "v1 0.1v0=1");
    }

    #[test]
    fn a_single_option_is_no_choice() {
        let mut choices = Choices::new(Box::new(Prefix::default()));
        assert_eq!(choices.choose(0, 1, Kind::Next, &[7]), 7);
        assert!(choices.trace.is_empty());
    }
}
