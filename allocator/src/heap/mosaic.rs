//! Mosaics: spans whose gaps serve blocks of other sizes.
//!
//! Spans of one size cannot give a gap to another size. A program whose sizes shift while some of its blocks live on would
//! therefore hold yesterday's spans, nearly empty, and take new ones for today's sizes. So when a heap is about to take more
//! memory and much of what it holds is gaps, its sparse spans become *mosaics*: bitmaps say which 16-byte tiles are in use,
//! and neighbouring gaps are one gap, whatever size they had.
//!
//! Blocks cut out of gaps go onto a *tray*, a list for one class that the fast path takes from like from any span. A freed
//! block of a mosaic is pushed onto the mosaic's own list, as in any span; its tiles are freed when the mosaic is next
//! looked at. So both fast paths are those of every block. A mosaic whose last block is freed goes back to the pool.

use std::cell::Cell;
use std::ptr;

use tiermem_sys::sync::atomic::{AtomicPtr, Ordering};

use super::{Heap, TierHeap};
use crate::geometry::UNIT_SIZE;
use crate::pool::is_bad;
use crate::size_class::{CLASS_COUNT, SizeClass};
use crate::span::{Block, Span, SpanQueue, State, TILE, Tiles};
use crate::{arena, harden, meta, stats, tiers};

/// Largest block that comes from a mosaic, bytes. Larger ones would seldom find a gap.
const BLOCK_MAX: usize = 4096;
/// What is cut out for a tray at once, bytes, at most: most gaps of a mosaic, so that it is searched once.
const TRAY_BYTES: usize = 32 << 10;
/// Mosaics looked at for a tray, at most. Most are known to have no fitting gap, which costs next to nothing.
const LOOKS_MAX: usize = 512;
/// Mosaics searched for a tray, at most.
const SEARCHES_MAX: usize = 16;
/// Units that a heap takes, at least, before it looks again whether it has sparse spans.
const LOOK_AFTER_UNITS: u32 = 32;
/// A heap that holds less, bytes, has no gaps worth the trouble: spans of many classes are never all full.
const HELD_MIN: usize = 4 << 20;
/// After a look for a gap in vain, so many requests at most go by before the next.
const BACKOFF_MAX: u32 = 15;
/// Sparse spans made into mosaics at a time.
const BATCH: usize = 256;

/// A tier heap's mosaics.
pub struct Mosaics {
    queue: SpanQueue,
    trays: [AtomicPtr<Span>; CLASS_COUNT],
    /// Bitmaps without a unit.
    spare: AtomicPtr<Tiles>,
    /// Times that the heap wanted more units since it last looked for sparse spans, and after how many it looks.
    taken: Cell<u32>,
    look_after: Cell<u32>,
    /// Requests to let go by before the next look for a gap, and how many it were the last time.
    skip: Cell<u32>,
    backoff: Cell<u32>,
}

impl Mosaics {
    pub(super) const fn new() -> Self {
        Self {
            queue: SpanQueue::new(),
            trays: [const { AtomicPtr::new(ptr::null_mut()) }; CLASS_COUNT],
            spare: AtomicPtr::new(ptr::null_mut()),
            taken: Cell::new(0),
            look_after: Cell::new(LOOK_AFTER_UNITS),
            skip: Cell::new(0),
            backoff: Cell::new(0),
        }
    }

    #[inline(never)]
    fn tray(&self, class: SizeClass) -> Option<&'static Span> {
        // Relaxed, here and below: the heap's thread alone uses them.
        let place = &self.trays[class.index()];
        // SAFETY: null or placed below, for ever.
        if let Some(tray) = unsafe { place.load(Ordering::Relaxed).as_ref() } {
            return Some(tray);
        }
        let tray = meta::place(Span::empty())?;
        place.store(ptr::from_ref(tray).cast_mut(), Ordering::Relaxed);
        Some(tray)
    }

    #[inline(never)]
    fn take_tiles(&self) -> Option<&'static Tiles> {
        // SAFETY: null or placed below, for ever.
        match unsafe { self.spare.load(Ordering::Relaxed).as_ref() } {
            Some(tiles) => {
                self.spare.store(tiles.next.load(Ordering::Relaxed), Ordering::Relaxed);
                Some(tiles)
            }
            None => meta::place(Tiles::new()),
        }
    }

    fn give_tiles(&self, tiles: &'static Tiles) {
        tiles.next.store(self.spare.load(Ordering::Relaxed), Ordering::Relaxed);
        self.spare.store(ptr::from_ref(tiles).cast_mut(), Ordering::Relaxed);
    }
}

impl TierHeap {
    /// A tray with blocks of `class` cut out of mosaics; `None` if there are no fitting gaps. To be asked before more memory
    /// is taken.
    pub(super) fn fill_tray(&'static self, heap: &'static Heap, class: SizeClass) -> Option<&'static Span> {
        // Hardened blocks say how large they are by where they lie in their span.
        if class.block_size() > BLOCK_MAX || harden::has_tails() {
            return None;
        }
        if let Some(tray) = self.cut_tray(class) {
            return Some(tray);
        }
        let taken = self.mosaics.taken.get() + 1;
        let due = taken >= self.mosaics.look_after.get();
        self.mosaics.taken.set(if due { 0 } else { taken });
        if !due || !self.make_mosaics(heap) {
            return None;
        }
        self.mosaics.skip.set(0);
        self.cut_tray(class)
    }

    fn cut_tray(&'static self, class: SizeClass) -> Option<&'static Span> {
        let Mosaics { skip, backoff, .. } = &self.mosaics;
        if skip.get() > 0 {
            skip.set(skip.get() - 1);
            return None;
        }
        let tray = self.search_mosaics(class, LOOKS_MAX, SEARCHES_MAX);
        backoff.set(if tray.is_some() { 0 } else { (2 * backoff.get() + 1).min(BACKOFF_MAX) });
        skip.set(backoff.get());
        tray
    }

    /// As [`fill_tray`](Self::fill_tray), where no more memory can be had: every mosaic is looked at.
    pub(super) fn fill_tray_at_all_costs(&'static self, class: SizeClass) -> Option<&'static Span> {
        if class.block_size() > BLOCK_MAX { None } else { self.search_mosaics(class, usize::MAX, usize::MAX) }
    }

    fn search_mosaics(&'static self, class: SizeClass, looks_max: usize, searches_max: usize) -> Option<&'static Span> {
        let first_seen = self.mosaics.queue.first()?;
        let tray = self.mosaics.tray(class)?;
        let length = class.block_size() / TILE;
        let mut searches = 0;
        for look in 0..looks_max {
            let mosaic = self.mosaics.queue.first()?;
            // Once around is enough.
            if look > 0 && ptr::eq(mosaic, first_seen) {
                return None;
            }
            let tiles = mosaic.tiles()?;
            // The links of its freed blocks may lie in bad memory.
            let in_bad = is_bad(mosaic.start());
            if !in_bad {
                collect_freed(mosaic, tiles);
            }
            let lacks = in_bad || tiles.is_known_to_lack(length);
            let (first, count) = if lacks { (ptr::null_mut(), 0) } else { cut(mosaic, tiles, class) };
            if count > 0 {
                stats::retire(self.tier, class, count as u64);
                tray.become_tray(class, self.tier, first, count);
                return Some(tray);
            }
            // Its gaps are too small. Others may want them; it comes round again.
            tiles.note_lack(length);
            self.mosaics.queue.remove(mosaic);
            self.mosaics.queue.push_back(mosaic);
            searches += usize::from(!lacks);
            if searches == searches_max {
                break;
            }
        }
        None
    }

    /// Makes sparse spans into mosaics, if much of what the heap holds of the tier is gaps. Whether it has.
    // Out of line: threads may have hardly any stack, and this is seldom wanted.
    #[cold]
    #[inline(never)]
    fn make_mosaics(&'static self, heap: &'static Heap) -> bool {
        let mut sparse: [Option<&'static Span>; BATCH] = [None; BATCH];
        let (mut held, mut used, mut count) = (0, 0, 0);
        tiers::pool(self.tier).for_each_extent(|index| {
            for span in arena::units_of(index).filter(|span| span.is_of(heap) && span.state() != State::Mosaic) {
                held += span.class().span_units() * UNIT_SIZE;
                used += span.used() * span.block_size();
                if count < BATCH && is_sparse(span) {
                    sparse[count] = Some(span);
                    count += 1;
                }
            }
        });
        // Sooner, and sets that are replaced whole would be caught in the middle, when their old spans are about to drain.
        let much = held >= HELD_MIN && used < held / 2;
        if much {
            // Only this thread changes its spans, so they are still what they were under the pool's lock.
            sparse.into_iter().flatten().for_each(|span| self.make_mosaic(heap, span));
        }
        // A look costs a little for each unit held, so it is taken each time that an eighth has come to them; where it found
        // more sparse spans than it could note, soon.
        let soon = much && count == BATCH;
        let held_units = u32::try_from(held / UNIT_SIZE).unwrap_or(u32::MAX);
        self.mosaics.look_after.set(if soon { LOOK_AFTER_UNITS } else { (held_units / 8).max(LOOK_AFTER_UNITS) });
        much && count > 0
    }

    fn make_mosaic(&'static self, heap: &'static Heap, span: &'static Span) {
        let Some(tiles) = self.mosaics.take_tiles() else { return };
        if span.state() == State::Queued
            && let Some(queue) = heap.queue_of(span)
        {
            queue.remove(span);
        }
        stats::retire(self.tier, span.class(), span.allocations());
        let per_block = span.block_size() / TILE;
        tiles.lay_row(0, span.carved(), per_block);
        span.become_mosaic(tiles);
        collect_freed(span, tiles);
        self.mosaics.queue.push_back(span);
    }

    /// Takes an empty mosaic out; its unit is then the caller's to give back.
    pub(super) fn end_mosaic(&self, span: &'static Span) {
        // In bad memory its list is not looked at: its tiles, with what they still show, are then given up.
        if let Some(tiles) = span.tiles().filter(|_| !is_bad(span.start())) {
            collect_freed(span, tiles);
            self.mosaics.give_tiles(tiles);
        }
        self.mosaics.queue.remove(span);
    }
}

/// Whether a span is worth more as a mosaic: it is no class's current one, and at least half of it is free.
fn is_sparse(span: &Span) -> bool {
    matches!(span.state(), State::Asleep | State::Queued)
        && span.block_size() <= BLOCK_MAX
        && !span.is_sampled()
        && !is_bad(span.start())
        && span.used() * 2 <= span.capacity()
}

/// Frees the tiles of the blocks on the mosaic's list.
fn collect_freed(mosaic: &Span, tiles: &Tiles) {
    let mut block = mosaic.take_list();
    while !block.is_null() {
        tiles.lift((block.addr() - mosaic.start()) / TILE);
        // SAFETY: a block of the list, which is the caller's.
        block = unsafe { Block::next(block) };
    }
}

/// Cuts some blocks of `class` out of a mosaic's gaps: the first of a list in the order of addresses, and how many.
fn cut(mosaic: &Span, tiles: &Tiles, class: SizeClass) -> (*mut Block, usize) {
    let size = class.block_size();
    let length = size / TILE;
    // As in a span of the class, whose start is aligned to everything: aligned requests rely on it. Every further block
    // of a gap is then as well aligned as the first one.
    let align = (1 << size.trailing_zeros()) / TILE;
    let most = (TRAY_BYTES / size).max(1);
    let mut list = Block::NONE;
    let mut link: *mut *mut Block = &raw mut list;
    let (mut at, mut count) = (0, 0);
    while count < most
        && let Some((gap, tiles_in_gap)) = tiles.find(at, length, align)
    {
        let blocks = (tiles_in_gap / length).min(most - count);
        tiles.lay_row(gap, blocks, length);
        let first = mosaic.start() + gap * TILE;
        // SAFETY: the gap is the caller's, and `link` a block cut out before, or the head.
        link = unsafe { Block::chain(link, first, blocks, size) };
        (at, count) = (gap + blocks * length, count + blocks);
    }
    mosaic.expect_frees(count as u32);
    (list, count)
}
