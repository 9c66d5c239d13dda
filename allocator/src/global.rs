//! tiermem as a Rust program's global allocator.

use std::alloc::{GlobalAlloc, Layout};

use crate::api;

/// The allocator, to be named in `#[global_allocator]`.
///
/// All memory is DRAM until the program calls [`start`](crate::start), which reads the policy from the environment.
///
/// ```
/// #[global_allocator]
/// static GLOBAL: tiermem::TierMem = tiermem::TierMem;
///
/// fn main() {
///     tiermem::start();
///     let numbers: Vec<u64> = (0..1000).collect();
///     assert_eq!(tiermem::tier_of(numbers.as_ptr()), tiermem::tier("dram"));
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TierMem;

// SAFETY: blocks hold the size and alignment asked for, do not overlap, stay until freed, and no path unwinds.
unsafe impl GlobalAlloc for TierMem {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        api::allocate_aligned(layout.size(), layout.align())
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { api::free_sized(at, layout.size(), layout.align()) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        api::allocate_zeroed(layout.size(), layout.align())
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: passed on to the caller.
        unsafe { api::reallocate(at, size, layout.align()) }
    }
}
