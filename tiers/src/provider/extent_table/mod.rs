//! Who holds which granule of a file or device that several processes may use at once: relatives after a fork,
//! strangers that opened the same path, and processes that crashed and will never give anything back.
//!
//! One word per granule in a small shared file, the sidecar, changed by compare-and-swap; see [`format`] for the layout
//! and its invariants. There is no lock whose holder's death could stop the others: each member has a record from
//! which anybody can tell whether it still lives, and a dead member's claims are swept by whoever needs space.

mod format;
mod member;
mod setup;
mod sweep;

use std::ptr::NonNull;

use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use tiermem_sys::{Errno, Result, map};

use super::backing_file::BackingFile;
pub(in crate::provider) use format::fnv1a;
use format::{ENTRIES_AT, Entry, GROUPS_AT, Group, LIVE_AT, Live, Record, Seat};
pub(super) use setup::{Past, Sidecar};
pub(super) use sweep::Thoroughness;

/// Makes a run of granules (first, count) read as zeroes and gives its space back.
pub(super) type Erase<'a> = &'a dyn Fn(u32, u32) -> Result<()>;

/// A process's view of the extent table.
#[derive(Debug)]
pub(super) struct ExtentTable {
    map: NonNull<u8>,
    map_len: usize,
    sidecar: BackingFile,
    granules: u32,
    /// This process's seat, packed; it takes one when it first reserves.
    seat: AtomicU32,
    /// Held for the moment of taking a seat.
    seating: Lock<()>,
    /// The seat of the child that is about to be forked, and the descriptor whose lock keeps it alive meanwhile.
    embryo: AtomicU32,
    embryo_fd: AtomicI32,
    /// No free granule is believed to lie below.
    hint: AtomicU32,
    /// Whether `/proc/PID/maps` shows mappings of the sidecar under its inode number (not on every file system).
    maps_tell: bool,
}

// SAFETY: `map` is a shared mapping that lives as long as the table and is only accessed through atomics.
unsafe impl Send for ExtentTable {}
// SAFETY: as above.
unsafe impl Sync for ExtentTable {}

impl ExtentTable {
    /// Granules of the tier, as this process sees it.
    pub(super) const fn granules(&self) -> u32 {
        self.granules
    }

    /// Granules that anybody holds, or that are set aside as poisoned. Looks at each entry.
    pub(super) fn used(&self) -> u32 {
        // Relaxed: a figure.
        self.entries().iter().map(|entry| u32::from(entry.load(Ordering::Relaxed) != 0)).sum()
    }

    /// Takes `count` neighbouring free granules and gives the first one's number; `None` if there is no such run.
    ///
    /// # Errors
    /// If this process can get no seat.
    pub(super) fn claim(&self, count: u32) -> Result<Option<u32>> {
        let seat = self.ensure_seat()?;
        // Relaxed: a hint.
        let start = self.hint.load(Ordering::Relaxed).min(self.granules);
        let first = self.claim_in(start, count, seat).or_else(|| self.claim_in(0, count, seat));
        if let Some(first) = first
            && first == start
        {
            self.hint.store(first + count, Ordering::Relaxed);
        }
        Ok(first)
    }

    fn claim_in(&self, from: u32, count: u32, seat: Seat) -> Option<u32> {
        let mut run = 0;
        for granule in from..self.granules {
            run = if self.load(granule) == Entry::FREE { run + 1 } else { 0 };
            if run == count {
                let first = granule + 1 - count;
                if self.claim_run(first, count, seat) {
                    return Some(first);
                }
                run = 0;
            }
        }
        None
    }

    fn claim_run(&self, first: u32, count: u32, seat: Seat) -> bool {
        for granule in first..first + count {
            if self.replace(granule, Entry::FREE, Entry::of(seat)).is_err() {
                // Nothing was done with those that we have already: they are as empty as they were.
                (first..granule).for_each(|taken| self.store(taken, Entry::FREE));
                return false;
            }
        }
        true
    }

    /// Gives up this process's hold on a run; what nobody else holds is erased and free.
    ///
    /// # Errors
    /// Of `erase`; the granules then stay with this process until it ends.
    pub(super) fn release(&self, first: u32, count: u32, erase: Erase<'_>) -> Result<()> {
        let Some(seat) = self.seat() else { return Ok(()) };
        // Relaxed: a hint.
        self.hint.fetch_min(first, Ordering::Relaxed);
        let mut outcome = Ok(());
        let mut runs = Runs::default();
        for granule in first..first + count {
            if self.let_go(granule, seat) {
                continue;
            }
            if let Some(run) = runs.add(granule) {
                outcome = outcome.and(self.erase_run(run, erase));
            }
        }
        match runs.finish() {
            Some(run) => outcome.and(self.erase_run(run, erase)),
            None => outcome,
        }
    }

    /// Removes our bit if others hold the granule too; `false` if we are the last, and must erase it.
    fn let_go(&self, granule: u32, seat: Seat) -> bool {
        loop {
            let entry = self.load(granule);
            if !entry.is_held_by(seat) {
                return true; // Inherited without being counted: nothing of ours is there.
            }
            if entry.holders() == 1 << seat.index {
                return false;
            }
            if self.replace(granule, entry, Entry(entry.0 & !(1 << seat.index))).is_ok() {
                return true;
            }
        }
    }

    /// Erases a run that only this process holds, then frees it: in this order, so that an entry of 0 is always blank.
    fn erase_run(&self, (first, count): (u32, u32), erase: Erase<'_>) -> Result<()> {
        erase(first, count)?;
        for granule in first..first + count {
            self.store(granule, self.load(granule).given_up());
        }
        Ok(())
    }

    /// Granules that are marked as poisoned, held or not. Looks at each entry.
    pub(super) fn quarantined(&self) -> u32 {
        // Relaxed: a figure.
        self.entries().iter().map(|entry| u32::from(Entry(entry.load(Ordering::Relaxed)).has(Entry::POISON))).sum()
    }

    /// Whether a granule is marked as poisoned.
    pub(super) fn is_quarantined(&self, granule: u32) -> bool {
        self.entries()
            .get(granule as usize)
            .is_some_and(|entry| Entry(entry.load(Ordering::Relaxed)).has(Entry::POISON))
    }

    /// Takes the marks off the granules that nobody holds. They were erased when they were given up. Says how many.
    pub(super) fn repair(&self) -> u32 {
        let poisoned = |&granule: &u32| self.replace(granule, Entry(Entry::POISON), Entry::FREE).is_ok();
        let repaired = (0..self.granules).filter(poisoned).count() as u32;
        // Relaxed: a hint.
        self.hint.store(0, Ordering::Relaxed);
        repaired
    }

    /// Marks a granule as poisoned: it is not handed out again until it is repaired.
    pub(super) fn quarantine(&self, granule: u32) {
        if let Some(entry) = self.entries().get(granule as usize) {
            // Relaxed: the flag says nothing about other memory.
            entry.fetch_or(Entry::POISON, Ordering::Relaxed);
        }
    }

    /// Counts the child-to-be in on a run. Runs that become snapshots by this go to `fresh`: their mappings must be made
    /// private before the fork. A child that finds no seat, even after a sweep, holds its granules uncounted.
    ///
    /// # Errors
    /// Those of `fresh`.
    pub(super) fn share(
        &self,
        (first, count): (u32, u32),
        mut fresh: impl FnMut(u32, u32) -> Result<()>,
        erase: Erase<'_>,
    ) -> Result<()> {
        let child = self.ensure_embryo(erase);
        let mut make_private = |(first, count): (u32, u32)| {
            fresh(first, count).inspect_err(|_| {
                // Still mapped shared, and by us alone: the next fork has to try again.
                for granule in first..first + count {
                    self.entries()[granule as usize].fetch_and(!Entry::SNAPSHOT, Ordering::Relaxed);
                }
            })
        };
        let mut runs = Runs::default();
        for granule in first..first + count {
            if self.count_in(granule, child)
                && let Some(run) = runs.add(granule)
            {
                make_private(run)?;
            }
        }
        runs.finish().map_or(Ok(()), make_private)
    }

    /// Adds the child to an entry; `true` if this made it a snapshot.
    fn count_in(&self, granule: u32, child: Option<Seat>) -> bool {
        loop {
            let entry = self.load(granule);
            let bit = match child {
                Some(child) if child.group as usize == entry.group() => 1 << child.index,
                _ => Entry::UNCOUNTED,
            };
            if self.replace(granule, entry, Entry(entry.0 | bit | Entry::SNAPSHOT)).is_ok() {
                return !entry.has(Entry::SNAPSHOT);
            }
        }
    }

    fn seat(&self) -> Option<Seat> {
        // Relaxed: written by this process only, under `seating` or while it has one thread.
        Seat::unpack(self.seat.load(Ordering::Relaxed))
    }

    fn load(&self, granule: u32) -> Entry {
        // Acquire pairs with the Release in `store`: whoever finds it free finds it erased.
        Entry(self.entries()[granule as usize].load(Ordering::Acquire))
    }

    /// For entries that nobody else may change: held by us alone.
    fn store(&self, granule: u32, entry: Entry) {
        // Release pairs with the Acquire in `load`.
        self.entries()[granule as usize].store(entry.0, Ordering::Release);
    }

    fn replace(&self, granule: u32, from: Entry, to: Entry) -> std::result::Result<u64, u64> {
        // AcqRel: Acquire as in `load`; Release so that a holder's last writes come before its bit goes.
        self.entries()[granule as usize].compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed)
    }

    fn entries(&self) -> &[AtomicU64] {
        // SAFETY: `map_len` covers the entries of all granules, which start aligned at ENTRIES_AT and are only
        // accessed as atomics.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(ENTRIES_AT).cast(), self.granules as usize) }
    }

    fn live(&self) -> &Live {
        // SAFETY: within the mapping, aligned, all atomics.
        unsafe { &*self.map.as_ptr().add(LIVE_AT).cast::<Live>() }
    }

    fn group(&self, group: usize) -> &Group {
        assert!(group < format::GROUPS);
        // SAFETY: within the mapping (checked), aligned, all atomics.
        unsafe { &*self.map.as_ptr().add(GROUPS_AT + group * size_of::<Group>()).cast::<Group>() }
    }

    fn record(&self, seat: Seat) -> &Record {
        &self.group(seat.group.into()).records[usize::from(seat.index)]
    }
}

impl Drop for ExtentTable {
    fn drop(&mut self) {
        self.leave();
        // SAFETY: made at set-up; nothing refers to it any more.
        let _ = unsafe { map::unmap(self.map, self.map_len) };
    }
}

/// Gathers granules into runs of neighbours.
#[derive(Default)]
struct Runs {
    run: Option<(u32, u32)>,
}

impl Runs {
    /// Adds the next granule (ascending); a run that it does not continue comes back.
    fn add(&mut self, granule: u32) -> Option<(u32, u32)> {
        match &mut self.run {
            Some((first, count)) if *first + *count == granule => {
                *count += 1;
                None
            }
            run => run.replace((granule, 1)),
        }
    }

    fn finish(self) -> Option<(u32, u32)> {
        self.run
    }
}

/// The error for a table that has no seat left.
const NO_SEAT: Errno = Errno::EUSERS;

#[cfg(test)]
mod tests;
