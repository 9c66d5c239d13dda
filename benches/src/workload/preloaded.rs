//! What the preloaded library says of itself.

use std::ffi::{CStr, c_char, c_int, c_void};

const TIER_COUNT: &CStr = c"tm_tier_count";

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// Tiers that the preloaded library works with; 0 if it is none of ours. The runner asks before it measures two tiers,
/// because a library that fell back to one would look good.
pub fn tier_count() -> usize {
    // SAFETY: a null handle (RTLD_DEFAULT) searches the whole program; the name is a C string.
    let symbol = unsafe { dlsym(std::ptr::null_mut(), TIER_COUNT.as_ptr()) };
    if symbol.is_null() {
        return 0;
    }
    // SAFETY: the symbol of that name is our C interface's `int tm_tier_count(void)`.
    let count = unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> c_int>(symbol) };
    usize::try_from(count()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_program_without_our_library_has_no_tiers() {
        assert_eq!(super::tier_count(), 0);
    }
}
