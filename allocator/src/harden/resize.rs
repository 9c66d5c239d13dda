//! Changing and asking for a block's size in a hardened process.

use std::ptr;

use super::allocate::{allocate_any, end_at};
use super::free::{Claim, free_unrecorded, is_guarded, look};
use super::report::{self, Deed};
use super::tail::ROOM;
use super::{has_tails, is_strong, large, strong};
use crate::pool::Fit;
use crate::size_class::{ALIGNMENT_MIN, CLASS_MAX};
use crate::span::{Span, State as SpanState};
use crate::{api, arena, recorder, resize};

/// Changes the size of a block, as [`reallocate`](crate::api::reallocate).
///
/// # Safety
/// As there, as far as it can be: what can be seen to be wrong is reported.
pub unsafe fn reallocate(at: *mut u8, size: usize, align: usize, caller: usize) -> *mut u8 {
    let moved = |new: *mut u8| {
        // Before somebody else can have the block that is freed here.
        recorder::reallocated(at.addr(), new, size, caller);
        free_unrecorded(at, caller, Claim::NONE);
    };
    let new = if has_tails() {
        // SAFETY: passed on to the caller.
        unsafe { reallocate_tailed(at, size, align, caller, moved) }
    } else {
        let allocate = |size, align| api::allocate_open(size, align);
        // SAFETY: passed on to the caller.
        unsafe { resize::reallocate_with(at, size, align, allocate, moved) }
    };
    if new == at {
        recorder::reallocated(at.addr(), at, size, caller);
    }
    new
}

/// `moved` gives the block up after its contents have been copied.
unsafe fn reallocate_tailed(
    at: *mut u8,
    size: usize,
    align: usize,
    caller: usize,
    moved: impl FnOnce(*mut u8),
) -> *mut u8 {
    let Some(span) = arena::span_of(at.addr()) else { return refuse(at, caller) };
    let held = if span.state() == SpanState::Large {
        let Some(asked) = span.asked().filter(|_| large::block_of(span) == at) else { return refuse(at, caller) };
        if !large::is_guarded(at, asked) {
            report::large_overflow(span, at, asked, caller);
        }
        if size > CLASS_MAX && !is_strong() && resize_in_place(span, size) {
            large::end_at(span, at, size, caller);
            return at;
        }
        asked
    } else {
        let Some((_, seal, slack)) = look(span, at) else { return refuse(at, caller) };
        let block_size = span.block_size();
        if !is_guarded(at, block_size, slack, seal) {
            report::overflow(span, at, slack, caller);
        }
        // A block of a class stays where it is unless half of it would lie idle.
        if size.saturating_add(ROOM) <= block_size && size >= block_size / 2 {
            // SAFETY: the block is the program's, which gives it to us for this.
            unsafe { end_at(at, block_size, size, caller) };
            if is_strong() {
                // SAFETY: behind what was asked for and its guard, before the seal.
                unsafe { strong::fill_bytes(at, size + size_of::<u32>(), block_size - ROOM) };
            }
            return at;
        }
        block_size - slack
    };
    // What has grown once is likely to grow again.
    let fit = if size > held.max(CLASS_MAX) { Fit::Roomy } else { Fit::Tight };
    let new = allocate_any(size, align.max(ALIGNMENT_MIN), fit, caller);
    if !new.is_null() {
        // SAFETY: both blocks hold that many bytes, and a new block overlaps no other.
        unsafe { ptr::copy_nonoverlapping(at, new, size.min(held)) };
        moved(new);
    }
    new
}

fn resize_in_place(span: &'static Span, size: usize) -> bool {
    size.checked_add(ROOM).is_some_and(|needed| resize::resize_in_place(span, needed))
}

fn refuse(at: *mut u8, caller: usize) -> *mut u8 {
    report::bad_free(at, caller, Deed::Resize);
    ptr::null_mut()
}

/// Bytes that the program may use of the block at `at`: those that it asked for.
pub fn usable_size(at: *const u8, caller: usize) -> usize {
    if at.is_null() {
        return 0;
    }
    let at = at.cast_mut();
    let asked = arena::span_of(at.addr()).and_then(|span| match span.state() {
        SpanState::Large => span.asked().filter(|_| large::block_of(span) == at),
        _ => look(span, at).map(|(_, _, slack)| span.block_size() - slack),
    });
    asked.unwrap_or_else(|| {
        report::bad_free(at, caller, Deed::Measure);
        0
    })
}
