//! Changing the size of a block: where it is, or by moving it.

use std::ptr;

use tiermem_sys::thread::KeepErrno;

use crate::api::{self, REQUEST_MAX, UNKNOWN};
use crate::pool::Fit;
use crate::size_class::{ALIGNMENT_MIN, CLASS_MAX};
use crate::span::{Span, State};
use crate::{arena, harden, heap, large, place};

/// Changes the size of a block, moving it if needed; its contents up to the smaller size stay. Null (and the block
/// stays as it is) if there is no memory.
///
/// # Safety
/// `at` was allocated here with this alignment and is used only through the result from now on.
pub unsafe fn reallocate(at: *mut u8, size: usize, align: usize) -> *mut u8 {
    // SAFETY: passed on to the caller.
    unsafe { reallocate_by(UNKNOWN, at, size, align) }
}

/// As [`reallocate`], for the code at `caller`.
///
/// # Safety
/// As there.
pub unsafe fn reallocate_by(caller: usize, at: *mut u8, size: usize, align: usize) -> *mut u8 {
    if harden::sees_requests() {
        // SAFETY: passed on to the caller.
        return unsafe { harden::reallocate(at, size, align, caller) };
    }
    // SAFETY: the old block is the caller's to free.
    let moved = |_| unsafe { api::free(at) };
    // SAFETY: passed on to the caller.
    unsafe { reallocate_with(at, size, align, api::allocate_aligned, moved) }
}

/// As [`reallocate`], for blocks without tails. Where the block moves, `allocate` gets the new one, and `moved` gives the old one
/// up after its contents have been copied.
///
/// # Safety
/// As there.
#[inline(always)]
pub unsafe fn reallocate_with(
    at: *mut u8,
    size: usize,
    align: usize,
    allocate: impl FnOnce(usize, usize) -> *mut u8,
    moved: impl FnOnce(*mut u8),
) -> *mut u8 {
    let Some(span) = arena::span_of(at.addr()) else {
        api::foreign(at);
        return ptr::null_mut();
    };
    let held = match span.state() {
        State::Large => {
            if size > CLASS_MAX && resize_in_place(span, size) {
                return at;
            }
            // All of it: the program may have asked how much it is, and used it.
            api::usable_size(at)
        }
        _ => api::block_size(span, at.addr()),
    };
    // A block of a class stays where it is unless half of it would lie idle.
    if span.state() != State::Large && size <= held && size >= held / 2 {
        return at;
    }
    // What has grown once is likely to grow again.
    let new = if size > held.max(CLASS_MAX) {
        api::allocate_fitting(size, align.max(ALIGNMENT_MIN), Fit::Roomy)
    } else {
        allocate(size, align)
    };
    if !new.is_null() {
        // SAFETY: both blocks hold that many bytes, and a new block overlaps no other.
        unsafe { ptr::copy_nonoverlapping(at, new, size.min(held)) };
        moved(new);
    }
    new
}

/// Changes the size of a large block where it is.
pub fn resize_in_place(span: &'static Span, size: usize) -> bool {
    large::resize(span, size) || grow_in_place(span, size)
}

/// Lets a large block grow where it is, if the policy would place the larger one there as well.
fn grow_in_place(span: &'static Span, size: usize) -> bool {
    let _errno = KeepErrno::new();
    size <= REQUEST_MAX
        && size > span.size()
        && heap::attach().is_some_and(|heap| place::may_stay(heap, span.tier(), size, size - span.size()))
        && large::grow(span, size)
}
