//! `strlen` and its kin: strings that end with a zero.
//!
//! Each counts as the bytes that its definition says it reads and writes, the zero included: a search reads up to and with
//! what it finds, a comparison up to and with the first difference. Sets of bytes (`strspn`, `strcspn`, `strpbrk`) and what
//! `strstr` looks for count once, however often the C library looks at them.

use std::ffi::{c_char, c_int, c_void};

use crate::memory::{reads, writes};
use crate::real::{Len, Real};
use crate::state::is_quiet;

/// `to` and `from`.
type Two = unsafe extern "C" fn(*mut c_char, *const c_char) -> *mut c_char;
type TwoLen = unsafe extern "C" fn(*mut c_char, *const c_char, usize) -> *mut c_char;
type Compare = unsafe extern "C" fn(*const c_char, *const c_char) -> c_int;
type CompareLen = unsafe extern "C" fn(*const c_char, *const c_char, usize) -> c_int;
type Find = unsafe extern "C" fn(*const c_char, c_int) -> *mut c_char;
type FindString = unsafe extern "C" fn(*const c_char, *const c_char) -> *mut c_char;
type Span = unsafe extern "C" fn(*const c_char, *const c_char) -> usize;
type LenMax = unsafe extern "C" fn(*const c_char, usize) -> usize;
type CopyUntil = unsafe extern "C" fn(*mut c_void, *const c_void, c_int, usize) -> *mut c_void;

static LEN: Real<Len> = Real::new(c"strlen");
static LEN_MAX: Real<LenMax> = Real::new(c"strnlen");
static COPY: Real<Two> = Real::new(c"strcpy");
static COPY_TO_END: Real<Two> = Real::new(c"stpcpy");
static COPY_MAX: Real<TwoLen> = Real::new(c"strncpy");
static COPY_MAX_TO_END: Real<TwoLen> = Real::new(c"stpncpy");
static APPEND: Real<Two> = Real::new(c"strcat");
static APPEND_MAX: Real<TwoLen> = Real::new(c"strncat");
static COMPARE: Real<Compare> = Real::new(c"strcmp");
static COMPARE_MAX: Real<CompareLen> = Real::new(c"strncmp");
static FIND: Real<Find> = Real::new(c"strchr");
static FIND_OR_END: Real<Find> = Real::new(c"strchrnul");
static FIND_LAST: Real<Find> = Real::new(c"strrchr");
static FIND_STRING: Real<FindString> = Real::new(c"strstr");
static FIND_ANY: Real<FindString> = Real::new(c"strpbrk");
static SPAN: Real<Span> = Real::new(c"strspn");
static SPAN_OTHERS: Real<Span> = Real::new(c"strcspn");
static COPY_UNTIL: Real<CopyUntil> = Real::new(c"memccpy");

/// Bytes of a string with its end.
///
/// # Safety
/// It is one.
pub unsafe fn len(at: *const c_char) -> usize {
    // SAFETY: passed on to the caller.
    unsafe { LEN.get()(at) + 1 }
}

/// Bytes of a string before its end, as far as its first `max`.
///
/// # Safety
/// It is one, or has as many bytes.
pub unsafe fn len_before_end(at: *const c_char, max: usize) -> usize {
    // SAFETY: passed on to the caller.
    unsafe { LEN_MAX.get()(at, max) }
}

/// Bytes of a string with its end, as far as its first `max`.
///
/// # Safety
/// It is one, or has as many bytes.
pub unsafe fn len_max(at: *const c_char, max: usize) -> usize {
    // SAFETY: passed on to the caller.
    max.min(unsafe { len_before_end(at, max) } + 1)
}

/// # Safety
/// As strlen(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(at: *const c_char) -> usize {
    // SAFETY: passed on to the caller.
    let len = unsafe { LEN.get()(at) };
    reads(at, len + 1);
    len
}

/// # Safety
/// As strnlen(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strnlen(at: *const c_char, max: usize) -> usize {
    // SAFETY: passed on to the caller.
    let len = unsafe { LEN_MAX.get()(at, max) };
    reads(at, max.min(len + 1));
    len
}

/// What a copy reads and writes.
///
/// # Safety
/// As strcpy(3).
pub unsafe fn note_copy(to: *mut c_char, from: *const c_char) {
    if !is_quiet() {
        // SAFETY: passed on to the caller.
        let bytes = unsafe { len(from) };
        reads(from, bytes);
        writes(to, bytes);
    }
}

/// What a copy of at most so many bytes reads and writes: the rest is filled with zeros.
///
/// # Safety
/// As strncpy(3).
pub unsafe fn note_copy_max(to: *mut c_char, from: *const c_char, max: usize) {
    if !is_quiet() {
        // SAFETY: passed on to the caller.
        reads(from, unsafe { len_max(from, max) });
        writes(to, max);
    }
}

/// What appending at most so many bytes reads and writes.
///
/// # Safety
/// As strncat(3).
pub unsafe fn note_append(to: *mut c_char, from: *const c_char, max: usize) {
    if !is_quiet() {
        // SAFETY: passed on to the caller.
        let before = unsafe { len(to) };
        reads(to, before);
        // SAFETY: passed on to the caller.
        let read = unsafe { len_max(from, max) };
        reads(from, read);
        // SAFETY: passed on to the caller.
        let copied = unsafe { len_before_end(from, max) };
        writes(to.wrapping_add(before - 1), copied + 1);
    }
}

/// # Safety
/// As strcpy(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strcpy(to: *mut c_char, from: *const c_char) -> *mut c_char {
    // SAFETY: passed on to the caller.
    unsafe { note_copy(to, from) };
    // SAFETY: passed on to the caller.
    unsafe { COPY.get()(to, from) }
}

/// # Safety
/// As stpcpy(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn stpcpy(to: *mut c_char, from: *const c_char) -> *mut c_char {
    // SAFETY: passed on to the caller.
    unsafe { note_copy(to, from) };
    // SAFETY: passed on to the caller.
    unsafe { COPY_TO_END.get()(to, from) }
}

/// # Safety
/// As strncpy(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strncpy(to: *mut c_char, from: *const c_char, max: usize) -> *mut c_char {
    // SAFETY: passed on to the caller.
    unsafe { note_copy_max(to, from, max) };
    // SAFETY: passed on to the caller.
    unsafe { COPY_MAX.get()(to, from, max) }
}

/// # Safety
/// As stpncpy(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn stpncpy(to: *mut c_char, from: *const c_char, max: usize) -> *mut c_char {
    // SAFETY: passed on to the caller.
    unsafe { note_copy_max(to, from, max) };
    // SAFETY: passed on to the caller.
    unsafe { COPY_MAX_TO_END.get()(to, from, max) }
}

/// # Safety
/// As strcat(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strcat(to: *mut c_char, from: *const c_char) -> *mut c_char {
    // SAFETY: passed on to the caller.
    unsafe { note_append(to, from, usize::MAX) };
    // SAFETY: passed on to the caller.
    unsafe { APPEND.get()(to, from) }
}

/// # Safety
/// As strncat(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strncat(to: *mut c_char, from: *const c_char, max: usize) -> *mut c_char {
    // SAFETY: passed on to the caller.
    unsafe { note_append(to, from, max) };
    // SAFETY: passed on to the caller.
    unsafe { APPEND_MAX.get()(to, from, max) }
}

/// Bytes that a comparison of at most `max` looks at in each.
///
/// # Safety
/// Both are readable up to the first difference, the first end, or for `max` bytes.
unsafe fn compared(a: *const c_char, b: *const c_char, max: usize) -> usize {
    let decides = |at: &usize| {
        // SAFETY: a position is looked at only if nothing before it decides.
        let (a, b) = unsafe { (*a.add(*at), *b.add(*at)) };
        a != b || a == 0
    };
    (0..max).find(decides).map_or(max, |at| at + 1)
}

/// # Safety
/// As strcmp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strcmp(a: *const c_char, b: *const c_char) -> c_int {
    // SAFETY: passed on to the caller.
    let answer = unsafe { COMPARE.get()(a, b) };
    if !is_quiet() {
        // SAFETY: passed on to the caller.
        let seen = unsafe { compared(a, b, usize::MAX) };
        reads(a, seen);
        reads(b, seen);
    }
    answer
}

/// # Safety
/// As strncmp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strncmp(a: *const c_char, b: *const c_char, max: usize) -> c_int {
    // SAFETY: passed on to the caller.
    let answer = unsafe { COMPARE_MAX.get()(a, b, max) };
    if !is_quiet() {
        // SAFETY: passed on to the caller.
        let seen = unsafe { compared(a, b, max) };
        reads(a, seen);
        reads(b, seen);
    }
    answer
}

/// A search read up to and with what it found, or the whole string.
///
/// # Safety
/// `at` is a string, and `found` null or in it.
unsafe fn note_search(at: *const c_char, found: *const c_char) {
    if !is_quiet() {
        // SAFETY: passed on to the caller.
        reads(at, if found.is_null() { unsafe { len(at) } } else { found.addr() - at.addr() + 1 });
    }
}

/// # Safety
/// As strchr(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strchr(at: *const c_char, byte: c_int) -> *mut c_char {
    // SAFETY: passed on to the caller.
    let found = unsafe { FIND.get()(at, byte) };
    // SAFETY: passed on to the caller.
    unsafe { note_search(at, found) };
    found
}

/// # Safety
/// As strchrnul(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strchrnul(at: *const c_char, byte: c_int) -> *mut c_char {
    // SAFETY: passed on to the caller.
    let found = unsafe { FIND_OR_END.get()(at, byte) };
    // SAFETY: passed on to the caller.
    unsafe { note_search(at, found) };
    found
}

/// # Safety
/// As strrchr(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strrchr(at: *const c_char, byte: c_int) -> *mut c_char {
    // SAFETY: passed on to the caller.
    let found = unsafe { FIND_LAST.get()(at, byte) };
    // The last one is known at the end.
    // SAFETY: passed on to the caller.
    unsafe { note_search(at, std::ptr::null()) };
    found
}

/// # Safety
/// As strstr(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strstr(at: *const c_char, what: *const c_char) -> *mut c_char {
    // SAFETY: passed on to the caller.
    let found = unsafe { FIND_STRING.get()(at, what) };
    if !is_quiet() {
        // SAFETY: passed on to the caller.
        let bytes = unsafe { len(what) };
        reads(what, bytes);
        let end = if found.is_null() { found } else { found.wrapping_add(bytes - 1) };
        if end != at.cast_mut() {
            let last = if end.is_null() { end } else { end.wrapping_sub(1) };
            // SAFETY: passed on to the caller.
            unsafe { note_search(at, last) };
        }
    }
    found
}

/// # Safety
/// As strpbrk(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strpbrk(at: *const c_char, set: *const c_char) -> *mut c_char {
    // SAFETY: passed on to the caller.
    let found = unsafe { FIND_ANY.get()(at, set) };
    // SAFETY: passed on to the caller.
    unsafe { note_search(set, std::ptr::null()) };
    // SAFETY: passed on to the caller.
    unsafe { note_search(at, found) };
    found
}

/// # Safety
/// As strspn(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strspn(at: *const c_char, set: *const c_char) -> usize {
    // SAFETY: passed on to the caller.
    let len = unsafe { SPAN.get()(at, set) };
    // SAFETY: passed on to the caller.
    unsafe { note_search(set, std::ptr::null()) };
    reads(at, len + 1);
    len
}

/// # Safety
/// As strcspn(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strcspn(at: *const c_char, set: *const c_char) -> usize {
    // SAFETY: passed on to the caller.
    let len = unsafe { SPAN_OTHERS.get()(at, set) };
    // SAFETY: passed on to the caller.
    unsafe { note_search(set, std::ptr::null()) };
    reads(at, len + 1);
    len
}

/// # Safety
/// As memccpy(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memccpy(to: *mut c_void, from: *const c_void, byte: c_int, max: usize) -> *mut c_void {
    // SAFETY: passed on to the caller.
    let end = unsafe { COPY_UNTIL.get()(to, from, byte, max) };
    let bytes = if end.is_null() { max } else { end.addr() - to.addr() };
    reads(from, bytes);
    writes(to, bytes);
    end
}
