//! jemalloc as the `tikv-jemallocator` crate builds it.

use tikv_jemalloc_sys as je;

struct Jemalloc;

impl preload_export::CHeap for Jemalloc {
    unsafe fn malloc(size: usize) -> *mut c_void {
        unsafe { je::malloc(size) }
    }
    unsafe fn free(block: *mut c_void) {
        unsafe { je::free(block) }
    }
    unsafe fn calloc(count: usize, size: usize) -> *mut c_void {
        unsafe { je::calloc(count, size) }
    }
    unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
        unsafe { je::realloc(block, size) }
    }
    unsafe fn memalign(align: usize, size: usize) -> *mut c_void {
        unsafe { je::aligned_alloc(align, size) }
    }
    unsafe fn usable_size(block: *mut c_void) -> usize {
        unsafe { je::malloc_usable_size(block) }
    }
}

preload_export::export!(Jemalloc);
