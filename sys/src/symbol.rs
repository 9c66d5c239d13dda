//! Looking up symbols of the loaded program.

use std::ffi::{CStr, c_void};

/// The definition of `name` in the libraries after the one that holds the caller; null if there is none.
pub fn next(name: &CStr) -> *const c_void {
    // SAFETY: a C string; RTLD_NEXT is a valid handle.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }.cast_const()
}
