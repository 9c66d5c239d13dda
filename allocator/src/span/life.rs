//! The life of a span: begun, carved, granted, current, asleep, awake, ended.

use std::ptr;

use tiermem_sys::sync::atomic::Ordering;

use super::block::{block_at, link_to_neighbour};
use super::{Block, NEVER, NOTHING, PLAIN, SAMPLED, Span, State, Tiles};
use crate::heap::Heap;
use crate::size_class::SizeClass;

impl Span {
    /// Makes this the record of a span of `class` with no block carved yet.
    pub fn begin(&self, class: SizeClass, tier: u8, owner: &'static Heap) {
        self.begin_owned(class, tier, ptr::from_ref(owner).cast_mut());
    }

    /// As [`Span::begin`], for blocks that are samples of the heap profile.
    pub fn begin_sampled(&self, class: SizeClass, tier: u8, owner: &'static Heap) {
        self.begin_owned(class, tier, ptr::from_ref(owner).cast_mut().map_addr(|at| at | SAMPLED));
    }

    fn begin_owned(&self, class: SizeClass, tier: u8, owner: *mut Heap) {
        self.free.store(ptr::null_mut(), PLAIN);
        self.allocs_left.store(0, PLAIN);
        self.frees_left.store(NEVER, PLAIN);
        self.balance.store(NEVER.wrapping_neg(), PLAIN);
        self.block_size.store(class.block_size() as u32, PLAIN);
        self.allocations.store(0, PLAIN);
        self.capacity.store(class.span_capacity() as u32, PLAIN);
        self.carved.store(0, PLAIN);
        self.units.store(class.span_units() as u16, PLAIN);
        self.class.store(class.index() as u8, PLAIN);
        self.tier.store(tier, PLAIN);
        self.owner.store(owner, PLAIN);
        self.set_state(State::Current);
    }

    /// Notes where the first block lies, before a span begins.
    pub fn lie_at(&self, start: usize) {
        self.start.store(start, PLAIN);
    }

    /// Makes this the record of one large block of `size` bytes at `start`.
    pub fn begin_large(&self, tier: u8, start: usize, size: usize, zeroed: bool) {
        self.owner.store(ptr::null_mut(), PLAIN);
        self.block_size.store(0, PLAIN);
        self.allocations.store(1, PLAIN);
        self.tier.store(tier, PLAIN);
        self.start.store(start, PLAIN);
        self.size.store(size, PLAIN);
        self.zeroed.store(u8::from(zeroed), PLAIN);
        self.set_state(State::Large);
    }

    /// Makes this the record of a unit inside a span that starts `units_back` units earlier.
    pub fn begin_interior(&self, units_back: usize) {
        self.owner.store(ptr::null_mut(), PLAIN);
        self.units_back.store(units_back as u32, PLAIN);
        self.set_state(State::Interior);
    }

    /// Forgets what the record said.
    pub fn end(&self) {
        self.owner.store(ptr::null_mut(), PLAIN);
        self.free.store(ptr::null_mut(), PLAIN);
        self.set_state(State::Unused);
    }

    /// Links up to `at_most` more blocks into the free list, before those that are there. Returns how many; 0 if all are
    /// carved already.
    ///
    /// They are linked in address order, so that a program walks memory upwards.
    pub fn carve(&self, at_most: usize) -> usize {
        let carved = self.carved.load(PLAIN) as usize;
        let count = at_most.min(self.capacity() - carved);
        if count == 0 {
            return 0;
        }
        let size = self.block_size();
        let first = block_at(self.start() + carved * size);
        let mut block = first;
        // By fours: a program that fills and empties spans all the time does little else here.
        for _ in 0..(count - 1) / 4 {
            for _ in 0..4 {
                // SAFETY: an uncarved block lies inside the span's committed memory and nobody else knows of it.
                block = unsafe { link_to_neighbour(block, size) };
            }
        }
        for _ in 0..(count - 1) % 4 {
            // SAFETY: as above.
            block = unsafe { link_to_neighbour(block, size) };
        }
        // SAFETY: as above.
        unsafe { Block::set_next(block, self.free.load(PLAIN)) };
        self.free.store(first, PLAIN);
        self.carved.store((carved + count) as u32, PLAIN);
        count
    }

    /// Lets `count` blocks be popped before the slow path is due again; the free list has at least as many.
    pub fn grant(&self, count: usize) {
        debug_assert!(count <= self.free_blocks());
        let count = count as i32;
        let change = count.wrapping_sub(self.allocs_left());
        self.balance.store(self.balance.load(PLAIN).wrapping_add(change as u32), PLAIN);
        self.allocations.store(self.allocations.load(PLAIN).wrapping_add(change as u64), PLAIN);
        self.allocs_left.store(count, PLAIN);
    }

    /// Makes the span a mosaic, whose tiles know of all its carved blocks. Those on its free list are to be collected next.
    pub fn become_mosaic(&self, tiles: &'static Tiles) {
        self.grant(0);
        self.attend_after(self.used() as u32);
        self.allocations.store(0, PLAIN);
        self.size.store(ptr::from_ref(tiles).expose_provenance(), PLAIN);
        // Release pairs with the Acquire in `tiles`.
        self.state.store(State::Mosaic as u8, Ordering::Release);
    }

    /// The tiles of a mosaic.
    pub fn tiles(&self) -> Option<&'static Tiles> {
        // Acquire pairs with the Release in `become_mosaic`.
        if self.state.load(Ordering::Acquire) != State::Mosaic as u8 {
            return None;
        }
        let tiles: *const Tiles = ptr::with_exposed_provenance(self.size.load(PLAIN));
        // SAFETY: set before the state; tiles live for ever.
        unsafe { tiles.as_ref() }
    }

    /// Takes all of the free list.
    pub fn take_list(&self) -> *mut Block {
        let list = self.free.load(PLAIN);
        self.free.store(ptr::null_mut(), PLAIN);
        list
    }

    /// `count` more blocks of a mosaic are in use.
    pub fn expect_frees(&self, count: u32) {
        // Not through `attend_after`, which keeps what is in use as it is.
        self.frees_left.store(self.frees_left.load(PLAIN).wrapping_add(count), PLAIN);
    }

    /// Makes this a tray with the `count` blocks of the list at `first`, none of them given out yet.
    pub fn become_tray(&self, class: SizeClass, tier: u8, first: *mut Block, count: usize) {
        self.begin_owned(class, tier, ptr::null_mut());
        self.free.store(first, PLAIN);
        self.capacity.store(count as u32, PLAIN);
        self.carved.store(count as u32, PLAIN);
        self.set_state(State::Tray);
    }

    /// Has the owner look at the span after `count` more frees.
    fn attend_after(&self, count: u32) {
        let change = count.wrapping_sub(self.frees_left.load(PLAIN));
        self.balance.store(self.balance.load(PLAIN).wrapping_sub(change), PLAIN);
        self.frees_left.store(count, PLAIN);
    }

    /// Makes the span its bin's current one; how many blocks are freed to it does not matter meanwhile.
    pub fn make_current(&self) {
        self.attend_after(NEVER);
        self.set_state(State::Current);
    }

    /// Puts the span to sleep: it has too few free blocks to be worth allocating from. It wakes when some more have been
    /// freed. Returns how many blocks it had leave to give out.
    pub fn sleep(&self) {
        self.grant(0);
        self.attend_after((self.used() as u32).min(self.worthwhile()).max(1));
        self.set_state(State::Asleep);
    }

    /// Puts the span to sleep until its last block is freed: nothing more is allocated from it.
    pub fn sleep_until_empty(&self) {
        self.grant(0);
        self.attend_after((self.used() as u32).max(1));
        self.set_state(State::Asleep);
    }

    /// Ends the sleep; the owner looks again when the last block has been freed.
    pub fn wake(&self) {
        self.attend_after(self.used() as u32);
        self.set_state(State::Queued);
    }

    /// Free blocks for which a span is worth waking: an eighth, so that it serves a run of allocations and not a single
    /// one.
    fn worthwhile(&self) -> u32 {
        (self.capacity.load(PLAIN) / 8).max(1)
    }

    /// How often an [empty](Span::empty) span may still be popped from in vain.
    #[cfg(test)]
    pub fn attempts_left(&self) -> i32 {
        self.allocs_left.load(PLAIN).wrapping_sub(i32::MIN)
    }

    /// Puts an [empty](Span::empty) span back where failed attempts have moved it from.
    #[inline]
    pub fn refresh(&self) {
        // Only now and then: [`EMPTY`] is every thread's.
        if self.allocs_left.load(PLAIN) < NOTHING - (1 << 16) {
            self.allocs_left.store(NOTHING, PLAIN);
        }
    }
}
