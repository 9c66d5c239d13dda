//! The functions that are replaced here, where they really are: the next definition after this library's.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute_copy;

use tiermem_sys::symbol;
use tiermem_sys::sync::atomic::{AtomicPtr, Ordering};

/// A function of the C library, looked up when it is first needed.
pub struct Real<F> {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
    kind: std::marker::PhantomData<F>,
}

// SAFETY: a name and an atomic; the function's type is only a marker.
unsafe impl<F> Sync for Real<F> {}

impl<F: Copy> Real<F> {
    pub const fn new(name: &'static CStr) -> Self {
        Self { name, found: AtomicPtr::new(std::ptr::null_mut()), kind: std::marker::PhantomData }
    }

    /// The function.
    pub fn get(&self) -> F {
        // Relaxed: the pointer leads to code, which was there before.
        let mut found = self.found.load(Ordering::Relaxed);
        if found.is_null() {
            found = self.look_up();
        }
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        // SAFETY: each use below pairs a name with its type in the C library.
        unsafe { transmute_copy(&found) }
    }

    #[cold]
    fn look_up(&self) -> *mut c_void {
        let _quiet = crate::state::Quiet::new();
        let found = symbol::next(self.name).cast_mut();
        if found.is_null() {
            tiermem_sys::process::say(b"libtiermem_instrument: the C library lacks ");
            tiermem_sys::process::say(self.name.to_bytes());
            tiermem_sys::process::say(b"\n");
            tiermem_sys::process::abort();
        }
        // Relaxed: as above; whoever comes first finds the same.
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

unsafe extern "C" {
    // The C library's own names for its allocator, which stay when `malloc` is replaced.
    pub fn __libc_malloc(size: usize) -> *mut c_void;
    pub fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    pub fn __libc_realloc(at: *mut c_void, size: usize) -> *mut c_void;
    pub fn __libc_memalign(align: usize, size: usize) -> *mut c_void;
    pub fn __libc_free(at: *mut c_void);
}

pub type Copy3 = unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> *mut c_void;
pub type Set3 = unsafe extern "C" fn(*mut c_void, c_int, usize) -> *mut c_void;
pub type Compare3 = unsafe extern "C" fn(*const c_void, *const c_void, usize) -> c_int;
pub type Find3 = unsafe extern "C" fn(*const c_void, c_int, usize) -> *mut c_void;
pub type Len = unsafe extern "C" fn(*const c_char) -> usize;
