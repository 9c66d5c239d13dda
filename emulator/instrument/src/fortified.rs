//! What `_FORTIFY_SOURCE` makes of calls whose target's size is known: the same functions, with that size behind their
//! arguments. The C library checks it, and ends the program where it does not hold.

use std::ffi::{c_char, c_int, c_void};

use crate::memory::{reads, writes};
use crate::real::Real;
use crate::strings::{note_append, note_copy, note_copy_max};

type Copy = unsafe extern "C" fn(*mut c_void, *const c_void, usize, usize) -> *mut c_void;
type Set = unsafe extern "C" fn(*mut c_void, c_int, usize, usize) -> *mut c_void;
type Two = unsafe extern "C" fn(*mut c_char, *const c_char, usize) -> *mut c_char;
type TwoLen = unsafe extern "C" fn(*mut c_char, *const c_char, usize, usize) -> *mut c_char;

/// Functions like `memcpy`.
macro_rules! copies {
    ($($name:ident, $real:literal;)*) => {$(
        /// # Safety
        /// As the function without a size.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(to: *mut c_void, from: *const c_void, len: usize, room: usize) -> *mut c_void {
            static REAL: Real<Copy> = Real::new($real);
            reads(from, len);
            writes(to, len);
            // SAFETY: passed on to the caller.
            unsafe { REAL.get()(to, from, len, room) }
        }
    )*};
}
copies! {
    __memcpy_chk, c"__memcpy_chk";
    __memmove_chk, c"__memmove_chk";
    __mempcpy_chk, c"__mempcpy_chk";
}

/// # Safety
/// As memset(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn __memset_chk(to: *mut c_void, byte: c_int, len: usize, room: usize) -> *mut c_void {
    static REAL: Real<Set> = Real::new(c"__memset_chk");
    writes(to, len);
    // SAFETY: passed on to the caller.
    unsafe { REAL.get()(to, byte, len, room) }
}

/// Functions like `strcpy`, which `note` counts.
macro_rules! strings {
    ($($name:ident, $real:literal, $note:expr;)*) => {$(
        /// # Safety
        /// As the function without a size.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(to: *mut c_char, from: *const c_char, room: usize) -> *mut c_char {
            static REAL: Real<Two> = Real::new($real);
            let note: unsafe fn(*mut c_char, *const c_char) = $note;
            // SAFETY: passed on to the caller.
            unsafe { note(to, from) };
            // SAFETY: passed on to the caller.
            unsafe { REAL.get()(to, from, room) }
        }
    )*};
}
strings! {
    __strcpy_chk, c"__strcpy_chk", note_copy;
    __stpcpy_chk, c"__stpcpy_chk", note_copy;
    __strcat_chk, c"__strcat_chk", append;
}

/// # Safety
/// As strcat(3).
unsafe fn append(to: *mut c_char, from: *const c_char) {
    // SAFETY: passed on to the caller.
    unsafe { note_append(to, from, usize::MAX) };
}

/// Functions like `strncpy`, which `note` counts.
macro_rules! strings_max {
    ($($name:ident, $real:literal, $note:expr;)*) => {$(
        /// # Safety
        /// As the function without a size.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(to: *mut c_char, from: *const c_char, max: usize, room: usize) -> *mut c_char {
            static REAL: Real<TwoLen> = Real::new($real);
            // SAFETY: passed on to the caller.
            unsafe { $note(to, from, max) };
            // SAFETY: passed on to the caller.
            unsafe { REAL.get()(to, from, max, room) }
        }
    )*};
}
strings_max! {
    __strncpy_chk, c"__strncpy_chk", note_copy_max;
    __stpncpy_chk, c"__stpncpy_chk", note_copy_max;
    __strncat_chk, c"__strncat_chk", note_append;
}
