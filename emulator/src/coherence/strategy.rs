//! How the choices of runs are taken.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::str::FromStr;

use super::MAX_HOSTS;
use super::choice::{Chosen, Decide, Key, Kind};
use super::history::mix;
use crate::random::Random;

/// A way to go through the schedules of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// All schedules that deviate from the usual in up to so many places, fewest first (after delay-bounded scheduling;
    /// Emmi, Qadeer and Rakamarić, POPL 2011). What leads to a state that has been explored is skipped.
    Systematic {
        /// Most deviations.
        deviations: u32,
    },
    /// All schedules there are. For small scenarios without loops that wait.
    Exhaustive,
    /// Each choice by chance; how often something unusual is taken is chosen anew for each run.
    Random {
        /// How many.
        schedules: u64,
    },
    /// Hosts have random priorities that change at a few random points (probabilistic concurrency testing; Burckhardt
    /// et al., ASPLOS 2010); what caches do is chosen by chance.
    Pct {
        /// How many.
        schedules: u64,
        /// How many points, and one: the depth of bugs that are found with a known probability.
        depth: u32,
    },
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Systematic { deviations } => write!(f, "systematic, up to {deviations} deviations"),
            Self::Exhaustive => f.write_str("exhaustive"),
            Self::Random { schedules } => write!(f, "random, {schedules} schedules"),
            Self::Pct { schedules, depth } => write!(f, "pct, depth {depth}, {schedules} schedules"),
        }
    }
}

/// What a run of a random strategy can be repeated from. It prints as one word, and parses back from it.
///
/// ```
/// use tiermem_emulator::coherence::Seed;
/// let seed: Seed = "random:1f".parse().unwrap();
/// assert_eq!(seed.to_string(), "random:1f");
/// assert!("1f".parse::<Seed>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    pub(super) number: u64,
    /// Depth and expected length, for PCT.
    pub(super) pct: Option<(u32, u32)>,
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pct {
            None => write!(f, "random:{:x}", self.number),
            Some((depth, length)) => write!(f, "pct:{depth}:{length}:{:x}", self.number),
        }
    }
}

/// A text that is no seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedError(String);

impl fmt::Display for SeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is no seed: write it as the explorer printed it, as in random:1f or pct:3:40:1f", self.0)
    }
}

impl std::error::Error for SeedError {}

impl FromStr for Seed {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Self, SeedError> {
        let number = |word: &str| u64::from_str_radix(word, 16).ok();
        let parts: Vec<&str> = text.split(':').collect();
        let seed = match parts.as_slice() {
            ["random", word] => number(word).map(|number| Self { number, pct: None }),
            ["pct", depth, length, word] => match (depth.parse(), length.parse(), number(word)) {
                (Ok(depth), Ok(length), Some(number)) => Some(Self { number, pct: Some((depth, length)) }),
                _ => None,
            },
            _ => None,
        };
        seed.ok_or_else(|| SeedError(text.to_owned()))
    }
}

impl Seed {
    pub(super) fn decider(self) -> Box<dyn Decide> {
        match self.pct {
            None => Box::new(RandomWalk::new(self.number)),
            Some((depth, length)) => Box::new(Pct::new(self.number, depth, length)),
        }
    }
}

/// A hasher for keys that are hashes.
#[derive(Default)]
pub(super) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = mix(self.0, u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// States from which all has been explored, with how many deviations left (and one).
pub(super) type SeenStates = Rc<RefCell<HashMap<u64, u32, BuildHasherDefault<AsIs>>>>;

/// Follows a list, then the usual, until a state that others have been in.
pub(super) struct Frontier {
    prefix: Vec<u8>,
    budget: u32,
    seen: SeenStates,
}

impl Decide for Frontier {
    fn decide(&mut self, position: usize, _key: Key, options: &[u8]) -> u8 {
        match self.prefix.get(position) {
            Some(code) if options.contains(code) => *code,
            _ => options[0],
        }
    }

    fn seen(&mut self, position: usize, state: u64) -> bool {
        if position < self.prefix.len() {
            return false;
        }
        let mut seen = self.seen.borrow_mut();
        let known = seen.entry(state).or_insert(0);
        if *known > self.budget {
            return true;
        }
        *known = self.budget + 1;
        false
    }
}

/// Depth-first search over schedules with a number of deviations at most.
pub(super) struct Search {
    stack: Vec<(Vec<u8>, u32)>,
    seen: SeenStates,
    /// Whether something was left out for want of deviations.
    pub(super) cut: bool,
}

impl Search {
    pub(super) fn new(deviations: u32) -> Self {
        Self { stack: vec![(Vec::new(), deviations)], seen: SeenStates::default(), cut: false }
    }

    /// The next schedule to run: who decides, and what to hand back to [`branch`](Self::branch).
    pub(super) fn pop(&mut self) -> Option<(Box<dyn Decide>, usize, u32)> {
        let (prefix, budget) = self.stack.pop()?;
        let len = prefix.len();
        Some((Box::new(Frontier { prefix, budget, seen: Rc::clone(&self.seen) }), len, budget))
    }

    /// Queues what differs from a run in one more place.
    pub(super) fn branch(&mut self, trace: &[Chosen], prefix: usize, budget: u32) {
        let fresh = trace.get(prefix..).unwrap_or_default();
        if budget == 0 {
            self.cut |= !fresh.is_empty();
            return;
        }
        let codes: Vec<u8> = trace.iter().map(|chosen| chosen.taken).collect();
        for (index, chosen) in fresh.iter().enumerate().rev() {
            for &code in chosen.options().iter().skip(1).rev() {
                let mut next = Vec::with_capacity(prefix + index + 1);
                next.extend_from_slice(&codes[..prefix + index]);
                next.push(code);
                self.stack.push((next, budget - 1));
            }
        }
    }
}

/// One of `0..bound`, by chance.
fn pick(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).unwrap_or(0)
}

/// How often the unusual is taken, one in so many; chosen anew for each run.
struct Odds {
    switch: u64,
    caches: u64,
    /// Crashes, losses of power, poison.
    danger: u64,
}

const SWITCH: [u64; 4] = [2, 4, 8, 24];
const CACHES: [u64; 4] = [2, 4, 8, 24];
/// Long runs need rare crashes: others would end early, always.
const DANGER: [u64; 4] = [4, 16, 64, u64::MAX];

impl Odds {
    fn draw(random: &mut Random) -> Self {
        let [switch, caches, danger] = [SWITCH, CACHES, DANGER].map(|odds| odds[pick(random, odds.len())]);
        Self { switch, caches, danger }
    }

    /// What neither the strategy nor the danger decides.
    fn decide(&self, random: &mut Random, kind: Kind, options: &[u8]) -> u8 {
        let chance = match kind {
            Kind::Next => self.switch,
            Kind::Poison => self.danger,
            Kind::Program | Kind::Survives => 2,
            Kind::Version | Kind::WriteBack | Kind::Evict | Kind::Drain | Kind::Invalidate => self.caches,
        };
        if random.below(chance) != 0 {
            return options[0];
        }
        options.get(1 + pick(random, options.len().max(2) - 1)).copied().unwrap_or(options[0])
    }

    /// Who could go on, of what comes next; or what crashes instead.
    fn crash<'o>(&self, random: &mut Random, options: &'o [u8]) -> Result<&'o [u8], u8> {
        let hosts = options.iter().take_while(|&&code| usize::from(code) < MAX_HOSTS).count();
        let (hosts, crashes) = options.split_at(hosts);
        if !crashes.is_empty() && random.below(self.danger) == 0 {
            return Err(crashes[pick(random, crashes.len())]);
        }
        Ok(hosts)
    }
}

struct RandomWalk {
    random: Random,
    odds: Odds,
}

impl RandomWalk {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let odds = Odds::draw(&mut random);
        Self { random, odds }
    }
}

impl Decide for RandomWalk {
    fn decide(&mut self, _position: usize, key: Key, options: &[u8]) -> u8 {
        if key.kind != Kind::Next {
            return self.odds.decide(&mut self.random, key.kind, options);
        }
        match self.odds.crash(&mut self.random, options) {
            Ok(hosts) => self.odds.decide(&mut self.random, key.kind, hosts),
            Err(crash) => crash,
        }
    }
}

struct Pct {
    random: Random,
    odds: Odds,
    priorities: [u64; MAX_HOSTS],
    /// At which step of the run the host that is about to go on gets a low priority: the place in this list.
    changes: Vec<u32>,
    steps: u32,
}

/// Priorities before a change are above all others.
const HIGH: u64 = 1 << 32;

impl Pct {
    fn new(seed: u64, depth: u32, length: u32) -> Self {
        let mut random = Random::new(seed);
        let odds = Odds::draw(&mut random);
        let priorities = std::array::from_fn(|_| HIGH | random.next() >> 32);
        let mut point = || u32::try_from(random.below(u64::from(length.max(1)))).unwrap_or(0);
        let changes = (1..depth).map(|_| point()).collect();
        Self { random, odds, priorities, changes, steps: 0 }
    }
}

impl Decide for Pct {
    fn decide(&mut self, _position: usize, key: Key, options: &[u8]) -> u8 {
        if key.kind != Kind::Next {
            return self.odds.decide(&mut self.random, key.kind, options);
        }
        let hosts = match self.odds.crash(&mut self.random, options) {
            Ok(hosts) => hosts,
            Err(crash) => return crash,
        };
        let of = |pct: &Self, code: u8| pct.priorities[usize::from(code) % MAX_HOSTS];
        let first = |pct: &Self| hosts.iter().copied().max_by_key(|&code| of(pct, code)).unwrap_or(options[0]);
        if let Some(low) = self.changes.iter().position(|&step| step == self.steps) {
            let demoted = first(self);
            self.priorities[usize::from(demoted) % MAX_HOSTS] = low as u64;
        }
        self.steps += 1;
        first(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_print_and_parse() {
        for text in ["random:0", "random:ffffffffffffffff", "pct:3:40:1f"] {
            assert_eq!(text.parse::<Seed>().unwrap().to_string(), text);
        }
        for text in ["", "random", "random:x", "pct:1:2", "pct:a:2:3"] {
            assert!(text.parse::<Seed>().unwrap_err().to_string().contains("no seed"), "{text}");
        }
    }
}
