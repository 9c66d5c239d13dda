//! snmalloc, by way of `snmalloc-sys` and its C API.

use snmalloc_sys as sn;

struct Snmalloc;

unsafe extern "C" {
    /// Part of the same C API; the crate does not declare it.
    fn sn_memalign(align: usize, size: usize) -> *mut c_void;
}

impl preload_export::CHeap for Snmalloc {
    unsafe fn malloc(size: usize) -> *mut c_void {
        unsafe { sn::sn_malloc(size) }
    }
    unsafe fn free(block: *mut c_void) {
        unsafe { sn::sn_free(block) }
    }
    unsafe fn calloc(count: usize, size: usize) -> *mut c_void {
        unsafe { sn::sn_calloc(count, size) }
    }
    unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
        unsafe { sn::sn_realloc(block, size) }
    }
    unsafe fn memalign(align: usize, size: usize) -> *mut c_void {
        unsafe { sn_memalign(align, size) }
    }
    unsafe fn usable_size(block: *mut c_void) -> usize {
        unsafe { sn::sn_malloc_usable_size(block) }
    }
}

preload_export::export!(Snmalloc);
