//! What the preloaded library says of itself, and its interface beyond that of C.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The address of a function of the preloaded library; null if it is none of ours, or an older one.
fn symbol(name: &CStr) -> *mut c_void {
    // SAFETY: a null handle (RTLD_DEFAULT) searches the whole program; the name is a C string.
    unsafe { dlsym(std::ptr::null_mut(), name.as_ptr()) }
}

/// Calls the library's `int name(void)`; `None` if it has no such function.
fn ask(name: &CStr) -> Option<c_int> {
    let symbol = symbol(name);
    // SAFETY: both functions that are asked for are declared `int name(void)` in our C interface.
    let function = (!symbol.is_null()).then(|| unsafe { transmute::<*mut c_void, extern "C" fn() -> c_int>(symbol) });
    function.map(|function| function())
}

/// Tiers that the preloaded library works with; 0 if it is none of ours. The runner asks before it measures two tiers,
/// because a library that fell back to one would look good.
pub fn tier_count() -> usize {
    ask(c"tm_tier_count").map_or(0, |count| usize::try_from(count).unwrap_or(0))
}

/// How hard the preloaded library checks what is freed: 0 not at all, 1 in its hardened mode, 2 in its strong one; `None`
/// if it cannot tell. The runner asks for the same reason.
pub fn harden_mode() -> Option<i32> {
    ask(c"tm_harden_mode")
}

/// The library's hints.
#[derive(Debug)]
pub struct Hints {
    push: extern "C" fn(c_int) -> c_int,
    pop: extern "C" fn() -> c_int,
    tier_of: extern "C" fn(*const c_void) -> c_int,
}

impl Hints {
    /// Looks the functions up. Fails if another library is preloaded, or if it has fewer than two tiers.
    pub fn find() -> Self {
        assert!(tier_count() >= 2, "hints need our library with two tiers, preloaded");
        let [push, pop, tier_of] = [c"tm_hint_push", c"tm_hint_pop", c"tm_tier_of"].map(symbol);
        assert!(!push.is_null() && !pop.is_null() && !tier_of.is_null(), "the library has no hints");
        Self {
            // SAFETY: the symbol of that name is our C interface's `int tm_hint_push(int)`.
            push: unsafe { transmute::<*mut c_void, extern "C" fn(c_int) -> c_int>(push) },
            // SAFETY: the symbol of that name is our C interface's `int tm_hint_pop(void)`.
            pop: unsafe { transmute::<*mut c_void, extern "C" fn() -> c_int>(pop) },
            // SAFETY: the symbol of that name is our C interface's `int tm_tier_of(const void *)`.
            tier_of: unsafe { transmute::<*mut c_void, extern "C" fn(*const c_void) -> c_int>(tier_of) },
        }
    }

    /// From now on this thread allocates from `tier`.
    pub fn push(&self, tier: usize) {
        assert!((self.push)(tier as c_int) == 0, "the library refused the hint for tier {tier}");
    }

    /// No longer.
    pub fn pop(&self) {
        assert!((self.pop)() == 0, "the library lost the hint");
    }

    /// The tier of a block, or -1.
    pub fn tier_of(&self, block: *const c_void) -> i32 {
        (self.tier_of)(block)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_program_without_our_library_has_no_tiers_and_no_mode() {
        assert_eq!((super::tier_count(), super::harden_mode()), (0, None));
    }
}
