//! `memcpy` and its kin.
//!
//! Each is passed on to the C library, and counts as the bytes that its definition says it reads and writes: a search
//! up to and with what it finds, a comparison up to and with the first difference.

use std::ffi::{c_int, c_void};

use crate::buffer::range;
use crate::real::{Compare3, Copy3, Find3, Real, Set3};
use crate::state::is_quiet;

static COPY: Real<Copy3> = Real::new(c"memcpy");
static MOVE: Real<Copy3> = Real::new(c"memmove");
static SET: Real<Set3> = Real::new(c"memset");
static COMPARE: Real<Compare3> = Real::new(c"memcmp");
static FIND: Real<Find3> = Real::new(c"memchr");
static FIND_LAST: Real<Find3> = Real::new(c"memrchr");

/// The program reads so many bytes.
pub fn reads<T>(at: *const T, len: usize) {
    range(at.addr() as u64, len as u64, false);
}

/// The program writes so many bytes.
pub fn writes<T>(at: *mut T, len: usize) {
    range(at.addr() as u64, len as u64, true);
}

/// # Safety
/// As memcpy(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void {
    reads(from, len);
    writes(to, len);
    // SAFETY: passed on to the caller.
    unsafe { COPY.get()(to, from, len) }
}

/// # Safety
/// As memmove(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void {
    reads(from, len);
    writes(to, len);
    // SAFETY: passed on to the caller.
    unsafe { MOVE.get()(to, from, len) }
}

/// # Safety
/// As mempcpy(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn mempcpy(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void {
    // SAFETY: passed on to the caller.
    unsafe { memcpy(to, from, len) }.wrapping_byte_add(len)
}

/// # Safety
/// As bcopy(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn bcopy(from: *const c_void, to: *mut c_void, len: usize) {
    // SAFETY: passed on to the caller.
    unsafe { memmove(to, from, len) };
}

/// # Safety
/// As memset(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut c_void, byte: c_int, len: usize) -> *mut c_void {
    writes(to, len);
    // SAFETY: passed on to the caller.
    unsafe { SET.get()(to, byte, len) }
}

/// # Safety
/// As bzero(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn bzero(to: *mut c_void, len: usize) {
    // SAFETY: passed on to the caller.
    unsafe { memset(to, 0, len) };
}

/// # Safety
/// As memcmp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const c_void, b: *const c_void, len: usize) -> c_int {
    // SAFETY: passed on to the caller.
    let answer = unsafe { COMPARE.get()(a, b, len) };
    if !is_quiet() {
        // SAFETY: both are readable as far as that.
        let same = unsafe { same(a.cast(), b.cast(), len) };
        let seen = len.min(same + 1);
        reads(a, seen);
        reads(b, seen);
    }
    answer
}

/// # Safety
/// As bcmp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const c_void, b: *const c_void, len: usize) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { memcmp(a, b, len) }
}

/// Bytes before the first difference.
///
/// # Safety
/// Both are readable up to the first difference, or for `len` bytes.
unsafe fn same(a: *const u8, b: *const u8, len: usize) -> usize {
    // SAFETY: passed on to the caller; a position is looked at only if all before it are the same.
    (0..len).position(|at| unsafe { *a.add(at) != *b.add(at) }).unwrap_or(len)
}

/// # Safety
/// As memchr(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memchr(at: *const c_void, byte: c_int, len: usize) -> *mut c_void {
    // SAFETY: passed on to the caller.
    let found = unsafe { FIND.get()(at, byte, len) };
    reads(at, if found.is_null() { len } else { found.addr() - at.addr() + 1 });
    found
}

/// # Safety
/// As memrchr(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memrchr(at: *const c_void, byte: c_int, len: usize) -> *mut c_void {
    // SAFETY: passed on to the caller.
    let found = unsafe { FIND_LAST.get()(at, byte, len) };
    let from = if found.is_null() { at } else { found.cast_const() };
    reads(from, at.addr() + len - from.addr());
    found
}
