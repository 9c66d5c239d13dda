//! The functions of `tiermem.h`.

use std::ffi::{CStr, c_char, c_int, c_void};

use tiermem::api;

/// The tier's number, or -1.
///
/// # Safety
/// `name` is null or a C string.
#[unsafe(no_mangle)]
unsafe extern "C" fn tm_tier(name: *const c_char) -> c_int {
    if name.is_null() {
        return -1;
    }
    // SAFETY: passed on to the caller.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_str().ok().and_then(tiermem::tier).map_or(-1, |tier| c_int::from(tier.0))
}

/// The number of tiers.
#[unsafe(no_mangle)]
extern "C" fn tm_tier_count() -> c_int {
    tiermem::tier_count() as c_int
}

/// Has the calling thread allocate from this tier until the matching `tm_hint_pop`. 0, or -1 for an unknown tier.
#[unsafe(no_mangle)]
extern "C" fn tm_hint_push(tier: c_int) -> c_int {
    let Some(tier) = u8::try_from(tier).ok().and_then(tiermem::tier_numbered) else { return -1 };
    if tiermem::push_hint(tier) { 0 } else { -1 }
}

/// Ends the innermost hint. 0, or -1 if there is none.
#[unsafe(no_mangle)]
extern "C" fn tm_hint_pop() -> c_int {
    if tiermem::pop_hint() { 0 } else { -1 }
}

/// Allocates from this tier. Null if there is no memory or no such tier.
#[unsafe(no_mangle)]
extern "C" fn tm_malloc(tier: c_int, size: usize) -> *mut c_void {
    let Some(tier) = u8::try_from(tier).ok().and_then(tiermem::tier_numbered) else { return std::ptr::null_mut() };
    tiermem::scope(tier, || api::allocate(size)).cast()
}

/// The number of the tier that the block lies in, or -1.
///
/// # Safety
/// `at` is null or a block.
#[unsafe(no_mangle)]
unsafe extern "C" fn tm_tier_of(at: *const c_void) -> c_int {
    api::tier_of(at.cast()).map_or(-1, c_int::from)
}

/// Copies out of memory that may have gone bad. 0, or an error number.
///
/// # Safety
/// As [`tiermem::read_guarded`]; `into` is writable for `size` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn tm_read_guarded(from: *const c_void, into: *mut c_void, size: usize) -> c_int {
    if size == 0 {
        return 0;
    }
    // SAFETY: passed on to the caller.
    let into = unsafe { std::slice::from_raw_parts_mut(into.cast::<u8>(), size) };
    // SAFETY: passed on to the caller.
    number(unsafe { tiermem::read_guarded(from.cast(), into) })
}

/// Copies into memory that may have gone bad. 0, or an error number.
///
/// # Safety
/// As [`tiermem::write_guarded`]; `from` is readable for `size` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn tm_write_guarded(into: *mut c_void, from: *const c_void, size: usize) -> c_int {
    if size == 0 {
        return 0;
    }
    // SAFETY: passed on to the caller.
    let from = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), size) };
    // SAFETY: passed on to the caller.
    number(unsafe { tiermem::write_guarded(into.cast(), from) })
}

/// What `tiermem.h` promises for this outcome.
fn number(outcome: Result<(), tiermem::Error>) -> c_int {
    match outcome.map_err(|error| error.kind()) {
        Ok(()) => 0,
        Err(tiermem::ErrorKind::Poisoned { .. }) => tiermem::errno::POISONED,
        Err(tiermem::ErrorKind::Gone) => tiermem::errno::GONE,
        Err(_) => tiermem::errno::OTHER,
    }
}

/// Gives all free memory back to the OS and the tiers. Returns the number of bytes.
#[unsafe(no_mangle)]
extern "C" fn tm_purge() -> usize {
    tiermem::purge::purge_now() as usize
}

/// Brings the published statistics up to date.
#[unsafe(no_mangle)]
extern "C" fn tm_publish() {
    tiermem::control::publish();
}

/// What the process watches for: 0 nothing, 1 `check`, 2 `strong`.
#[unsafe(no_mangle)]
extern "C" fn tm_harden_mode() -> c_int {
    match tiermem::hardening() {
        tiermem::Hardening::Check => 1,
        tiermem::Hardening::Strong => 2,
        _ => 0,
    }
}
