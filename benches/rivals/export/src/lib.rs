//! Turns an allocator with a C-like API into an `LD_PRELOAD` library.
//!
//! A Rust `cdylib` hides the symbols of the static libraries it links, so a rival's own `malloc` override would not be
//! visible. Each rival implements [`CHeap`] and calls [`export!`]; link-time optimisation leaves one direct jump
//! between the exported symbol and a rival written in C, and nothing for one written in Rust.

use core::ffi::c_void;

/// The calls that a C program makes, answered by one allocator. Semantics are those of the C functions.
#[expect(clippy::missing_safety_doc, reason = "the contracts are those of the C functions of the same names")]
pub trait CHeap {
    /// `malloc`
    unsafe fn malloc(size: usize) -> *mut c_void;
    /// `free`
    unsafe fn free(block: *mut c_void);
    /// `calloc`
    unsafe fn calloc(count: usize, size: usize) -> *mut c_void;
    /// `realloc`
    unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void;
    /// `memalign`; `align` is a power of two
    unsafe fn memalign(align: usize, size: usize) -> *mut c_void;
    /// `malloc_usable_size`
    unsafe fn usable_size(block: *mut c_void) -> usize;
}

/// `EINVAL`, the answer of `posix_memalign` to a bad alignment.
pub const EINVAL: i32 = 22;
/// `ENOMEM`, the answer of `posix_memalign` when there is no memory.
pub const ENOMEM: i32 = 12;
/// OS page size that `valloc` and `pvalloc` align to.
pub const OS_PAGE_BYTES: usize = 4096;

/// Exports `malloc` and its family over `$heap`, a type that implements [`CHeap`].
#[macro_export]
macro_rules! export {
    ($heap:ty) => {
        use core::ffi::c_void;
        use $crate::CHeap as _;

        #[unsafe(no_mangle)]
        unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
            unsafe { <$heap>::malloc(size) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn free(block: *mut c_void) {
            unsafe { <$heap>::free(block) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
            unsafe { <$heap>::calloc(count, size) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
            unsafe { <$heap>::realloc(block, size) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn reallocarray(block: *mut c_void, count: usize, size: usize) -> *mut c_void {
            match count.checked_mul(size) {
                Some(total) => unsafe { <$heap>::realloc(block, total) },
                None => core::ptr::null_mut(),
            }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
            unsafe { <$heap>::memalign(align, size) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
            unsafe { <$heap>::memalign(align, size) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn valloc(size: usize) -> *mut c_void {
            unsafe { <$heap>::memalign($crate::OS_PAGE_BYTES, size) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn pvalloc(size: usize) -> *mut c_void {
            match size.checked_next_multiple_of($crate::OS_PAGE_BYTES) {
                Some(whole) => unsafe { <$heap>::memalign($crate::OS_PAGE_BYTES, whole) },
                None => core::ptr::null_mut(),
            }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> i32 {
            if !align.is_power_of_two() || align % size_of::<usize>() != 0 {
                return $crate::EINVAL;
            }
            let block = unsafe { <$heap>::memalign(align, size) };
            if block.is_null() {
                return $crate::ENOMEM;
            }
            unsafe { *out = block };
            0
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
            if block.is_null() { 0 } else { unsafe { <$heap>::usable_size(block) } }
        }
    };
}
