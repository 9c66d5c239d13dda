//! Free blocks, which hold the links of the lists that they are in.

use std::ptr;

/// A free block: its first word links to the next free one.
#[repr(C)]
pub struct Block {
    next: *mut Block,
}

impl Block {
    /// Where the link lies in a free block, bytes.
    pub const LINK_OFFSET: usize = std::mem::offset_of!(Self, next);

    /// The end of a list.
    pub const NONE: *mut Self = ptr::null_mut();

    /// Links `count` blocks (at least one) of `size` bytes, one behind the other from address `first` on, to `link`, and
    /// ends the list. Returns the last one's link.
    ///
    /// # Safety
    /// The caller owns the blocks, and `link`, which is a list's head or a block's link.
    pub unsafe fn chain(link: *mut *mut Self, first: usize, count: usize, size: usize) -> *mut *mut Self {
        let mut block = block_at(first);
        // SAFETY: passed on to the caller.
        unsafe { *link = block };
        for _ in 1..count {
            // SAFETY: passed on to the caller.
            block = unsafe { link_to_neighbour(block, size) };
        }
        // SAFETY: passed on to the caller.
        unsafe { Self::set_next(block, Self::NONE) };
        // SAFETY: a field of a block that the caller owns.
        unsafe { &raw mut (*block).next }
    }

    /// Reads the link.
    ///
    /// # Safety
    /// `block` is a free block that the caller owns.
    #[inline(always)]
    pub unsafe fn next(block: *mut Self) -> *mut Self {
        // SAFETY: passed on to the caller; blocks are aligned to 16 bytes and hold at least as many.
        unsafe { (*block).next }
    }

    /// Writes the link.
    ///
    /// # Safety
    /// `block` is a free block that the caller owns.
    #[inline(always)]
    pub unsafe fn set_next(block: *mut Self, next: *mut Self) {
        // SAFETY: as for `next`.
        unsafe { (*block).next = next }
    }
}

/// Links a block to the one that starts `size` bytes later, and returns that one.
///
/// # Safety
/// The caller owns the block, and the address of the next one is in the span.
#[inline(always)]
pub unsafe fn link_to_neighbour(block: *mut Block, size: usize) -> *mut Block {
    let next = block.wrapping_byte_add(size);
    // SAFETY: passed on to the caller.
    unsafe { Block::set_next(block, next) };
    next
}

/// The block at an address of a span.
pub fn block_at(address: usize) -> *mut Block {
    ptr::with_exposed_provenance_mut(address)
}
