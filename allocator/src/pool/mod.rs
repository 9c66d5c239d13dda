//! One pool per tier: the extents that the process holds of the tier, cut into runs of units.
//!
//! Extents with free units wait in lists by the length of their longest free run, so that the smallest sufficient
//! run is found in a few steps and full extents are never looked at. Freed units keep their memory for a while
//! (`dirty`), because most are wanted again soon; the [purger](crate::purge) gives back what stayed free.

mod bad;
pub mod huge;
mod list;
mod purge;
#[cfg(test)]
mod tests;

use std::ptr::NonNull;

use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tiermem_tiers::{Addressable, Bytes, Error, ErrorKind, Extent, Provenance, TierId};

use crate::arena::{self, SPACE};
use crate::backing::Backing;
use crate::clock;
use crate::geometry::{EXTENT_SHIFT, EXTENT_SIZE, UNIT_SHIFT, UNIT_SIZE, UNITS_PER_EXTENT};
use list::Lists;

pub use bad::is_bad;
pub use list::Fit;

/// A run of units for the taker to use.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Address of the first unit.
    pub start: usize,
    /// Whether all of it is known to be zero.
    pub zeroed: bool,
}

/// Why there was no run.
#[derive(Clone, Copy, Debug)]
pub enum Refusal {
    /// The extents held have no such run, and the caller forbade taking more.
    NeedsGrowth,
    /// The tier's limit forbids taking more.
    Limit,
    /// The tier could not give more.
    Tier(Error),
    /// No address space is left.
    AddressSpace,
}

/// What a pool counts, for statistics and for the placement engine.
#[derive(Debug)]
pub struct Counters {
    /// Bytes in extents held.
    pub committed: AtomicU64,
    /// Highest `committed`.
    pub committed_max: AtomicU64,
    /// Bytes given back, to the OS or to the tier.
    pub returned: AtomicU64,
    /// The limit in bytes; `u64::MAX` for none.
    pub limit: AtomicU64,
    /// Size of the tier in bytes; `u64::MAX` where that is unknown.
    pub capacity: AtomicU64,
    /// When the tier failed to give an extent that its limit allowed, milliseconds; 0 if it did not.
    pub refused_at: AtomicU32,
    /// Bytes in extents of which a part was found bad so far.
    pub quarantined: AtomicU64,
}

/// A tier that could not give an extent is asked again after this long.
const RETRY_MS: u32 = 100;

impl Counters {
    /// Whether the tier failed lately to give an extent that its limit allowed.
    pub fn is_unavailable(&self) -> bool {
        // Relaxed: a hint; whoever asks too early is refused again.
        let refused_at = self.refused_at.load(Ordering::Relaxed);
        refused_at != 0 && clock::now_ms().wrapping_sub(refused_at) < RETRY_MS
    }
}

/// The pool of one tier.
pub struct Pool {
    tier: TierId,
    lists: Lock<Lists>,
    backing: Backing,
    /// What the provider's counter of bad places said when the extents were last looked at.
    bad_seen: AtomicU32,
    /// See [`Counters`].
    pub counters: Counters,
}

impl Pool {
    /// An empty pool.
    pub const fn new(tier: TierId) -> Self {
        Self {
            tier,
            lists: Lock::new(Lists::new()),
            backing: Backing::new(),
            bad_seen: AtomicU32::new(0),
            counters: Counters {
                committed: AtomicU64::new(0),
                committed_max: AtomicU64::new(0),
                returned: AtomicU64::new(0),
                limit: AtomicU64::new(u64::MAX),
                capacity: AtomicU64::new(u64::MAX),
                refused_at: AtomicU32::new(0),
                quarantined: AtomicU64::new(0),
            },
        }
    }

    /// Where the pool's extents come from.
    pub const fn backing(&self) -> &Backing {
        &self.backing
    }

    /// The lock, to be held across a fork.
    pub(crate) const fn lock(&self) -> &Lock<Lists> {
        &self.lists
    }

    /// Takes `units` neighbouring units, the first at a multiple of `align` bytes (at most one extent if fewer units
    /// than an extent has are wanted). Takes new extents from the tier only if `may_grow`.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn take(&self, units: usize, align: usize, may_grow: bool, fit: Fit, why: Provenance) -> Result<Run, Refusal> {
        let mut lists = self.lists.lock();
        self.heed_bad(&mut lists);
        let in_one = units <= UNITS_PER_EXTENT && align <= UNIT_SIZE;
        let held = if in_one { lists.take_run(units, fit, self.tier) } else { lists.take_extents(units, align) };
        if let Some(run) = held {
            return Ok(run);
        }
        if !may_grow {
            return Err(Refusal::NeedsGrowth);
        }
        let first = self.grow(&mut lists, units.div_ceil(UNITS_PER_EXTENT), align, why)?;
        Ok(lists.take_front(first, units))
    }

    /// Takes the `more` units that follow the `units` units from `start` on, which the caller holds. False if one of them
    /// is in use, or is not to be had.
    pub fn extend(&self, start: usize, units: usize, more: usize) -> bool {
        let mut lists = self.lists.lock();
        let end = start + (units << UNIT_SHIFT);
        if lists.take_at(end, more, self.tier) {
            return true;
        }
        // The rest of the last extent must be free, and the places behind it be nobody's.
        let rest = (end.next_multiple_of(EXTENT_SIZE) - end) >> UNIT_SHIFT;
        if more <= rest || !self.reserve_behind(&mut lists, end + (rest << UNIT_SHIFT), more - rest) {
            return false;
        }
        // What was reserved in vain is a free extent now, like any other.
        lists.take_at(end, more, self.tier)
    }

    /// Takes new extents from the tier at this very address, for `units` units.
    fn reserve_behind(&self, lists: &mut Lists, at: usize, units: usize) -> bool {
        let (first, count) = (arena::index_of(at), units.div_ceil(UNITS_PER_EXTENT));
        let bytes = (count as u64) << EXTENT_SHIFT;
        let committed = self.counters.committed.load(Ordering::Relaxed);
        if committed.saturating_add(bytes) > self.counters.limit.load(Ordering::Relaxed)
            || !SPACE.lock().take_at(first, count)
        {
            return false;
        }
        let reserved = self.reserve(lists, first, count, Provenance::Large).is_ok();
        if !reserved {
            SPACE.lock().give_back(first, count);
        }
        reserved
    }

    /// Takes new extents from the tier and puts them into the lists. Returns the first one's index.
    fn grow(&self, lists: &mut Lists, count: usize, align: usize, why: Provenance) -> Result<usize, Refusal> {
        let bytes = (count as u64) << EXTENT_SHIFT;
        let counters = &self.counters;
        // Relaxed throughout: written under this lock only; other readers want a figure, not an order.
        let committed = counters.committed.load(Ordering::Relaxed);
        if committed.saturating_add(bytes) > counters.limit.load(Ordering::Relaxed) {
            return Err(Refusal::Limit);
        }
        let start = SPACE.lock().take(count, align).ok_or(Refusal::AddressSpace)?;
        match self.reserve_in_pieces(lists, start, count, why) {
            Ok(()) => {
                counters.refused_at.store(0, Ordering::Relaxed);
                Ok(start)
            }
            Err((had, error)) => {
                for taken in start..start + had {
                    self.release(lists, taken);
                }
                SPACE.lock().give_back(start + had, count - had);
                // A tier that had no room for a large request may have it for a small one.
                if had == 0 && count == 1 {
                    counters.refused_at.store(clock::now_ms(), Ordering::Relaxed);
                }
                Err(Refusal::Tier(error))
            }
        }
    }

    /// Reserves in one call where the tier has the space in one piece; else extent by extent. On failure says how many
    /// extents were had.
    fn reserve_in_pieces(
        &self,
        lists: &mut Lists,
        start: usize,
        count: usize,
        why: Provenance,
    ) -> Result<(), (usize, Error)> {
        match self.reserve(lists, start, count, why) {
            // Anonymous memory has no pieces: the kernel's answer is about the whole.
            Err(_) if count > 1 && !self.backing.can_purge() => {
                (0..count).try_for_each(|i| self.reserve(lists, start + i, 1, why).map_err(|error| (i, error)))
            }
            whole => whole.map_err(|error| (0, error)),
        }
    }

    fn reserve(&self, lists: &mut Lists, start: usize, count: usize, why: Provenance) -> Result<(), Error> {
        let claim = SPACE.lock().claim(start).ok_or(Error::new(ErrorKind::OutOfRange))?;
        let reserved = self.backing.reserve(claim, Bytes((count as u64) << EXTENT_SHIFT), why)?;
        let ask = self.backing.can_purge() && huge::wanted(self.counters.committed.load(Ordering::Relaxed), why);
        for i in 0..count {
            if reserved.huge {
                huge::note_reserved(start + i);
            } else if ask {
                huge::ask(start + i);
            }
            lists.adopt(start + i, self.tier, reserved.offset + ((i as u64) << EXTENT_SHIFT));
        }
        let bytes = (count as u64) << EXTENT_SHIFT;
        let committed = self.counters.committed.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.counters.committed_max.fetch_max(committed, Ordering::Relaxed);
        Ok(())
    }

    /// Gives units back that [`Pool::take`] gave. Their memory stays for a while.
    pub fn give_back(&self, start: usize, units: usize, now: u32) {
        let mut lists = self.lists.lock();
        lists.free_units(start, units, now);
        if is_bad(start) || is_bad(start + ((units - 1) << UNIT_SHIFT)) {
            self.let_bad_go(&mut lists, start, units);
        }
    }

    /// Gives an extent, all of whose units are free and in no list, back to the tier.
    fn release(&self, lists: &mut Lists, index: usize) {
        let offset = lists.disown(index);
        let at = NonNull::new(arena::address_of(index));
        let len = Bytes(EXTENT_SIZE as u64);
        let extent = Extent::from_parts(self.tier, offset, len, at, Provenance::Unknown);
        self.counters.committed.fetch_sub(len.0, Ordering::Relaxed);
        if self.backing.release(extent).is_ok() {
            // A tier that could not give enough may have room again.
            self.counters.refused_at.store(0, Ordering::Relaxed);
            SPACE.lock().give_back(index, 1);
        }
        // Else the place stays taken for ever: what is mapped there is unknown.
    }

    /// Bytes that purging could give back in time: free units whose memory has not been given back, or, where a tier
    /// takes back whole extents only, those in extents that are free.
    pub fn returnable_bytes(&self) -> u64 {
        let lists = self.lists.lock();
        if self.backing.can_purge() {
            (lists.dirty_units() as u64) << UNIT_SHIFT
        } else {
            (lists.idle_extents() as u64) << EXTENT_SHIFT
        }
    }

    /// Extents without a single unit in use.
    pub fn idle_extents(&self) -> usize {
        self.lists.lock().idle_extents()
    }

    /// Calls `visit` with the index of every extent held.
    pub fn for_each_extent(&self, visit: impl FnMut(usize)) {
        self.lists.lock().for_each(visit);
    }

    /// Calls `visit` with each extent held and its provider, if the pool has one. The pool's lock is the caller's
    /// (around a fork), so this takes none.
    ///
    /// # Safety
    /// The caller holds the pool's lock.
    pub unsafe fn for_each_extent_locked(&self, mut visit: impl FnMut(&'static dyn Addressable, &Extent)) {
        let Some(provider) = self.backing.provider() else { return };
        // SAFETY: the caller holds the lock.
        let lists = unsafe { &*self.lists.as_ptr() };
        lists.for_each(|index| {
            let offset = arena::extent(index).offset.load(Ordering::Relaxed);
            if offset >= Backing::ANONYMOUS {
                return;
            }
            let at = NonNull::new(arena::address_of(index));
            let len = Bytes(EXTENT_SIZE as u64);
            visit(provider, &Extent::from_parts(self.tier, offset, len, at, Provenance::Unknown));
        });
    }
}
