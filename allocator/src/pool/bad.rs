//! Extents of which a part is bad: poisoned, or lost with the device that they were on.
//!
//! Nothing new is placed in one. What the program holds there stays where it is, because nobody but the program can say what
//! is to become of it; what is free is withheld; and when all of it is, the tier gets the extent back, and keeps it out of
//! use ([`Provider::quarantine`](tiermem_tiers::Provider::quarantine)).
//!
//! The links of free blocks lie in the blocks, so a free block in a bad OS page must not be touched either. Spans in bad extents
//! are therefore put to sleep until they are empty when their thread next comes to the slow path, and no mosaic is cut from
//! there. What a thread has lined up for its fast path before that is still given out.

use std::ptr::NonNull;

use tiermem_sys::sync::atomic::Ordering;
use tiermem_tiers::{Addressable, Bytes, Extent, Provenance};

use super::Pool;
use super::list::{ALL, Lists, pieces};
use crate::arena;
use crate::backing::Backing;
use crate::control::{self, EventKind};
use crate::flag::Flag;
use crate::geometry::EXTENT_SIZE;

/// Extents found at a time.
const BATCH: usize = 64;

/// Whether any extent was ever found bad: until then nobody need look at one.
static ANY: Flag = Flag::new();

/// Whether `address`, which is in a span, lies in a bad extent. A look without the pool's lock: who comes too early places
/// once more in it.
#[inline]
pub fn is_bad(address: usize) -> bool {
    ANY.is_up() && arena::extent(arena::index_of(address)).is_bad.load(Ordering::Relaxed)
}

impl Lists {
    /// Marks an extent as bad: its free units are withheld from now on, and those that are freed later.
    fn withhold(&mut self, index: usize) {
        let record = arena::extent(index);
        record.is_bad.store(true, Ordering::Relaxed);
        ANY.raise();
        let free = record.free.load(Ordering::Relaxed);
        self.take_units(index, free);
        record.withheld.store(free, Ordering::Relaxed);
    }

    /// Whether the extent at `index` is bad and none of its units is in use.
    fn is_wholly_withheld(index: usize) -> bool {
        arena::extent(index).withheld.load(Ordering::Relaxed) == ALL
    }
}

impl Pool {
    /// Withholds what has become bad since the last look.
    #[inline]
    pub(super) fn heed_bad(&self, lists: &mut Lists) {
        let Some(provider) = self.backing.provider() else { return };
        let events = provider.quarantine_events();
        // Relaxed: written under the pool's lock.
        if events != self.bad_seen.load(Ordering::Relaxed) {
            self.bad_seen.store(events, Ordering::Relaxed);
            self.withhold_bad(lists, provider);
        }
    }

    /// Looks now, without anything to take: takes the lock only if there is something new.
    #[inline]
    pub fn heed(&self) {
        if let Some(provider) = self.backing.provider()
            && provider.quarantine_events() != self.bad_seen.load(Ordering::Relaxed)
        {
            self.heed_bad(&mut self.lists.lock());
        }
    }

    #[cold]
    fn withhold_bad(&self, lists: &mut Lists, provider: &'static dyn Addressable) {
        crate::startup::tell_of_faults();
        loop {
            let (mut found, mut count) = ([0; BATCH], 0);
            lists.for_each(|index| {
                let is_new = !arena::extent(index).is_bad.load(Ordering::Relaxed);
                if count < BATCH && is_new && self.extent(index).is_some_and(|extent| provider.is_quarantined(&extent))
                {
                    found[count] = index;
                    count += 1;
                }
            });
            for &index in &found[..count] {
                lists.withhold(index);
                self.counters.quarantined.fetch_add(EXTENT_SIZE as u64, Ordering::Relaxed);
                control::event(EventKind::Quarantined, Some(self.tier.0), EXTENT_SIZE as u64);
                self.release_if_unused(lists, index);
            }
            if count < BATCH {
                return;
            }
        }
    }

    /// Gives those bad extents among the ones of a run back that are in nobody's use any more.
    #[cold]
    pub(super) fn let_bad_go(&self, lists: &mut Lists, start: usize, units: usize) {
        pieces(start, units).for_each(|(index, _)| self.release_if_unused(lists, index));
    }

    fn release_if_unused(&self, lists: &mut Lists, index: usize) {
        // Around a fork the tier takes nothing back; the extent then stays withheld.
        if Lists::is_wholly_withheld(index) && !crate::fork::is_under_way() {
            self.release(lists, index);
        }
    }

    /// The extent at `index`, which this pool holds; `None` for plain anonymous memory, which no provider knows.
    pub fn extent(&self, index: usize) -> Option<Extent> {
        let offset = arena::extent(index).offset.load(Ordering::Relaxed);
        let at = NonNull::new(arena::address_of(index));
        let len = Bytes(EXTENT_SIZE as u64);
        (offset < Backing::ANONYMOUS).then(|| Extent::from_parts(self.tier, offset, len, at, Provenance::Unknown))
    }
}
