//! Moves in a recording: memory that has come to lie on another tier than the one it was allocated on.
//!
//! Nothing but a fork moves memory so far. After one, a file's tier is mapped copy-on-write, and each OS page of it that is
//! written then gets a copy of its own, in DRAM. The kernel does that without a word; [`look`] finds the copies in the page map.
//! Blocks that are allocated later where such copies lie are told as moved at once ([`tell_of`]).

use std::ptr::NonNull;

use tiermem_sys::map;
use tiermem_sys::pagemap::{Entry, Pagemap};
use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use tiermem_tiers::ForkPlan;
use tiermem_trace::{Event, Place, TierTag};

use super::watch::{self, LANE};
use crate::geometry::{EXTENT_SHIFT, EXTENT_SIZE};
use crate::{arena, tiers};

/// OS pages of an extent, at most: they may be larger than 4 KiB.
const OS_PAGES_MAX: usize = EXTENT_SIZE >> 12;
const WORDS: usize = OS_PAGES_MAX / 64;
/// Extents whose OS pages are remembered together: 128 KiB for 4 GiB of memory.
const LEAF: usize = 2048;
const LEAVES: usize = 1024;

/// Bit per OS page of an extent: a private copy in DRAM, and told as such.
type Moved = [AtomicU64; WORDS];
type Leaf = [Moved; LEAF];

static MOVED: [AtomicPtr<Leaf>; LEAVES] = [const { AtomicPtr::new(std::ptr::null_mut()) }; LEAVES];
static IS_WATCHING: AtomicBool = AtomicBool::new(false);
/// Some OS page has moved.
static ANY: AtomicBool = AtomicBool::new(false);
/// Held while looking.
static ENTRIES: Lock<[Entry; OS_PAGES_MAX]> = Lock::new([Entry::EMPTY; OS_PAGES_MAX]);

/// What lies on DRAM: the first tier.
const DRAM: TierTag = TierTag(0);

/// From now on memory may move: a fork has made some copy-on-write.
pub fn begin() {
    // Relaxed: a hint for the thread's next look.
    IS_WATCHING.store(true, Ordering::Relaxed);
    watch::want();
}

/// Whether memory may move.
pub fn is_watching() -> bool {
    IS_WATCHING.load(Ordering::Relaxed)
}

fn moved(index: usize) -> Option<&'static Moved> {
    // Acquire pairs with the Release in `make_moved`.
    // SAFETY: null or a leaf, which lives for ever.
    let leaf = unsafe { MOVED.get(index / LEAF)?.load(Ordering::Acquire).as_ref() }?;
    Some(&leaf[index % LEAF])
}

/// As [`moved`], for the one who holds `ENTRIES`.
fn make_moved(index: usize) -> Option<&'static Moved> {
    if moved(index).is_none() {
        // Zeroed, which is a value for atomics, and never given back.
        let leaf = map::anonymous(size_of::<Leaf>()).ok()?.cast::<Leaf>();
        // Release pairs with the Acquire in `moved`.
        MOVED.get(index / LEAF)?.store(leaf.as_ptr(), Ordering::Release);
    }
    moved(index)
}

/// Finds what has moved since the last time, and enters it.
pub fn look() {
    if !is_watching() {
        return;
    }
    let Some(mut entries) = ENTRIES.try_lock() else { return };
    // Without the page map nothing is known.
    let Ok(pagemap) = Pagemap::open() else { return };
    arena::each_held(|index| {
        let Some(tier) = arena::extent(index).tier.load(Ordering::Relaxed).checked_sub(1) else { return };
        let provider = tiers::pool(tier).backing().provider();
        if provider.is_some_and(|provider| provider.fork_plan() == ForkPlan::CopyOnWrite) {
            look_at(&pagemap, index, TierTag(tier), &mut entries);
        }
    });
}

fn look_at(pagemap: &Pagemap, index: usize, tier: TierTag, entries: &mut [Entry; OS_PAGES_MAX]) {
    let entries = &mut entries[..EXTENT_SIZE / map::os_page_size()];
    let start = arena::address_of(index);
    let known = moved(index);
    match NonNull::new(start).map(|at| pagemap.entries(at, entries)) {
        Some(Ok(())) if known.is_some() || entries.iter().any(|entry| entry.is_private()) => {}
        _ => return,
    }
    let Some(moved) = make_moved(index) else { return };
    let changes = entries.iter().enumerate().map(|(i, entry)| {
        let (word, bit, is_private) = (&moved[i / 64], 1 << (i % 64), entry.is_private());
        // Relaxed: whoever is told of a block here is told of its moves by the next look, if not at once.
        let before =
            if is_private { word.fetch_or(bit, Ordering::Relaxed) } else { word.fetch_and(!bit, Ordering::Relaxed) };
        ((before & bit != 0) != is_private).then_some(is_private)
    });
    runs(changes, |first, count, is_private| {
        let tag = if is_private { DRAM } else { tier };
        let (address, len) = (start.addr() + first * map::os_page_size(), count * map::os_page_size());
        LANE.push(|at| Event::Place(Place { at, address: address as u64, len: len as u64, tier: tag }));
        ANY.store(true, Ordering::Relaxed);
    });
}

/// Calls `visit` with first, length and value of each run of equal values.
fn runs(values: impl Iterator<Item = Option<bool>>, mut visit: impl FnMut(usize, usize, bool)) {
    let mut run: Option<(usize, usize, bool)> = None;
    for (i, value) in values.enumerate() {
        match (&mut run, value) {
            (Some((_, count, of)), Some(value)) if *of == value => *count += 1,
            (run, value) => {
                if let Some((first, count, of)) = run.take() {
                    visit(first, count, of);
                }
                *run = value.map(|value| (i, 1, value));
            }
        }
    }
    if let Some((first, count, of)) = run {
        visit(first, count, of);
    }
}

/// Calls `enter` with each part of a new block that lies where memory has moved.
#[inline]
pub fn tell_of(block: *mut u8, size: usize, enter: impl FnMut(usize, usize, TierTag)) {
    // Relaxed: see `look_at`.
    if ANY.load(Ordering::Relaxed) && arena::contains(block.addr()) {
        tell_parts(block.addr(), size, enter);
    }
}

#[cold]
fn tell_parts(block: usize, size: usize, mut enter: impl FnMut(usize, usize, TierTag)) {
    let (os_page, end) = (map::os_page_size(), block + size.max(1));
    let first = block / os_page;
    let is_moved = |number: usize| {
        let index = arena::index_of(number * os_page);
        let i = number % (EXTENT_SIZE / os_page);
        moved(index).is_some_and(|moved| moved[i / 64].load(Ordering::Relaxed) >> (i % 64) & 1 != 0).then_some(true)
    };
    runs((first..end.div_ceil(os_page)).map(is_moved), |from, count, _| {
        let start = ((first + from) * os_page).max(block);
        enter(start, ((first + from + count) * os_page).min(end) - start, DRAM);
    });
}

/// In a child of fork: its file knows of no moves yet.
pub fn restart_in_child() {
    for leaf in &MOVED {
        // SAFETY: as in `moved`.
        if let Some(leaf) = unsafe { leaf.load(Ordering::Acquire).as_ref() } {
            leaf.iter().flatten().for_each(|word| word.store(0, Ordering::Relaxed));
        }
    }
    ANY.store(false, Ordering::Relaxed);
    if ENTRIES.try_lock().is_none() {
        // SAFETY: the child has one thread, which is not in here. The one that held it is not there any more, and what it left
        // is written before it is read.
        unsafe { ENTRIES.release() };
    }
}

const _: () = assert!(EXTENT_SIZE == 1 << EXTENT_SHIFT && size_of::<Leaf>() == 128 << 10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found() {
        let found = |values: &[Option<bool>]| {
            let mut found = Vec::new();
            runs(values.iter().copied(), |first, count, value| found.push((first, count, value)));
            found
        };
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(found(&[]), []);
        assert_eq!(found(&[None, None]), []);
        assert_eq!(found(&[yes, yes, None, yes, no, no]), [(0, 2, true), (3, 1, true), (4, 2, false)]);
        assert_eq!(found(&[None, no, None, yes]), [(1, 1, false), (3, 1, true)]);
    }
}
