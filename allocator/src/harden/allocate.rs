//! Allocating in a hardened process.

use std::hint::black_box;
use std::ptr::{self, NonNull};

use tiermem_sys::sync::atomic::{AtomicU64, Ordering};
use tiermem_sys::thread::KeepErrno;

use super::tail::{ROOM, guard, slack};
use super::{class_of, has_tails, is_strong, key, large, quarantine, report, sites, strong};
use crate::geometry::UNIT_SIZE;
use crate::heap::tls;
use crate::pool::Fit;
use crate::size_class::{ALIGNMENT_MIN, SMALL_MAX};
use crate::span::{Block, Nothing, Span, State as SpanState};
use crate::{api, arena, errno, place, recorder};

/// Seals are single words that other threads may look at; what they guard is ordered by whoever hands the block on.
const PLAIN: Ordering = Ordering::Relaxed;

type HandOut = extern "C" fn(&Span, NonNull<Block>, usize, usize) -> *mut u8;

/// The seal of a block.
///
/// # Safety
/// A block of `block_size` bytes lies at `block`.
#[inline(always)]
pub(super) unsafe fn seal_of(block: *mut u8, block_size: usize) -> &'static AtomicU64 {
    let at = block.wrapping_add(block_size - ROOM);
    // SAFETY: inside the block, aligned as blocks and their sizes are to 16, and used as an atomic only.
    unsafe { &*at.cast::<AtomicU64>() }
}

/// The fast path of the check mode: allocates `size` bytes for the code at `caller`.
///
/// Everything unusual is a jump to a function that does it again from where it was, so that no register need be saved here.
#[inline(never)]
pub extern "C" fn allocate_checked(size: usize, caller: usize) -> *mut u8 {
    if size > SMALL_MAX - ROOM {
        return allocate(size, caller);
    }
    let span = tls::heap_or_empty().open().small(size + ROOM);
    let Some(block) = span.pop_near() else { return allocate(size, caller) };
    let (at, block_size) = (block.as_ptr().cast::<u8>(), span.block_size());
    // SAFETY: a block of the span.
    let seal = unsafe { seal_of(at, block_size) };
    let key = key(at.addr());
    let site = sites::known(caller);
    let (Some(site), true) = (site, seal.load(PLAIN) == key.free()) else {
        // Through a pointer that the compiler knows nothing of, so that this is a jump.
        return black_box(hand_out as HandOut)(span, block, size, caller);
    };
    let slack = block_size - size;
    let word = key.used(slack, site);
    // The guard may be a part of the seal: now it changes nothing there, and who looks at the seal never sees half of it.
    seal.store(word, PLAIN);
    // SAFETY: at least `ROOM` bytes of the block lie behind what was asked for.
    unsafe { at.wrapping_add(size).cast::<u32>().write_unaligned(guard(word, slack)) };
    at
}

/// Allocates `size` bytes for the code at `caller`; null, with `errno` set, if there is no memory.
#[inline(never)]
pub extern "C" fn allocate(size: usize, caller: usize) -> *mut u8 {
    allocate_aligned(size, ALIGNMENT_MIN, caller)
}

/// Allocates `size` bytes at a multiple of `align`, a power of two.
pub fn allocate_aligned(size: usize, align: usize, caller: usize) -> *mut u8 {
    recorder::allocated(allocate_any(size, align.max(ALIGNMENT_MIN), Fit::Tight, caller), size, caller)
}

/// The general way, not recorded.
#[inline(never)]
pub(super) fn allocate_any(size: usize, align: usize, fit: Fit, caller: usize) -> *mut u8 {
    if !has_tails() {
        return api::allocate_open(size, align);
    }
    if let Some(class) = class_of(size, align).filter(|_| align <= UNIT_SIZE)
        && !place::is_ruled(class)
    {
        let view = tls::heap_or_empty().open();
        let span = view.get(class);
        match span.pop_wary() {
            Ok(block) => return hand_out(span, block, size, caller),
            Err(Nothing::Damaged(block)) => report::damaged_link(span, block),
            Err(Nothing::Due) => {}
        }
        if view.refill(class) {
            if !span.head_is_sound() {
                report::damaged_head(span);
            }
            if let Ok(block) = span.pop_wary() {
                return hand_out(span, block, size, caller);
            }
        }
    }
    let mut block = allocate_unhurried(size, align, fit, caller);
    if block.is_null() && quarantine::drain_own() {
        block = allocate_unhurried(size, align, fit, caller);
    }
    if block.is_null() {
        errno::set(errno::ENOMEM);
    }
    block
}

fn allocate_unhurried(size: usize, align: usize, fit: Fit, caller: usize) -> *mut u8 {
    let block = allocate_unnoted(size, align, fit, caller);
    if !block.is_null() {
        let _errno = KeepErrno::new();
        api::note_sample(block, size);
    }
    block
}

fn allocate_unnoted(size: usize, align: usize, fit: Fit, caller: usize) -> *mut u8 {
    let Some(needed) = large::needed(size, align) else { return ptr::null_mut() };
    let start = api::allocate_unhurried(needed, size, align, fit);
    let Some(span) = arena::span_of(start.addr()) else { return ptr::null_mut() };
    if span.state() == SpanState::Large {
        return large::hand_out(span, size, align, caller);
    }
    // SAFETY: not null, since a span holds it.
    let block = unsafe { NonNull::new_unchecked(start.cast::<Block>()) };
    hand_out(span, block, size, caller)
}

/// Looks at the link that a plain pop of `block` has left at the head of its span's list.
pub fn check_list(block: *mut u8) {
    if let Some(span) = arena::span_of(block.addr()).filter(|span| span.state() != SpanState::Large)
        && !span.head_is_sound()
    {
        report::damaged_head(span);
    }
}

/// Gives a block that came off a free list its tail, after a look at the one it has.
#[inline(never)]
extern "C" fn hand_out(span: &Span, block: NonNull<Block>, size: usize, caller: usize) -> *mut u8 {
    let (at, block_size) = (block.as_ptr().cast::<u8>(), span.block_size());
    // SAFETY: a block of the span.
    let seal = unsafe { seal_of(at, block_size) };
    if seal.load(PLAIN) != key(at.addr()).free() {
        report::not_free(span, at);
    }
    if is_strong() {
        strong::check_fill(span, at, strong::Since::Listed);
        strong::fill_start(at, block_size);
    }
    // SAFETY: a block of the span that nobody else has.
    unsafe { end_at(at, block_size, size, caller) };
    at
}

/// Writes the tail of a block in use.
///
/// # Safety
/// The block is the caller's and holds `size` bytes and the seal.
pub(super) unsafe fn end_at(at: *mut u8, block_size: usize, size: usize, caller: usize) {
    let slack = slack(block_size, size);
    let word = key(at.addr()).used(slack, sites::number(caller));
    // Before the guard: see `allocate_checked`.
    // SAFETY: a block, as the caller says.
    unsafe { seal_of(at, block_size) }.store(word, PLAIN);
    // SAFETY: at least `ROOM` bytes of the block lie behind what was asked for.
    unsafe { at.wrapping_add(block_size - slack).cast::<u32>().write_unaligned(guard(word, slack)) };
}

/// Makes the `count` blocks at the front of a span's list, which have just been linked in the order of their addresses, as
/// free blocks are here.
#[cold]
pub fn prepare(span: &Span, count: usize) {
    let size = span.block_size();
    let first = span.head().cast::<u8>();
    if !is_strong() {
        for at in (0..count).map(|i| first.wrapping_add(i * size)) {
            // SAFETY: a free block of the caller's span.
            unsafe { seal_of(at, size) }.store(key(at.addr()).free(), PLAIN);
        }
        return;
    }
    let rest = span.after(count);
    for at in (0..count).map(|i| first.wrapping_add(i * size)) {
        // The link goes with it, and is made anew below.
        strong::fill(at, size);
        // SAFETY: a free block of the caller's span.
        unsafe { seal_of(at, size) }.store(key(at.addr()).free(), PLAIN);
    }
    strong::relink(span, first.addr(), count, rest);
}
