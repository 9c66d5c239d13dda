//! Looking up symbols of the loaded program.

use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;

#[cfg(not(loom))]
use crate::sync::atomic::{AtomicPtr, Ordering};

/// The definition of `name` in the libraries after the one that holds the caller; null if there is none.
pub fn next(name: &CStr) -> *const c_void {
    // SAFETY: a C string; RTLD_NEXT is a valid handle.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }.cast_const()
}

/// The place of a function in a library behind this one, looked up beforehand: see [`next`].
///
/// One word, so that assembly can read it.
#[cfg(not(loom))]
#[derive(Debug)]
#[repr(transparent)]
pub struct NextSymbol(AtomicPtr<c_void>);

#[cfg(not(loom))]
impl NextSymbol {
    /// Not looked up yet: null.
    pub const fn unknown() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// Looks it up; null if there is none.
    pub fn look_up(&self, name: &CStr) {
        // Relaxed: it points to code, which is there already.
        self.0.store(next(name).cast_mut(), Ordering::Relaxed);
    }
}

/// Where a code address lies.
#[derive(Clone, Copy, Debug)]
pub struct Location {
    /// The file of the program or library.
    pub module: &'static CStr,
    /// The address's offset from where that is loaded.
    pub offset: usize,
    /// The exported function that holds the address, if one does.
    pub function: Option<&'static CStr>,
}

/// Finds the loaded file and the exported function that hold `address`. Does not allocate; waits while another thread
/// loads or unloads a library.
///
/// The names stay valid while the module is loaded.
pub fn locate(address: usize) -> Option<Location> {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: any address may be asked for; `info` is a valid place for the answer.
    if unsafe { libc::dladdr(std::ptr::without_provenance(address), info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: made of pointers, for which zero is a value, and filled in by the call.
    let info = unsafe { info.assume_init() };
    // SAFETY: null, or a C string of the loader's.
    let text = |at: *const libc::c_char| (!at.is_null()).then(|| unsafe { CStr::from_ptr(at) });
    Some(Location {
        module: text(info.dli_fname)?,
        offset: address.wrapping_sub(info.dli_fbase.addr()),
        function: text(info.dli_sname),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_looked_up_is_kept_as_one_word() {
        let known = NextSymbol::unknown();
        assert!(known.0.load(Ordering::Relaxed).is_null());
        known.look_up(c"getpid");
        assert_eq!(known.0.load(Ordering::Relaxed).cast_const(), next(c"getpid"));
        known.look_up(c"no_such_function");
        assert!(known.0.load(Ordering::Relaxed).is_null());
    }

    #[test]
    fn a_library_function_is_located_and_a_wild_address_is_not() {
        let at = next(c"getpid");
        let found = locate(at.addr() + 1).unwrap();
        assert!(found.module.to_str().unwrap().contains("libc"), "{found:?}");
        assert!(found.function.unwrap().to_str().unwrap().contains("getpid"), "{found:?}");
        assert!(found.offset > 0);
        assert!(locate(8).is_none());
    }
}
