//! Forking: only for tiers that the CPU can load from.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tiermem_sys::map;
use tiermem_tiers::{Extent, ForkPlan, GRANULE, Provenance, Provider};

use super::Outcome;
use super::tools::{Flag, Held, check_mark, ensure, failed, fork, mark};

const NOT_ADDRESSABLE: Outcome = Ok(Some("the CPU cannot address this tier"));

/// What a child does first where the tier cannot copy on write: it copies each extent to a new one at the same address.
fn copy_if_planned(provider: &dyn Provider, extents: &mut [Extent]) -> Result<(), String> {
    let Some(tier) = provider.addressable().filter(|tier| tier.fork_plan() == ForkPlan::CopyInChild) else {
        return Ok(());
    };
    for extent in extents {
        let mut contents = vec![0; extent.len().0 as usize];
        tier.read(extent, 0, &mut contents).map_err(failed("read in the child"))?;
        let at = extent.address().ok_or("no address")?;
        // SAFETY: the child's own view of the extent, which is replaced at once.
        unsafe { map::decommit(at, contents.len()) }.map_err(failed("mmap"))?;
        // SAFETY: a reservation since the line above.
        let copy =
            unsafe { tier.reserve_at(at, extent.len(), false, Provenance::Tool) }.map_err(failed("reserve_at"))?;
        tier.write(&copy, 0, &contents).map_err(failed("write in the child"))?;
        *extent = copy;
    }
    Ok(())
}

pub(super) fn fork_isolates(provider: &dyn Provider) -> Outcome {
    if provider.addressable().is_none() {
        return NOT_ADDRESSABLE;
    }
    // Twice: the second fork finds mappings that the first one made private.
    let mut held = Held::one(provider, 2)?;
    for round in 1..=2 {
        let (before, later, from_child) = (round << 8, round << 8 | 1, round << 8 | 2);
        mark(provider, &held.extents[0], before)?;
        let step = Flag::new()?;
        let mut extents = std::mem::take(&mut held.extents);
        let copied: *mut Vec<Extent> = &raw mut extents;
        let child = fork(provider, &extents, || {
            // SAFETY: the child's own copy of the vector; the borrow that `fork` has is not used after the fork.
            let extents = unsafe { &mut *copied };
            copy_if_planned(provider, extents)?;
            step.set(1);
            step.wait_for(2)?;
            check_mark(provider, &extents[0], before).map_err(failed("the child sees the parent's later writes"))?;
            mark(provider, &extents[0], from_child)?;
            check_mark(provider, &extents[0], from_child)?;
            step.set(3);
            step.wait_for(4)
        });
        held.extents = extents;
        let child = child?;
        step.wait_for(1)?;
        mark(provider, &held.extents[0], later)?;
        step.set(2);
        step.wait_for(3)?;
        check_mark(provider, &held.extents[0], later).map_err(failed("the parent sees the child's writes"))?;
        step.set(4);
        child.ended_well()?;
        check_mark(provider, &held.extents[0], later)?;
    }
    Ok(None)
}

/// One counter in each OS page for each writer.
struct Counters<'a> {
    words: &'a [AtomicU64],
    stop: AtomicBool,
    lost: AtomicBool,
}

impl Counters<'_> {
    const PLACES: usize = 512;

    fn slot(&self, writer: usize, turn: usize) -> &AtomicU64 {
        &self.words[turn % Self::PLACES * (self.words.len() / Self::PLACES) + writer * 8]
    }

    /// Writes the number of the turn to one place after the other, and looks for what it wrote the time before.
    fn count(&self, writer: usize) {
        let mut last = [0; Self::PLACES];
        for turn in 0.. {
            let (slot, last) = (self.slot(writer, turn), &mut last[turn % Self::PLACES]);
            if slot.load(Ordering::Relaxed) != *last {
                self.lost.store(true, Ordering::Relaxed);
            }
            *last = turn as u64;
            slot.store(*last, Ordering::Relaxed);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn sum(&self) -> u64 {
        self.words.iter().fold(0, |sum, word| sum.wrapping_add(word.load(Ordering::Relaxed)))
    }
}

/// Threads count up in memory, and check what they read back, while the process forks again and again; each child looks
/// whether the counts stand still.
pub(super) fn fork_loses_no_write(provider: &dyn Provider) -> Outcome {
    const WRITERS: usize = 2;
    let Some(tier) = provider.addressable() else { return NOT_ADDRESSABLE };
    if tier.fork_plan() == ForkPlan::CopyInChild {
        return Ok(Some("the tier cannot be forked while others write: the allocator stops them"));
    }
    // A fresh extent each round: only its first fork replaces a shared mapping.
    for _ in 0..10 {
        let held = Held::one(provider, 1)?;
        let base = held.extents[0].address().ok_or("no address")?.cast::<AtomicU64>();
        // SAFETY: the extent is held until the threads have ended, zeroed, aligned, and accessed as atomics only.
        let words = unsafe { std::slice::from_raw_parts(base.as_ptr(), GRANULE.0 as usize / size_of::<AtomicU64>()) };
        let counters = &Counters { words, stop: AtomicBool::new(false), lost: AtomicBool::new(false) };
        let child = || {
            let first = counters.sum();
            std::thread::sleep(Duration::from_millis(1));
            ensure(counters.sum() == first, || "the child's memory changes by the parent's writes".to_owned())
        };
        let outcome = std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                scope.spawn(move || counters.count(writer));
            }
            let outcome = (0..3).try_for_each(|_| fork(provider, &held.extents, child)?.ended_well());
            counters.stop.store(true, Ordering::Relaxed);
            outcome
        });
        outcome?;
        ensure(!counters.lost.load(Ordering::Relaxed), || "a write was lost in a fork".to_owned())?;
    }
    Ok(None)
}

/// As a daemon does: a child forks a grandchild and ends; all others give back what they hold and fill the tier; the
/// grandchild still finds everything.
pub(super) fn snapshot_outlives_its_maker(provider: &dyn Provider) -> Outcome {
    const TAG: u64 = 0xdae_0001;
    let Some(tier) = provider.addressable() else { return NOT_ADDRESSABLE };
    if tier.fork_plan() == ForkPlan::CopyInChild {
        return Ok(Some("the tier has no snapshots"));
    }
    let mut held = Held::one(provider, 2)?;
    mark(provider, &held.extents[0], TAG)?;
    let step = Flag::new()?;
    let child = fork(provider, &held.extents, || {
        let grandchild = fork(provider, &held.extents, || {
            step.wait_for(1)?;
            let intact = check_mark(provider, &held.extents[0], TAG);
            step.set(if intact.is_ok() { 2 } else { 3 });
            intact
        })?;
        std::mem::forget(grandchild); // It lives on; init waits for it.
        Ok(())
    })?;
    child.ended_well()?;
    held.release_all()?;
    held.fill()?;
    held.extents.iter().try_for_each(|extent| mark(provider, extent, !TAG))?;
    step.set(1);
    step.wait_for(2)?;
    ensure(step.value() == 2, || "the grandchild's memory changed; its complaint is on stderr".to_owned())?;
    Ok(None)
}
