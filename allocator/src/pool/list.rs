//! The extents of a pool, listed by their longest run of free units.

use tiermem_sys::sync::atomic::Ordering;
use tiermem_tiers::TierId;

use super::{Run, huge};
use crate::arena::{self, ExtentRecord};
use crate::geometry::{EXTENT_SIZE, UNIT_SHIFT, UNITS_PER_EXTENT};

/// Records are written under the pool's lock; statistics read them without. Neither needs an order.
const PLAIN: Ordering = Ordering::Relaxed;

/// All units of an extent.
pub(super) const ALL: u32 = u32::MAX;

/// How many fully free extents are looked at for a run of neighbours, at most.
const NEIGHBOURS_SEEN_MAX: usize = 64;

/// How many extents with dirty units are remembered.
const RECENT: usize = 8;

/// How tight a run shall lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// In the extent where it leaves the least.
    Tight,
    /// With room to grow, if there is some.
    Roomy,
}

/// The lists of one pool.
///
/// `heads[r]` is the first extent (index + 1; 0 for none) whose longest free run has `r` units; `heads[0]` lists the
/// full ones. `present` has bit `r` set if `heads[r]` is not empty.
pub(crate) struct Lists {
    heads: [u32; UNITS_PER_EXTENT + 1],
    present: u64,
    dirty_units: usize,
    idle_extents: usize,
    /// Extents (index + 1; 0 for none) in which units were freed last, the latest first: where memory that is resident
    /// already is looked for. An entry may be out of date.
    recent: [u32; RECENT],
}

impl Lists {
    pub(super) const fn new() -> Self {
        Self { heads: [0; UNITS_PER_EXTENT + 1], present: 0, dirty_units: 0, idle_extents: 0, recent: [0; RECENT] }
    }

    pub(super) const fn dirty_units(&self) -> usize {
        self.dirty_units
    }

    /// Extents without a single unit in use.
    pub(super) const fn idle_extents(&self) -> usize {
        self.idle_extents
    }

    /// Takes a run of `units` (at most one extent's). A single unit is taken where memory is resident still, because another
    /// one would add to what the process holds and cost a page fault for each OS page; for longer runs it matters more that
    /// no run is cut that a longer one would need.
    pub(super) fn take_run(&mut self, units: usize, fit: Fit, tier: TierId) -> Option<Run> {
        let room = if fit == Fit::Roomy { (units * 2).min(UNITS_PER_EXTENT) } else { units };
        let dirty = if units == 1 { self.find_dirty_unit(tier) } else { None };
        let (index, first) = dirty.or_else(|| self.find_tightest(room)).or_else(|| self.find_tightest(units))?;
        let zeroed = self.take_units(index, mask(first, units));
        Some(Run { start: arena::address_of(index).expose_provenance() + (first << UNIT_SHIFT), zeroed })
    }

    /// A dirty unit of the extent where some were freed last: the extent, and which one.
    fn find_dirty_unit(&self, tier: TierId) -> Option<(usize, usize)> {
        if self.dirty_units == 0 {
            return None;
        }
        self.recent.iter().find_map(|entry| {
            let index = entry.checked_sub(1)? as usize;
            let record = arena::extent(index);
            // An extent that the pool has given up may be another pool's by now.
            let dirty = if record.tier.load(PLAIN) == tier.0 + 1 { record.dirty.load(PLAIN) } else { 0 };
            (dirty != 0).then_some((index, dirty.trailing_zeros() as usize))
        })
    }

    /// A run in the extent where it fits tightest.
    fn find_tightest(&self, units: usize) -> Option<(usize, usize)> {
        let fitting = self.present >> units << units;
        if fitting == 0 {
            return None;
        }
        let index = self.heads[fitting.trailing_zeros() as usize].checked_sub(1)? as usize;
        let (first, _) = tightest_run(arena::extent(index).free.load(PLAIN), units)?;
        Some((index, first))
    }

    /// Takes the `units` units from `start` on, if they are all free and of this pool. `start` may be a place that no
    /// pool holds.
    pub(super) fn take_at(&mut self, start: usize, units: usize, tier: TierId) -> bool {
        let pieces = || pieces(start, units);
        let free = |(index, piece): (usize, u32)| {
            arena::extent_if_known(index)
                .is_some_and(|record| record.tier.load(PLAIN) == tier.0 + 1 && record.free.load(PLAIN) & piece == piece)
        };
        if !pieces().all(free) {
            return false;
        }
        for (index, piece) in pieces() {
            self.take_units(index, piece);
        }
        true
    }

    /// Takes `units` units from the start of neighbouring, fully free extents, the first at a multiple of `align` bytes.
    pub(super) fn take_extents(&mut self, units: usize, align: usize) -> Option<Run> {
        let count = units.div_ceil(UNITS_PER_EXTENT);
        let mut at = self.heads[UNITS_PER_EXTENT];
        for _ in 0..NEIGHBOURS_SEEN_MAX {
            let first = at.checked_sub(1)? as usize;
            let start = arena::address_of(first).expose_provenance();
            let tier = arena::extent(first).tier.load(PLAIN);
            if start.is_multiple_of(align) && (1..count).all(|i| is_free_of_tier(first + i, tier)) {
                return Some(self.take_front(first, units));
            }
            at = arena::extent(first).next.load(PLAIN);
        }
        None
    }

    /// Takes `units` units from the start of the extent at `first` on, which is fully free like those after it. What is
    /// left of the last one stays as it is, dirty or clean.
    pub(super) fn take_front(&mut self, first: usize, units: usize) -> Run {
        let mut zeroed = true;
        for (i, from) in (0..units).step_by(UNITS_PER_EXTENT).enumerate() {
            zeroed &= self.take_units(first + i, mask(0, units - from));
        }
        Run { start: arena::address_of(first).expose_provenance(), zeroed }
    }

    /// Takes units of an extent. True if all of them are clean.
    pub(super) fn take_units(&mut self, index: usize, units: u32) -> bool {
        let record = arena::extent(index);
        let dirty = record.dirty.load(PLAIN);
        self.dirty_units -= (dirty & units).count_ones() as usize;
        self.relist(index, |record| {
            record.free.store(record.free.load(PLAIN) & !units, PLAIN);
            record.dirty.store(dirty & !units, PLAIN);
        });
        dirty & units == 0
    }

    /// Frees `units` units from `start` on, which may cross extents.
    pub(super) fn free_units(&mut self, start: usize, units: usize, now: u32) {
        for (index, freed) in pieces(start, units) {
            let record = arena::extent(index);
            if record.is_bad.load(PLAIN) {
                record.withheld.store(record.withheld.load(PLAIN) | freed, PLAIN);
                continue;
            }
            self.relist(index, |record| {
                record.free.store(record.free.load(PLAIN) | freed, PLAIN);
                record.dirty.store(record.dirty.load(PLAIN) | freed, PLAIN);
                record.freed_at.store(now, PLAIN);
            });
            self.dirty_units += freed.count_ones() as usize;
            self.remember(index);
        }
    }

    /// Makes the extent the first one of those remembered.
    fn remember(&mut self, index: usize) {
        let entry = index as u32 + 1;
        let at = self.recent.iter().position(|&other| other == entry).unwrap_or(RECENT - 1);
        self.recent.copy_within(0..at, 1);
        self.recent[0] = entry;
    }

    /// Of a run that was taken for purging, gives it back as clean.
    pub(super) fn give_back_clean(&mut self, index: usize, units: u32) {
        let record = arena::extent(index);
        if record.is_bad.load(PLAIN) {
            record.withheld.store(record.withheld.load(PLAIN) | units, PLAIN);
            return;
        }
        self.relist(index, |record| record.free.store(record.free.load(PLAIN) | units, PLAIN));
    }

    /// Takes the dirty free units of an extent, for purging. Returns which.
    pub(super) fn take_dirty(&mut self, index: usize) -> u32 {
        let units = arena::extent(index).dirty.load(PLAIN);
        self.take_units(index, units);
        units
    }

    /// Enters a new extent, all of it free and clean.
    pub(super) fn adopt(&mut self, index: usize, tier: TierId, offset: u64) {
        let record = arena::extent(index);
        record.tier.store(tier.0 + 1, PLAIN);
        record.offset.store(offset, PLAIN);
        record.free.store(ALL, PLAIN);
        record.dirty.store(0, PLAIN);
        self.link(index, UNITS_PER_EXTENT);
    }

    /// Removes a fully free extent. Returns its offset in the tier.
    pub(super) fn disown(&mut self, index: usize) -> u64 {
        let record = arena::extent(index);
        self.dirty_units -= record.dirty.load(PLAIN).count_ones() as usize;
        self.unlink(index);
        record.tier.store(0, PLAIN);
        record.free.store(0, PLAIN);
        record.dirty.store(0, PLAIN);
        record.huge.store(huge::Backed::Ordinary as u8, PLAIN);
        record.withheld.store(0, PLAIN);
        record.is_bad.store(false, PLAIN);
        record.offset.load(PLAIN)
    }

    /// Calls `visit` with every extent. It may free or purge the one it is given.
    pub(super) fn for_each(&self, mut visit: impl FnMut(usize)) {
        for head in self.heads {
            let mut at = head;
            while let Some(index) = at.checked_sub(1) {
                at = arena::extent(index as usize).next.load(PLAIN);
                visit(index as usize);
            }
        }
    }

    /// Fills `found` with extents that have something to give back and had no unit freed since `before`: free extents,
    /// and, if parts can be purged, extents with dirty free units; few ones of a huge page only if none was freed since
    /// `patient`. Returns how many there are, at most its length.
    pub(super) fn find_idle(&self, before: u32, patient: u32, parts: bool, found: &mut [usize]) -> usize {
        let mut count = 0;
        for head in &self.heads[1..] {
            let mut at = *head;
            while let Some(index) = at.checked_sub(1) {
                if count == found.len() {
                    return count;
                }
                let record = arena::extent(index as usize);
                let free = record.free.load(PLAIN) == ALL;
                let waits = huge::keeps_parts(record, patient);
                if record.freed_at.load(PLAIN) < before && (free || parts && record.dirty.load(PLAIN) != 0 && !waits) {
                    found[count] = index as usize;
                    count += 1;
                }
                at = record.next.load(PLAIN);
            }
        }
        count
    }

    /// Whether all units of this extent, which the pool may have given back meanwhile, are free.
    pub(super) fn is_free(index: usize) -> bool {
        arena::extent(index).free.load(PLAIN) == ALL
    }

    /// Changes an extent's free units and moves it to the list where it then belongs.
    fn relist(&mut self, index: usize, change: impl FnOnce(&ExtentRecord)) {
        let record = arena::extent(index);
        let before = usize::from(record.run.load(PLAIN));
        change(record);
        let after = longest_run(record.free.load(PLAIN));
        if after != before {
            self.unlink(index);
            self.link(index, after);
        }
    }

    fn link(&mut self, index: usize, run: usize) {
        let record = arena::extent(index);
        let head = self.heads[run];
        record.run.store(run as u8, PLAIN);
        record.prev.store(0, PLAIN);
        record.next.store(head, PLAIN);
        if let Some(next) = head.checked_sub(1) {
            arena::extent(next as usize).prev.store(index as u32 + 1, PLAIN);
        }
        self.heads[run] = index as u32 + 1;
        self.present |= 1 << run;
        self.idle_extents += usize::from(run == UNITS_PER_EXTENT);
    }

    fn unlink(&mut self, index: usize) {
        let record = arena::extent(index);
        let (next, prev) = (record.next.load(PLAIN), record.prev.load(PLAIN));
        let run = usize::from(record.run.load(PLAIN));
        match prev.checked_sub(1) {
            Some(prev) => arena::extent(prev as usize).next.store(next, PLAIN),
            None => self.heads[run] = next,
        }
        if let Some(next) = next.checked_sub(1) {
            arena::extent(next as usize).prev.store(prev, PLAIN);
        }
        if self.heads[run] == 0 {
            self.present &= !(1 << run);
        }
        self.idle_extents -= usize::from(run == UNITS_PER_EXTENT);
    }
}

/// The units from `start` on, extent by extent: its index, and which of its units.
pub(super) fn pieces(start: usize, units: usize) -> impl Iterator<Item = (usize, u32)> {
    let index = arena::index_of(start);
    let offset = (start & (EXTENT_SIZE - 1)) >> UNIT_SHIFT;
    (0..(offset + units).div_ceil(UNITS_PER_EXTENT)).map(move |i| {
        let first = if i == 0 { offset } else { 0 };
        let end = (offset + units - i * UNITS_PER_EXTENT).min(UNITS_PER_EXTENT);
        (index + i, mask(first, end - first))
    })
}

/// Whether the place at `index` holds a fully free extent of `tier` (as in the record), whose pool's lock the caller has.
///
/// The record may be another pool's, or nobody's, and change meanwhile. But only this pool writes this value there, under
/// its lock, and it writes another one when it gives the extent up: where we read it, the record is the pool's own.
fn is_free_of_tier(index: usize, tier: u8) -> bool {
    arena::extent_if_known(index)
        .is_some_and(|record| record.tier.load(PLAIN) == tier && record.free.load(PLAIN) == ALL)
}

/// `count` bits from bit `first` on.
pub(super) fn mask(first: usize, count: usize) -> u32 {
    if count >= UNITS_PER_EXTENT { ALL } else { ((1 << count) - 1) << first }
}

/// The shortest run of at least `count` set bits, the first one of its length: where it starts, and its length.
fn tightest_run(mut bits: u32, count: usize) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize)> = None;
    while bits != 0 {
        let first = bits.trailing_zeros() as usize;
        let length = (bits >> first).trailing_ones() as usize;
        if length >= count && best.is_none_or(|(_, least)| length < least) {
            best = Some((first, length));
        }
        bits &= !mask(first, length);
    }
    best
}

/// The length of the longest run of set bits.
fn longest_run(bits: u32) -> usize {
    if bits == 0 {
        return 0;
    }
    // Bit i of the n-th: a run of 2ⁿ bits starts at i.
    let mut starts = [bits; 6];
    for n in 1..6 {
        starts[n] = starts[n - 1] & starts[n - 1] >> (1 << (n - 1));
    }
    // The length bit by bit, from the top: `at` has the starts of runs as long as found so far.
    let (mut length, mut at) = (0, u32::MAX);
    for n in (0..6).rev() {
        let longer = at & starts[n].checked_shr(length).unwrap_or(0);
        if longer != 0 {
            (length, at) = (length + (1 << n), longer);
        }
    }
    length as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runs_of(bits: u32) -> Vec<(usize, usize)> {
        let text = (0..32).map(|i| if bits >> i & 1 == 1 { '1' } else { '0' }).collect::<String>();
        let mut runs = Vec::new();
        let mut at = 0;
        for piece in text.split('0') {
            if !piece.is_empty() {
                runs.push((at, piece.len()));
            }
            at += piece.len() + 1;
        }
        runs
    }

    proptest! {
        #[test]
        fn runs_match_a_plain_search(bits: u32, count in 1usize..=32) {
            let runs = runs_of(bits);
            prop_assert_eq!(longest_run(bits), runs.iter().map(|r| r.1).max().unwrap_or(0));
            let tightest = runs.iter().filter(|r| r.1 >= count).min_by_key(|r| r.1).copied();
            prop_assert_eq!(tightest_run(bits, count), tightest);
        }
    }

    #[test]
    fn masks_cover_their_units() {
        assert_eq!(mask(0, 32), ALL);
        assert_eq!(mask(3, 2), 0b11000);
        assert_eq!(mask(31, 1), 1 << 31);
    }
}
