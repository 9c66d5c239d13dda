//! Giving memory back: the dirty free units of a pool, and whole extents that are free.

use std::ptr::NonNull;

use tiermem_sys::map::{self, Advice};
use tiermem_sys::sync::atomic::Ordering;

use super::Pool;
use super::huge::{self, Backed};
use super::list::{Lists, mask};
use crate::arena;
use crate::geometry::{EXTENT_SIZE, UNIT_SHIFT};

/// Extents looked up under one hold of the lock.
const BATCH: usize = 64;

impl Pool {
    /// Gives back what has been free since before `before` (milliseconds, as `now` of [`Pool::give_back`]), and parts of
    /// huge OS pages that have been since before `patient`. Returns the number of bytes.
    ///
    /// No allocation waits while the OS takes parts of an extent back: the units count as taken meanwhile, and the
    /// lock is free.
    pub fn purge(&self, before: u32, patient: u32) -> u64 {
        let mut batch = [0; BATCH];
        let mut returned = 0;
        let parts = self.backing.can_purge();
        loop {
            let count = self.lists.lock().find_idle(before, patient, parts, &mut batch);
            for &index in &batch[..count] {
                returned += self.purge_extent(index, parts);
            }
            if count < BATCH {
                break;
            }
        }
        self.counters.returned.fetch_add(returned, Ordering::Relaxed);
        returned
    }

    /// The extent was seen idle, without the lock since: it is one of the pool's still, because only the purger gives
    /// extents back, but may be in use again.
    fn purge_extent(&self, index: usize, parts: bool) -> u64 {
        let mut lists = self.lists.lock();
        let dirty = arena::extent(index).dirty.load(Ordering::Relaxed);
        if Lists::is_free(index) {
            self.release(&mut lists, index);
            // A file's extent is resident as a whole, anonymous memory as far as it was touched.
            return if parts { u64::from(dirty.count_ones()) << UNIT_SHIFT } else { EXTENT_SIZE as u64 };
        }
        if !parts || huge::backed(arena::extent(index)) == Backed::Reserved {
            return 0;
        }
        let units = lists.take_dirty(index);
        drop(lists);
        huge::give_up(index);
        let returned = purge_units(index, units);
        self.lists.lock().give_back_clean(index, units);
        returned
    }
}

/// Gives the memory of these units of an extent back, which then is zero. Returns the number of bytes.
fn purge_units(index: usize, mut units: u32) -> u64 {
    let base = arena::address_of(index);
    let mut returned = 0;
    while units != 0 {
        let first = units.trailing_zeros() as usize;
        let count = (units >> first).trailing_ones() as usize;
        let len = count << UNIT_SHIFT;
        if let Some(at) = NonNull::new(base.wrapping_add(first << UNIT_SHIFT)) {
            // SAFETY: the units are free and taken by us: nobody relies on what is in them.
            match unsafe { map::advise(at, len, Advice::DontNeed) } {
                Ok(()) => returned += len as u64,
                // The program has locked its memory: it stays, and is cleaned by hand.
                // SAFETY: as above, and committed.
                Err(_) => unsafe { at.write_bytes(0, len) },
            }
        }
        units &= !mask(first, count);
    }
    returned
}
