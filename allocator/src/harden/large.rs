//! Large blocks of a hardened process.
//!
//! ```text
//! check    | block …                  | guard | …                                   |
//! strong   | OS page, | block …       | guard | filled to the | inaccessible to the |
//!          | inaccessible             |         end of its OS page | end of the units |
//! ```
//!
//! What is known of one stands in the record of its first unit, out of the program's reach.

use std::ptr::NonNull;

use tiermem_sys::map::{self, Advice};

use super::free::Claim;
use super::report::{self, Deed};
use super::tail::ROOM;
use super::{ZERO, class_of, flags, is_strong, key, quarantine, strong};
use crate::geometry::UNIT_SIZE;
use crate::span::Span;
use crate::{api, tiers};

/// Bytes to be asked of a tier for a block of `size` at a multiple of `align`; `None` if there are no such blocks.
pub fn needed(size: usize, align: usize) -> Option<usize> {
    let bare = size.checked_add(ROOM).filter(|&bare| bare <= api::REQUEST_MAX)?;
    let has_class = align <= UNIT_SIZE && class_of(size, align).is_some();
    if has_class || !is_strong() {
        return Some(bare);
    }
    let os_page = map::os_page_size();
    bare.checked_next_multiple_of(os_page)?.checked_add(os_page + front(align)).filter(|&all| all <= api::REQUEST_MAX)
}

/// Bytes before a block of the strong mode. Where they would spoil the alignment, there are none.
fn front(align: usize) -> usize {
    let os_page = map::os_page_size();
    if align <= os_page && os_page < UNIT_SIZE { os_page } else { 0 }
}

/// Where the block begins.
pub fn block_of(span: &Span) -> *mut u8 {
    let front = if span.is_fronted() { map::os_page_size() } else { 0 };
    std::ptr::with_exposed_provenance_mut(span.start() + front)
}

fn units_len(span: &Span) -> usize {
    span.size().next_multiple_of(UNIT_SIZE)
}

/// Bytes of a strong block up to where it becomes inaccessible.
fn open_len(asked: usize) -> usize {
    (asked + ROOM).next_multiple_of(map::os_page_size())
}

/// Gives a large block its tail. Returns its address.
pub fn hand_out(span: &Span, size: usize, align: usize, caller: usize) -> *mut u8 {
    span.set_fronted(is_strong() && front(align) > 0);
    let at = block_of(span);
    end_at(span, at, size, caller);
    if is_strong() {
        // SAFETY: our own units, of which the program gets what lies between.
        unsafe { strong::fill_bytes(at, size + ROOM, open_len(size)) };
        // Without the guards, where the process has too many mappings already, the tail remains.
        let front = at.addr() - span.start();
        let behind = at.wrapping_add(open_len(size));
        set_accessible(std::ptr::with_exposed_provenance_mut(span.start()), front, false);
        set_accessible(behind, units_len(span) - front - open_len(size), false);
    }
    at
}

/// Writes the tail of a large block.
pub fn end_at(span: &Span, at: *mut u8, size: usize, caller: usize) {
    // SAFETY: the units hold `ROOM` bytes more than was asked for.
    unsafe { at.wrapping_add(size).cast::<u64>().write_unaligned(key(at.addr()).free()) };
    span.set_asked(size, caller);
}

fn set_accessible(at: *mut u8, len: usize, accessible: bool) -> bool {
    let Some(start) = NonNull::new(at).filter(|_| len > 0) else { return false };
    // SAFETY: units of a large block that the caller has, of which the program may use none now.
    unsafe { map::protect(start, len, accessible) }.is_ok()
}

/// As [`is_guarded`], of a block that may become inaccessible meanwhile; `None` if it is.
pub fn is_guarded_still(at: *mut u8, asked: usize) -> Option<bool> {
    let mut guard = [0; ROOM];
    map::read_if_mapped(at.wrapping_add(asked), &mut guard).then(|| u64::from_ne_bytes(guard) == key(at.addr()).free())
}

/// Whether what follows the `asked` bytes at `at` is as it was left.
pub fn is_guarded(at: *mut u8, asked: usize) -> bool {
    // SAFETY: in the block's units.
    let found = unsafe { at.wrapping_add(asked).cast::<u64>().read_unaligned() };
    let whole = found == key(at.addr()).free();
    // SAFETY: in the block's accessible part.
    whole && (!is_strong() || unsafe { strong::is_filled(at, asked + ROOM, open_len(asked)) })
}

/// Frees a large block.
pub fn free(span: &'static Span, at: *mut u8, caller: usize, claim: Claim) {
    if block_of(span) != at {
        return report::bad_free(at, caller, Deed::Free);
    }
    let Some(asked) = span.claim_asked(caller) else { return report::bad_free(at, caller, Deed::Free) };
    if !is_guarded(at, asked) {
        report::large_overflow(span, at, asked, caller);
    }
    let wrong_size = claim.size != usize::MAX && claim.size != asked;
    if wrong_size || (claim.align > 1 && at.addr() & (claim.align - 1) != 0) {
        report::wrong_claim(span, at, asked, claim, caller);
    }
    if is_strong() {
        return seclude(span, at);
    }
    if flags() & ZERO != 0 {
        wipe(span);
    }
    api::free_large(span, at);
}

/// Makes a freed block inaccessible and keeps it back for a while: whoever still uses it ends there.
fn seclude(span: &'static Span, at: *mut u8) {
    // The guards are part of it.
    set_accessible(std::ptr::with_exposed_provenance_mut(span.start()), units_len(span), true);
    let empty = flags() & ZERO == 0 && give_memory_back(span);
    if flags() & ZERO != 0 {
        wipe(span);
    }
    set_accessible(std::ptr::with_exposed_provenance_mut(span.start()), units_len(span), false);
    quarantine::keep_large(span, at, empty);
}

/// Ends the quarantine of a large block.
pub fn release(span: &'static Span) {
    let start = std::ptr::with_exposed_provenance_mut(span.start());
    if set_accessible(start, units_len(span), true) {
        api::free_large(span, block_of(span));
    }
    // Else it stays as it is for good: what it holds cannot be handed out again.
}

/// Gives the memory of a block back to the OS, where that can be done in parts.
fn give_memory_back(span: &Span) -> bool {
    let Some(start) = NonNull::new(std::ptr::with_exposed_provenance_mut(span.start())) else { return false };
    tiers::pool(span.tier()).backing().can_purge()
        // SAFETY: the block is nobody's any more.
        && unsafe { map::advise(start, units_len(span), Advice::DontNeed) }.is_ok()
}

/// Zeroes a block that is nobody's any more.
pub fn wipe(span: &Span) {
    if !give_memory_back(span) {
        let start = std::ptr::with_exposed_provenance_mut::<u8>(span.start());
        // SAFETY: the units of the block, which are accessible.
        unsafe { start.write_bytes(0, units_len(span)) };
    }
}
