//! Allocating and freeing: the fast paths, and where they hand over.

use std::ptr::{self, NonNull};

use tiermem_sys::thread::KeepErrno;

use crate::geometry::UNIT_SIZE;
use crate::harden::Claim;
use crate::heap::{self, Demand, Heap, View, tls};
use crate::pool::Fit;
use crate::size_class::{ALIGNMENT_MIN, CLASS_MAX, SMALL_MAX, SizeClass};
use crate::span::{Block, Span, State, TILE};
use crate::{arena, clock, control, errno, harden, large, place, profile, purge, startup};

pub use crate::resize::{reallocate, reallocate_by};

/// Largest request that is served at all, bytes: `PTRDIFF_MAX`, as the C standard library has it.
pub const REQUEST_MAX: usize = isize::MAX as usize;

/// Allocates `size` bytes, aligned to 16. Null, with `errno` set to `ENOMEM`, if there is no memory. A size of 0 gives a
/// block of its own.
#[inline(always)]
pub fn allocate(size: usize) -> *mut u8 {
    match allocate_fast(size) {
        Some(block) => block.as_ptr(),
        None => allocate_slow(size, UNKNOWN),
    }
}

/// The caller of a function here, where the function was not told: a return address, kept by hardened processes for reports.
pub const UNKNOWN: usize = 0;

/// The fast path alone; `None` if the slow path is due.
#[inline(always)]
pub fn allocate_fast(size: usize) -> Option<NonNull<u8>> {
    if size <= SMALL_MAX { tls::current().pop_small(size).map(NonNull::cast) } else { None }
}

/// What [`allocate`] does when its fast path cannot. `caller` is the program's return address, or [`UNKNOWN`].
#[inline(never)]
pub extern "C" fn allocate_slow(size: usize, caller: usize) -> *mut u8 {
    if harden::sees_requests() {
        return harden::allocate(size, caller);
    }
    match SizeClass::of(size).and_then(|class| allocate_class(tls::current, class)) {
        Some(block) => block.as_ptr(),
        None => allocate_any(size, ALIGNMENT_MIN),
    }
}

/// Serves a class from its current span: from what the span may still give out, or else from what it has got back
/// meanwhile or never given out.
#[inline]
fn allocate_class(view: impl FnOnce() -> &'static View, class: SizeClass) -> Option<NonNull<u8>> {
    if place::is_ruled(class) {
        return None;
    }
    let view = view();
    view.pop(class).or_else(|| view.pop_after_refill(class)).map(NonNull::cast)
}

/// Allocates `size` bytes at a multiple of `align`, which is a power of two. Null if there is no memory.
pub fn allocate_aligned(size: usize, align: usize) -> *mut u8 {
    allocate_aligned_by(UNKNOWN, size, align)
}

/// As [`allocate_aligned`], for the code at `caller`.
pub fn allocate_aligned_by(caller: usize, size: usize, align: usize) -> *mut u8 {
    if align <= ALIGNMENT_MIN {
        return allocate_fast(size).map_or_else(|| allocate_slow(size, caller), NonNull::as_ptr);
    }
    if harden::sees_requests() {
        return harden::allocate_aligned(size, align, caller);
    }
    allocate_from(tls::current, size, align)
}

/// As [`allocate_aligned`], for a thread whose view is closed: nobody else hears of it.
#[inline(never)]
pub fn allocate_open(size: usize, align: usize) -> *mut u8 {
    allocate_from(|| tls::heap_or_empty().open(), size, align)
}

#[inline(always)]
fn allocate_from(view: impl FnOnce() -> &'static View, size: usize, align: usize) -> *mut u8 {
    // Spans start at multiples of a unit, and so do not align blocks any better.
    if align <= UNIT_SIZE
        && let Some(block) = SizeClass::of_aligned(size, align).and_then(|class| allocate_class(view, class))
    {
        return block.as_ptr();
    }
    allocate_any(size, align)
}

fn allocate_any(size: usize, align: usize) -> *mut u8 {
    allocate_fitting(size, align, Fit::Tight)
}

/// The slow path: with the stack and the registers to do whatever is due.
#[inline(never)]
pub fn allocate_fitting(size: usize, align: usize, fit: Fit) -> *mut u8 {
    let block = allocate_unhurried(size, size, align, fit);
    if block.is_null() {
        errno::set(errno::ENOMEM);
    }
    block
}

/// Allocates `size` bytes where a request of `asked` bytes should go; without a tail, whatever the mode.
pub fn allocate_unhurried(size: usize, asked: usize, align: usize, fit: Fit) -> *mut u8 {
    if align > REQUEST_MAX || size > REQUEST_MAX - align {
        return ptr::null_mut();
    }
    let _errno = KeepErrno::new();
    tls::current().refresh();
    let Some(lease) = heap::lease() else { return ptr::null_mut() };
    let heap = lease.heap();
    let busy = heap.busy();
    heap.open().refresh();
    heap.outbox().send_all();
    heap.collect();
    let demand = match SizeClass::of_aligned(size, align) {
        // Spans start at multiples of a unit, and so do not align blocks any better.
        Some(class) if align <= UNIT_SIZE => Demand::Class(class),
        _ => Demand::Large(size, align, fit),
    };
    let block = place::allocate(heap, demand, asked);
    // A hardened block is none before it has its tail. But nobody else has its span until here.
    if harden::has_tails() {
        harden::check_list(block);
    }
    drop(busy);
    if !block.is_null() && !harden::has_tails() {
        note_sample(block, asked);
    }
    let now = clock::now_ms();
    heap.note_awake(now);
    startup::publish_child_if_due(now);
    control::publish_if_due(now);
    purge::start_if_wanted();
    block
}

/// Tells the heap profile of a block that is a sample.
#[inline]
pub fn note_sample(block: *mut u8, size: usize) {
    if profile::interval() != 0
        && let Some(span) = arena::span_of(block.addr())
        && span.is_sampled()
    {
        profile::record(block.addr(), size, span.tier());
    }
}

/// Allocates `size` zeroed bytes.
pub fn allocate_zeroed(size: usize, align: usize) -> *mut u8 {
    allocate_zeroed_by(UNKNOWN, size, align)
}

/// As [`allocate_zeroed`], for the code at `caller`.
pub fn allocate_zeroed_by(caller: usize, size: usize, align: usize) -> *mut u8 {
    let block = allocate_aligned_by(caller, size, align);
    if block.is_null() {
        return block;
    }
    let fresh = size > CLASS_MAX && arena::span_of(block.addr()).is_some_and(Span::is_zeroed);
    if !fresh {
        // SAFETY: a new block of at least `size` bytes.
        unsafe { block.write_bytes(0, size) };
    }
    block
}

/// Frees a block.
///
/// # Safety
/// `at` is null, or was allocated here and is not used any more.
#[inline(always)]
pub unsafe fn free(at: *mut u8) {
    // SAFETY: passed on to the caller.
    unsafe { free_or(at, |record| free_slow(at, record, UNKNOWN)) };
}

/// The fast path of freeing; `slow` with the unit's record where it cannot.
///
/// # Safety
/// As for [`free`].
#[inline(always)]
unsafe fn free_or(at: *mut u8, slow: impl FnOnce(&'static Span)) {
    let Some(record) = arena::record_of(at.addr()) else { return free_elsewhere(at, UNKNOWN) };
    if record.lock() != tls::key() {
        return slow(record);
    }
    // SAFETY: the record says that the block is of a span of this thread's heap; it is the caller's to free.
    if unsafe { record.push(at.cast::<Block>()) } {
        free_attend(record);
    }
}

/// As [`free`]; hardened processes report a block that is not of this size and alignment.
///
/// # Safety
/// As for [`free`].
#[inline(always)]
pub unsafe fn free_sized(at: *mut u8, size: usize, align: usize) {
    // SAFETY: passed on to the caller.
    unsafe { free_or(at, |record| free_claimed(at, record, UNKNOWN, size, align)) };
}

/// A free that brought a span's `frees_left` to 0.
#[cold]
#[inline(never)]
pub extern "C" fn free_attend(span: &'static Span) {
    if let Some(heap) = tls::attached() {
        let _errno = KeepErrno::new();
        heap.attend(span);
        purge::start_if_wanted();
    }
}

/// Frees what the fast path could not: blocks of other threads, of multi-unit spans, and large ones.
///
/// # Safety
/// As for [`free`]; `record` is that of the block's unit.
#[inline(never)]
pub unsafe extern "C" fn free_slow(at: *mut u8, record: &'static Span, caller: usize) {
    if harden::sees_frees() {
        return harden::free_any(at, caller, Claim::NONE);
    }
    // SAFETY: passed on to the caller.
    unsafe { free_unseen(at, record) };
}

/// Frees a block without anybody looking at it.
///
/// # Safety
/// As for [`free`].
pub unsafe fn free_plain(at: *mut u8) {
    match arena::record_of(at.addr()) {
        // SAFETY: passed on to the caller.
        Some(record) => unsafe { free_unseen(at, record) },
        None => foreign(at),
    }
}

/// As [`free_plain`]; `record` is that of the block's unit.
#[inline(always)]
unsafe fn free_unseen(at: *mut u8, record: &'static Span) {
    let block = at.cast::<Block>();
    // A record that names a heap is a span's first one.
    match record.owner() {
        // SAFETY: passed on to the caller.
        Some(owner) => unsafe { free_to(owner, record, block) },
        // SAFETY: passed on to the caller.
        None => unsafe { free_by_span(at) },
    }
}

/// As [`free_slow`], of a caller that says what the block's size (`usize::MAX` if nothing) and alignment are.
///
/// # Safety
/// As there.
pub unsafe extern "C" fn free_claimed(at: *mut u8, record: &'static Span, caller: usize, size: usize, align: usize) {
    if harden::sees_frees() {
        return harden::free_any(at, caller, Claim { size, align });
    }
    // SAFETY: passed on to the caller.
    unsafe { free_slow(at, record, caller) };
}

/// Gives back a large block, which the program had at `at`.
pub fn free_large(span: &'static Span, at: *mut u8) {
    let _errno = KeepErrno::new();
    if span.is_sampled() {
        profile::forget(at.addr());
    }
    large::free(span);
    purge::start_if_wanted();
}

/// Gives a block of a class to the heap that owns its span.
///
/// # Safety
/// The block is of the span, in use, and the caller's to free.
pub unsafe fn deliver(span: &'static Span, block: *mut Block) {
    match span.owner() {
        // SAFETY: passed on to the caller.
        Some(owner) => unsafe { free_to(owner, span, block) },
        None => foreign(block.cast()),
    }
}

/// Frees a block of a span that belongs to `owner`.
#[inline(always)]
unsafe fn free_to(owner: &'static Heap, span: &'static Span, block: *mut Block) {
    if span.is_sampled() {
        profile::forget(block.addr());
    }
    match tls::attached() {
        // SAFETY: the block is of this thread's heap, and the caller's to free.
        Some(heap) if ptr::eq(heap, owner) => unsafe { heap.free_own(span, block) },
        // SAFETY: the block is of `owner`'s, and the caller's to free.
        Some(heap) if span.block_size() <= OUTBOX_BLOCK_MAX => unsafe {
            heap.outbox().put(owner, block, span.block_size());
        },
        // A thread that has no heap (it ends, or never allocated) sends block by block.
        // SAFETY: as above.
        _ => unsafe { owner.send(block, block) },
    }
}

/// Frees a block whose unit's record names no owner: it is large, or lies in a later unit of its span, or was never
/// allocated here.
unsafe fn free_by_span(at: *mut u8) {
    let Some(span) = arena::span_of(at.addr()) else { return foreign(at) };
    if span.state() == State::Large {
        return if span.start() == at.addr() { free_large(span, at) } else { foreign(at) };
    }
    // SAFETY: passed on to the caller.
    unsafe { deliver(span, at.cast()) };
}

/// Larger blocks are sent home at once.
const OUTBOX_BLOCK_MAX: usize = 8 << 10;

/// Frees an address outside the arena: null, or one that was never allocated here.
#[cold]
#[inline(never)]
pub extern "C" fn free_elsewhere(at: *mut u8, caller: usize) {
    if at.is_null() {
        return;
    }
    if harden::has_tails() { harden::free_elsewhere(at, caller) } else { foreign(at) }
}

/// Something was freed that was never allocated here: the program's error, or a block from before the library was
/// loaded. It is left alone, and counted.
#[cold]
#[inline(never)]
pub fn foreign(at: *mut u8) {
    let _ = at;
    control::event(control::EventKind::ForeignFree, None, 0);
}

/// Bytes that the program may use of the block at `at`; 0 for null and for what was not allocated here.
pub fn usable_size(at: *const u8) -> usize {
    usable_size_by(UNKNOWN, at)
}

/// As [`usable_size`], for the code at `caller`.
pub fn usable_size_by(caller: usize, at: *const u8) -> usize {
    if harden::has_tails() {
        return harden::usable_size(at, caller);
    }
    arena::span_of(at.addr()).map_or(0, |span| match span.state() {
        State::Large => span.size().next_multiple_of(UNIT_SIZE),
        _ => block_size(span, at.addr()),
    })
}

/// Bytes of the block at `at` of a span with classes.
pub fn block_size(span: &Span, at: usize) -> usize {
    match span.tiles() {
        Some(tiles) => tiles.length((at - span.start()) / TILE) * TILE,
        None => span.block_size(),
    }
}

/// Whether the address is in the arena.
pub fn owns(at: *const u8) -> bool {
    arena::span_of(at.addr()).is_some()
}

/// The tier of a block's memory.
pub fn tier_of(at: *const u8) -> Option<u8> {
    arena::span_of(at.addr()).map(Span::tier)
}
