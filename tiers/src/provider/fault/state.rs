//! Which faults have come, and what they have done to the extents that are held.

use super::hand::Hand;
use super::script::{Fault, FaultKind, Grain, LINE, Lasts, Script, Trigger};
use crate::{Bytes, Extent, GRANULE, TierName};

/// Poisoned places at the same time, and entries of the log; further ones are counted as missed.
pub(super) const PLACES_MAX: usize = 1024;

/// A fault that has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Happened {
    /// The operation that it came with; the last one before it, if time brought it.
    pub operation: u64,
    /// When, nanoseconds of the tier's clock.
    pub at_ns: u64,
    /// What.
    pub kind: FaultKind,
    /// Poison: start of the granule in its tier and the first byte in it.
    pub place: Option<(u64, u64)>,
}

/// A granule that somebody holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granule {
    /// What it is found by: its address, or on tiers without addresses its offset.
    key: u64,
    /// Its offset in the tier.
    pub offset: u64,
    /// 0 where the tier is not addressable.
    pub address: usize,
    /// The how-manieth extent it belongs to, and which granule of it.
    number: u32,
    index: u32,
    /// The device that it was on went away.
    lost: bool,
}

/// Bytes of a granule that cannot be read.
#[derive(Clone, Copy, Debug)]
struct Poisoned {
    key: u64,
    from: u64,
    len: u64,
}

#[derive(Clone, Copy, Debug)]
struct Armed {
    fault: Fault,
    fired: u32,
    until: Option<Until>,
}

#[derive(Clone, Copy, Debug)]
enum Until {
    Forever,
    Operation(u64),
    Time(u64),
}

/// What is in force.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InForce {
    pub gone: bool,
    pub full: bool,
    pub no_reads: bool,
    pub no_writes: bool,
    pub capacity: Option<Bytes>,
    pub factor: Option<f64>,
}

/// All of it has its room from the start: nothing here allocates later.
#[derive(Debug)]
pub(super) struct State {
    random: Random,
    operation: u64,
    armed: Box<[Armed]>,
    held: Vec<Granule>,
    /// Extents handed out so far.
    handed_out: u32,
    poisoned: Vec<Poisoned>,
    link_is_down: bool,
    pub happened: Vec<Happened>,
    pub missed: u64,
}

/// What [`State::held`] answers about a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    Sound,
    /// The device went away with it.
    Lost,
    /// From this byte of the extent on it cannot be read.
    Poisoned(u64),
}

impl State {
    pub(super) fn new(script: &Script, tier: TierName, granules: usize) -> Self {
        let own = script.faults.iter().filter(|fault| fault.tier.is_none_or(|name| name == tier));
        Self {
            random: Random(script.seed ^ 0x9e37_79b9_7f4a_7c15),
            operation: 0,
            armed: own.map(|&fault| Armed { fault, fired: 0, until: None }).collect(),
            held: Vec::with_capacity(granules),
            handed_out: 0,
            poisoned: Vec::with_capacity(PLACES_MAX),
            link_is_down: false,
            happened: Vec::with_capacity(PLACES_MAX),
            missed: 0,
        }
    }

    /// Whether time alone can still bring or end something.
    pub(super) fn waits_for_time(&self) -> bool {
        self.armed.iter().any(|armed| {
            let comes = matches!(armed.fault.trigger, Trigger::AtTime(_)) && armed.fired < armed.fault.times;
            comes || matches!(armed.until, Some(Until::Time(_)))
        })
    }

    /// One more operation.
    pub(super) fn operate(&mut self, now: u64, hand: &Hand<'_>) -> InForce {
        self.operation += 1;
        self.bring(now, true, hand)
    }

    /// Brings what is due, and says what is in force then.
    pub(super) fn bring(&mut self, now: u64, is_operation: bool, hand: &Hand<'_>) -> InForce {
        for i in 0..self.armed.len() {
            let Armed { fault, fired, .. } = self.armed[i];
            let due = match fault.trigger {
                Trigger::AtOperation(operation) => self.operation >= operation,
                Trigger::AtTime(at) => now >= at,
                // Drawn even if it has come often enough: other faults' draws must not depend on it.
                Trigger::Probability(p) => is_operation && self.random.unit() < p,
            };
            if due && fired < fault.times {
                self.come(i, now, hand);
            }
        }
        let mut sum = InForce::default();
        let mut link_is_down = false;
        for armed in &mut self.armed {
            let over = match armed.until {
                None => true,
                Some(Until::Forever) => false,
                Some(Until::Operation(end)) => self.operation >= end,
                Some(Until::Time(end)) => now >= end,
            };
            if over {
                armed.until = None;
                continue;
            }
            match armed.fault.kind {
                FaultKind::Remove | FaultKind::Reset => sum.gone = true,
                FaultKind::LinkDown => (sum.gone, link_is_down) = (true, true),
                FaultKind::Shrink { to } => sum.capacity = Some(sum.capacity.map_or(to, |least| least.min(to))),
                FaultKind::Slow { factor } => sum.factor = Some(sum.factor.unwrap_or(1.0) * factor),
                FaultKind::Full => sum.full = true,
                FaultKind::IoError { reads, writes } => {
                    sum.no_reads |= reads;
                    sum.no_writes |= writes;
                }
                FaultKind::Poison { .. } | FaultKind::Crash => {}
            }
        }
        if link_is_down != self.link_is_down {
            self.link_is_down = link_is_down;
            self.held.iter().filter(|granule| !granule.lost).for_each(|granule| hand.link(granule, link_is_down));
            if !link_is_down {
                self.poison_again(hand, |_| true);
            }
        }
        sum
    }

    fn come(&mut self, i: usize, now: u64, hand: &Hand<'_>) {
        let fault = self.armed[i].fault;
        let mut place = None;
        match fault.kind {
            FaultKind::Poison { extent, offset, grain } => match self.poison(extent, offset, grain, hand) {
                Aim::Hit(granule, from) => place = Some((granule, from)),
                Aim::NotYet => return,
                Aim::Missed => self.missed += 1,
            },
            FaultKind::Remove | FaultKind::Reset => {
                self.held.iter_mut().for_each(|granule| granule.lost = true);
                self.held.iter().for_each(|granule| hand.take_away(granule));
            }
            FaultKind::Crash => hand.crash(),
            _ => {}
        }
        let armed = &mut self.armed[i];
        armed.fired += 1;
        armed.until = Some(match fault.lasts {
            Lasts::Forever => Until::Forever,
            Lasts::Operations(count) => Until::Operation(self.operation.saturating_add(count)),
            Lasts::Time(ns) => Until::Time(now.saturating_add(ns)),
        });
        if self.happened.len() < PLACES_MAX {
            self.happened.push(Happened { operation: self.operation, at_ns: now, kind: fault.kind, place });
        } else {
            self.missed += 1;
        }
    }

    fn poison(&mut self, extent: Option<u32>, offset: Option<u64>, grain: Grain, hand: &Hand<'_>) -> Aim {
        if self.poisoned.len() == PLACES_MAX {
            return Aim::Missed;
        }
        let grain_len = match grain {
            Grain::Line => LINE,
            Grain::OsPage => hand.os_page_size(),
        };
        let index = offset.map_or(0, |offset| offset / GRANULE.0);
        let found = match extent {
            Some(number) if number >= self.handed_out => return Aim::NotYet,
            Some(number) => {
                self.held.iter().position(|g| g.number == number && (offset.is_none() || u64::from(g.index) == index))
            }
            None if self.held.is_empty() => return Aim::NotYet,
            None => Some(self.random.below(self.held.len() as u64) as usize),
        };
        let any = self.random.below(GRANULE.0 / grain_len) * grain_len;
        let from = offset.map_or(any, |offset| offset % GRANULE.0 / grain_len * grain_len);
        let Some(granule) = found.map(|at| self.held[at]) else { return Aim::Missed };
        self.poisoned.push(Poisoned { key: granule.key, from, len: grain_len });
        hand.report(&granule, from);
        if grain == Grain::OsPage && !granule.lost && !self.link_is_down {
            hand.poison(&granule, from);
        }
        Aim::Hit(granule.offset, from)
    }

    /// Makes the poisoned OS pages of some granules unreadable again, where a fresh mapping has covered that up.
    pub(super) fn poison_again(&self, hand: &Hand<'_>, of: impl Fn(u64) -> bool) {
        for granule in self.held.iter().filter(|granule| of(granule.key)) {
            if granule.lost {
                hand.take_away(granule);
                continue;
            }
            let own = self.poisoned.iter().filter(|poisoned| poisoned.key == granule.key);
            own.filter(|poisoned| poisoned.len >= hand.os_page_size()).for_each(|p| hand.poison(granule, p.from));
        }
    }

    /// Enters a new extent. False if there is no room for more; cannot be, as long as the tier hands out what it has.
    pub(super) fn enter(&mut self, extent: &Extent) -> bool {
        let granules = (extent.len().0 / GRANULE.0) as usize;
        if self.held.capacity() - self.held.len() < granules {
            return false;
        }
        let number = self.handed_out;
        self.handed_out = number.wrapping_add(1);
        for index in 0..granules as u64 {
            let address = address_of(extent, index);
            let offset = extent.offset() + index * GRANULE.0;
            let key = key_of(extent, index);
            self.held.push(Granule { key, offset, address, number, index: index as u32, lost: false });
        }
        true
    }

    /// Removes an extent, or the part of one.
    pub(super) fn remove(&mut self, extent: &Extent) {
        for index in 0..extent.len().0 / GRANULE.0 {
            let key = key_of(extent, index);
            if let Some(at) = self.held.iter().position(|granule| granule.key == key) {
                self.held.swap_remove(at);
            }
            self.poisoned.retain(|poisoned| poisoned.key != key);
        }
    }

    /// What can be said about `offset .. offset + len` of an extent.
    pub(super) fn look(&self, extent: &Extent, offset: u64, len: u64) -> Range {
        let mut first = None;
        let end = offset.saturating_add(len);
        for index in offset / GRANULE.0..end.div_ceil(GRANULE.0) {
            let key = key_of(extent, index);
            if self.held.iter().any(|granule| granule.key == key && granule.lost) {
                return Range::Lost;
            }
            for poisoned in self.poisoned.iter().filter(|poisoned| poisoned.key == key) {
                let start = index * GRANULE.0 + poisoned.from;
                if start < end && offset < start + poisoned.len {
                    let at = start.max(offset);
                    first = Some(first.map_or(at, |least: u64| least.min(at)));
                }
            }
        }
        first.map_or(Range::Sound, Range::Poisoned)
    }

    /// Whether nothing new should be placed in the extent: a part of it is poisoned, lost, or out of reach.
    pub(super) fn is_bad(&self, extent: &Extent) -> bool {
        self.link_is_down || self.look(extent, 0, extent.len().0) != Range::Sound
    }

    pub(super) const fn has_poison(&self) -> bool {
        !self.poisoned.is_empty()
    }
}

enum Aim {
    Hit(u64, u64),
    /// There is nothing to hit yet.
    NotYet,
    /// What was to be hit is gone.
    Missed,
}

fn address_of(extent: &Extent, index: u64) -> usize {
    extent.address().map_or(0, |at| at.as_ptr().addr() + (index * GRANULE.0) as usize)
}

pub(super) fn key_of(extent: &Extent, index: u64) -> u64 {
    match address_of(extent, index) {
        0 => extent.offset() + index * GRANULE.0,
        address => address as u64,
    }
}

/// Repeatable random numbers: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// From 0 to just below 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
