//! Which faults have come, and what they have done to the extents that are held.

use super::armed::{InForce, Now, Plan};
use super::hand::Hand;
use super::kept::{FAULTS_MAX, Kept, News};
use super::script::{Fault, FaultKind, Grain, LINE, Script};
use crate::{Extent, GRANULE, TierName};

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

/// All of it has its room from the start: nothing here allocates later.
#[derive(Debug)]
pub(super) struct State {
    operation: u64,
    /// The script that the tier was opened with, and the one that is kept beside it.
    plans: [Plan; 2],
    kept: Option<Kept>,
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
    pub(super) fn new(script: &Script, tier: TierName, granules: usize, kept: Option<Kept>) -> Self {
        let room = if kept.is_some() { FAULTS_MAX } else { 0 };
        Self {
            operation: 0,
            plans: [Plan::new(script, tier), Plan::with_room(room)],
            kept,
            held: Vec::with_capacity(granules),
            handed_out: 0,
            poisoned: Vec::with_capacity(PLACES_MAX),
            link_is_down: false,
            happened: Vec::with_capacity(PLACES_MAX),
            missed: 0,
        }
    }

    /// Whether a script is kept beside the tier, empty or not.
    pub(super) const fn has_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Looks whether another script is kept beside the tier by now, and puts it in force.
    ///
    /// # Errors
    /// What is kept is damaged: why. Said once; the script before it stays in force.
    pub(super) fn heed_kept(&mut self, ns: u64) -> Result<(), &'static str> {
        let Some(kept) = &mut self.kept else { return Ok(()) };
        match kept.news() {
            News::None => Ok(()),
            News::Script(text) => self.plans[1].replace(text, Now { operation: self.operation, ns }),
            News::Damaged(why) => Err(why),
        }
    }

    /// Whether time alone can still bring or end something.
    pub(super) fn waits_for_time(&self) -> bool {
        self.plans.iter().any(Plan::waits_for_time)
    }

    /// One more operation.
    pub(super) fn operate(&mut self, ns: u64, hand: &Hand<'_>) -> InForce {
        self.operation += 1;
        self.bring(ns, true, hand)
    }

    /// Brings what is due, and says what is in force then.
    pub(super) fn bring(&mut self, ns: u64, is_operation: bool, hand: &Hand<'_>) -> InForce {
        let now = Now { operation: self.operation, ns };
        for plan in 0..self.plans.len() {
            for i in 0..self.plans[plan].len() {
                if let Some(fault) = self.plans[plan].due(i, now, is_operation)
                    && self.come(plan, fault, now, hand)
                {
                    self.plans[plan].has_come(i, now);
                }
            }
        }
        let mut sum = InForce::default();
        self.plans.iter_mut().for_each(|plan| plan.add_to(&mut sum, now));
        if sum.link_is_down != self.link_is_down {
            self.link_is_down = sum.link_is_down;
            self.held.iter().filter(|granule| !granule.lost).for_each(|granule| hand.link(granule, sum.link_is_down));
            if !sum.link_is_down {
                self.poison_again(hand, |_| true);
            }
        }
        sum
    }

    /// A fault comes; false if there is nothing yet that it could hit.
    fn come(&mut self, plan: usize, fault: Fault, now: Now, hand: &Hand<'_>) -> bool {
        let mut place = None;
        match fault.kind {
            FaultKind::Poison { extent, offset, grain } => match self.poison(plan, (extent, offset), grain, hand) {
                Aim::Hit(granule, from) => place = Some((granule, from)),
                Aim::NotYet => return false,
                Aim::Missed => self.missed += 1,
            },
            FaultKind::Remove | FaultKind::Reset => {
                self.held.iter_mut().for_each(|granule| granule.lost = true);
                self.held.iter().for_each(|granule| hand.take_away(granule));
            }
            FaultKind::Crash => hand.crash(),
            _ => {}
        }
        if self.happened.len() < PLACES_MAX {
            self.happened.push(Happened { operation: now.operation, at_ns: now.ns, kind: fault.kind, place });
        } else {
            self.missed += 1;
        }
        true
    }

    fn poison(
        &mut self,
        plan: usize,
        (extent, offset): (Option<u32>, Option<u64>),
        grain: Grain,
        hand: &Hand<'_>,
    ) -> Aim {
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
            None => Some(self.plans[plan].random.below(self.held.len() as u64) as usize),
        };
        let any = self.plans[plan].random.below(GRANULE.0 / grain_len) * grain_len;
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
