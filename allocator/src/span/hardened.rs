//! What hardened modes ask of a span beyond the plain modes: links that are looked at before they are followed.

use std::ptr::{self, NonNull};

use super::{Block, PLAIN, Span};
use crate::geometry::{UNIT_SHIFT, UNIT_SIZE};

/// Why [`Span::pop_wary`] has no block.
pub enum Nothing {
    /// The slow path is due.
    Due,
    /// Somebody has written over the link in this free block.
    Damaged(NonNull<Block>),
}

impl Span {
    /// As [`Span::pop`], but does not believe the link that it finds.
    pub fn pop_wary(&self) -> Result<NonNull<Block>, Nothing> {
        let left = self.allocs_left.load(PLAIN).wrapping_sub(1);
        if left < 0 {
            return Err(Nothing::Due);
        }
        // SAFETY: the list holds at least `allocs_left` blocks, and that was not 0.
        let block = unsafe { NonNull::new_unchecked(self.free.load(PLAIN)) };
        // SAFETY: the head of the list was looked at when it became the head, so it is a block of this span.
        let next = unsafe { Block::next(block.as_ptr()) };
        self.allocs_left.store(left, PLAIN);
        if !self.may_follow(next) {
            return Err(Nothing::Damaged(block));
        }
        self.free.store(next, PLAIN);
        Ok(block)
    }

    /// Pops the first block if the link in it leads to the same unit, which is enough in a span of one unit. `None`, and
    /// nothing is changed, where [`Span::pop_wary`] must look.
    #[inline(always)]
    pub fn pop_near(&self) -> Option<NonNull<Block>> {
        let left = self.allocs_left.load(PLAIN).wrapping_sub(1);
        if left < 0 {
            return None;
        }
        // SAFETY: as in `pop_wary`.
        let block = unsafe { NonNull::new_unchecked(self.free.load(PLAIN)) };
        // SAFETY: as in `pop_wary`.
        let next = unsafe { Block::next(block.as_ptr()) };
        let unit = block.as_ptr().addr() & !(UNIT_SIZE - 1);
        // Rotated, so that an address between two multiples of 16 becomes a huge one.
        let sixteenths = next.addr().wrapping_sub(unit).rotate_right(4);
        if sixteenths > UNIT_SIZE.wrapping_sub(self.block_size()) >> 4 {
            return None;
        }
        self.allocs_left.store(left, PLAIN);
        self.free.store(next, PLAIN);
        Some(block)
    }

    /// Whether a link may lead to `next`: to a block of this span, or, from the last one, nowhere.
    fn may_follow(&self, next: *mut Block) -> bool {
        if next.is_null() { self.free_blocks() == 0 } else { self.is_block(next.addr()) }
    }

    /// Whether a block of this span starts at `address`.
    pub fn is_block(&self, address: usize) -> bool {
        let offset = address.wrapping_sub(self.start());
        let size = self.block_size();
        size != 0 && offset / size < self.capacity() && offset.is_multiple_of(size)
    }

    /// Whether the head of the list can be trusted after a plain [`Span::pop`].
    pub fn head_is_sound(&self) -> bool {
        self.may_follow(self.free.load(PLAIN))
    }

    /// The address of the block that holds `address`, which lies in this span.
    pub fn block_around(&self, address: usize) -> usize {
        let size = self.block_size().max(1);
        self.start() + address.wrapping_sub(self.start()) / size * size
    }

    /// One past the last address of its units.
    pub fn units_end(&self) -> usize {
        self.start() + (usize::from(self.units.load(PLAIN)) << UNIT_SHIFT)
    }

    /// Links the `count` blocks at the front of the list, which `order` names by their addresses, in that order.
    ///
    /// # Safety
    /// They are the `order.len()` blocks at the front of this span's list, and the caller owns the span.
    pub unsafe fn relink_front(&self, order: &[usize], rest: *mut Block) {
        let mut next = rest;
        for &address in order.iter().rev() {
            let block = super::block::block_at(address);
            // SAFETY: a free block of the caller's.
            unsafe { Block::set_next(block, next) };
            next = block;
        }
        self.free.store(next, PLAIN);
    }

    // ---- large blocks ----

    /// Says how many bytes of a large block were asked for, and by whom.
    pub fn set_asked(&self, size: usize, site: usize) {
        self.site.store(site, PLAIN);
        // Release pairs with the Acquire in `claim_asked`: who frees the block sees what it is.
        self.asked.store(size + 1, super::Ordering::Release);
    }

    /// Says whether an inaccessible OS page comes before a large block.
    pub fn set_fronted(&self, fronted: bool) {
        self.fronted.store(u8::from(fronted), PLAIN);
    }

    /// Whether an inaccessible OS page comes before the large block.
    pub fn is_fronted(&self) -> bool {
        self.fronted.load(PLAIN) != 0
    }

    /// Bytes asked for of a large block that is in use; `None` once it was freed.
    pub fn asked(&self) -> Option<usize> {
        self.asked.load(PLAIN).checked_sub(1)
    }

    /// Marks a large block as freed by `site`; `None` if it is already. Two threads that free it at once do not both win.
    pub fn claim_asked(&self, site: usize) -> Option<usize> {
        let asked = self.asked.swap(0, super::Ordering::Acquire).checked_sub(1)?;
        self.freed_by.store(site, PLAIN);
        Some(asked)
    }

    /// Who allocated a large block.
    pub fn allocated_by(&self) -> usize {
        self.site.load(PLAIN)
    }

    /// Who freed the large block that this was.
    pub fn freed_by(&self) -> usize {
        self.freed_by.load(PLAIN)
    }

    /// Forgets what large block this was.
    pub fn forget_asked(&self) {
        self.asked.store(0, PLAIN);
        self.site.store(0, PLAIN);
        self.freed_by.store(0, PLAIN);
    }

    /// The head of the list.
    pub fn head(&self) -> *mut Block {
        self.free.load(PLAIN)
    }

    /// The block that `link` leads to after `count` steps from the head, all of which must be sound.
    pub fn after(&self, count: usize) -> *mut Block {
        let mut at = self.head();
        for _ in 0..count {
            if at.is_null() {
                return ptr::null_mut();
            }
            // SAFETY: a free block of this span.
            at = unsafe { Block::next(at) };
        }
        at
    }
}
