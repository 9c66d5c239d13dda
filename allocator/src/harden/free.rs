//! Freeing in a hardened process.

use tiermem_sys::sync::atomic::Ordering;
use tiermem_sys::thread::KeepErrno;

use super::allocate::seal_of;
use super::report::{self, Deed};
use super::tail::{Key, ROOM, State, guard, is_rounded};
use super::{ZERO, flags, has_tails, is_strong, key, large, quarantine, sites, strong};
use crate::geometry::UNIT_SIZE;
use crate::heap::{Heap, tls};
use crate::span::{Block, Span, State as SpanState};
use crate::{api, arena, purge, recorder};

/// See `allocate`.
const PLAIN: Ordering = Ordering::Relaxed;

/// What the caller says about the block beside its address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claim {
    /// Its size; `usize::MAX` if nothing was said.
    pub size: usize,
    /// Its alignment; 0 if nothing was said.
    pub align: usize,
}

impl Claim {
    /// Nothing is said.
    pub const NONE: Self = Self { size: usize::MAX, align: 0 };
}

/// The fast path of the check mode: frees the block at `at` for the code at `caller`; `record` is that of its unit.
///
/// Everything unusual is a jump to [`free_any`], which looks at it all once more and reports.
///
/// # Safety
/// As for [`api::free`], as far as it can be: what can be seen to be wrong is reported.
#[inline(never)]
pub unsafe extern "C" fn free_checked(at: *mut u8, record: &'static Span, caller: usize) {
    let size = record.block_size();
    let own = std::ptr::eq(record.lock(), tls::heap()) && at.addr().is_multiple_of(16);
    if !own || (at.addr() & (UNIT_SIZE - 1)) + size > UNIT_SIZE {
        return free_plainly(at, caller);
    }
    let key = key(at.addr());
    // SAFETY: the unit is of this thread's span, and the word lies in it.
    let seal = unsafe { seal_of(at, size) };
    let old = seal.load(PLAIN);
    let Some(site) = sites::known(caller) else { return free_plainly(at, caller) };
    let Some(slack) = key.slack_if_used(old) else { return free_plainly(at, caller) };
    if !is_guarded(at, size, slack, old) {
        return free_plainly(at, caller);
    }
    // In a block of 16 bytes the second word is the seal, at which others may be looking; the first one becomes the link.
    // SAFETY: the block was in use and is free now.
    unsafe { at.cast::<u64>().add(usize::from(size > 16)).write(key.epitaph(old, site)) };
    seal.store(key.free(), PLAIN);
    // SAFETY: the block is of this thread's span, and was in use.
    if unsafe { record.push(at.cast::<Block>()) } {
        api::free_attend(record);
    }
}

#[inline(never)]
extern "C" fn free_plainly(at: *mut u8, caller: usize) {
    free_any(at, caller, Claim::NONE);
}

/// Whether the bytes behind what was asked for are as they were left.
#[inline(always)]
pub(super) fn is_guarded(at: *mut u8, block_size: usize, slack: usize, seal: u64) -> bool {
    // SAFETY: inside the block: at most `slack` bytes before its end, and at least `ROOM`.
    let found = unsafe { at.wrapping_add(block_size - slack).cast::<u32>().read_unaligned() };
    found == guard(seal, slack)
}

/// The general way: any thread's blocks, large ones, claims, the strong mode.
#[inline(never)]
pub fn free_any(at: *mut u8, caller: usize, claim: Claim) {
    recorder::freed(at.addr());
    free_unrecorded(at, caller, claim);
}

/// As [`free_any`], of a block whose end is recorded otherwise.
pub(super) fn free_unrecorded(at: *mut u8, caller: usize, claim: Claim) {
    if !has_tails() {
        // SAFETY: the caller frees the block.
        return if flags() & ZERO != 0 { free_zeroed(at) } else { unsafe { api::free_plain(at) } };
    }
    let Some(span) = arena::span_of(at.addr()) else { return report::bad_free(at, caller, Deed::Free) };
    if span.state() == SpanState::Large {
        return large::free(span, at, caller, claim);
    }
    let Some((key, old, slack)) = look(span, at) else { return report::bad_free(at, caller, Deed::Free) };
    let size = span.block_size();
    if !is_guarded(at, size, slack, old) || (is_strong() && !strong::is_slack_whole(at, size, slack)) {
        report::overflow(span, at, slack, caller);
    }
    check_neighbour(span, at, caller);
    let asked = size - slack;
    let wrong_size = claim.size != usize::MAX && claim.size != asked && !is_rounded(slack);
    if wrong_size || (claim.align > 1 && at.addr() & (claim.align - 1) != 0) {
        report::wrong_claim(span, at, asked, claim, caller);
    }
    let site = sites::number(caller);
    let own = span.owner().is_some_and(|owner| std::ptr::eq(owner, tls::heap()));
    let new = match () {
        () if is_strong() => key.quarantined(site),
        () if own => key.free(),
        () => key.travelling(site),
    };
    // SAFETY: a block of the span, as `look` has seen.
    let seal = unsafe { seal_of(at, size) };
    // Relaxed: whoever else frees it sees that it has come too late; the block's contents go to its owner by the inbox.
    if seal.compare_exchange(old, new, PLAIN, PLAIN).is_err() {
        return report::bad_free(at, caller, Deed::Free);
    }
    if flags() & ZERO != 0 {
        // SAFETY: the block was in use, and is ours now.
        unsafe { at.write_bytes(0, asked) };
    }
    if is_strong() {
        strong::fill(at, size);
    }
    if size > 16 {
        // SAFETY: as above; the second word is not the seal.
        unsafe { at.cast::<u64>().add(1).write(key.epitaph(old, site)) };
    }
    if is_strong() { quarantine::keep(span, at) } else { send_home(span, at) }
}

/// Key, seal and slack of the block in use that starts at `at`; `None` if none does.
pub(super) fn look(span: &Span, at: *mut u8) -> Option<(Key, u64, usize)> {
    let size = span.block_size();
    let inside = at.addr() >= span.start() && at.addr() + size <= span.units_end();
    if !inside || !at.addr().is_multiple_of(16) {
        return None;
    }
    let key = key(at.addr());
    // SAFETY: the word lies in the span's units.
    let seal = unsafe { seal_of(at, size) }.load(PLAIN);
    Some((key, seal, key.slack_if_used(seal)?))
}

/// Looks at the seal of the block before this one, which is the word before it: who writes below a block spoils it, and so
/// does who writes beyond that block.
fn check_neighbour(span: &Span, at: *mut u8, caller: usize) {
    let size = span.block_size();
    if at.addr() == span.start() {
        return;
    }
    let before = at.wrapping_sub(size);
    // SAFETY: the block before is one of the span's.
    let seal = unsafe { seal_of(before, size) }.load(PLAIN);
    if key(before.addr()).open(seal).is_none() {
        report::broken_between(span, before, at, caller);
    }
}

/// Gives a block that is no longer in use to its owner.
pub(super) fn send_home(span: &'static Span, at: *mut u8) {
    let _errno = KeepErrno::new();
    // SAFETY: the seal said that the block was in use; whoever turned it has the block alone.
    unsafe { api::deliver(span, at.cast::<Block>()) };
    purge::start_if_wanted();
}

/// A block has come through the inbox of `heap`: it becomes a free one. False, after a report, if it is none.
pub fn arrives(heap: &Heap, block: *mut Block) -> bool {
    let at = block.cast::<u8>();
    let span = arena::is_known(at.addr()).then(|| arena::span_of(at.addr())).flatten();
    let Some(span) = span.filter(|span| span.is_of(heap) && span.is_block(at.addr())) else {
        report::damaged_message(at);
        return false;
    };
    let key = key(at.addr());
    // SAFETY: a block of the span.
    let seal = unsafe { seal_of(at, span.block_size()) };
    if key.open(seal.load(PLAIN)) != Some(State::Travelling) {
        report::not_free(span, at);
        return false;
    }
    seal.store(key.free(), PLAIN);
    true
}

/// Frees an address outside the arena.
#[cold]
pub fn free_elsewhere(at: *mut u8, caller: usize) {
    report::bad_free(at, caller, Deed::Free);
}

/// Without tails: only zeroes what is freed.
fn free_zeroed(at: *mut u8) {
    let Some(span) = arena::span_of(at.addr()) else { return api::foreign(at) };
    if span.state() == SpanState::Large {
        if span.start() != at.addr() {
            return api::foreign(at);
        }
        large::wipe(span);
        return api::free_large(span, at);
    }
    // SAFETY: the caller frees the block, which holds that many bytes.
    unsafe { at.write_bytes(0, api::block_size(span, at.addr())) };
    // SAFETY: as above.
    unsafe { api::deliver(span, at.cast::<Block>()) };
}

const _: () = assert!(ROOM == size_of::<u64>());
