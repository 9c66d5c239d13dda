//! mimalloc 3, by way of `libmimalloc-sys`.

use libmimalloc_sys as mi;

struct Mimalloc;

impl preload_export::CHeap for Mimalloc {
    unsafe fn malloc(size: usize) -> *mut c_void {
        unsafe { mi::mi_malloc(size) }
    }
    unsafe fn free(block: *mut c_void) {
        unsafe { mi::mi_free(block) }
    }
    unsafe fn calloc(count: usize, size: usize) -> *mut c_void {
        unsafe { mi::mi_calloc(count, size) }
    }
    unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
        unsafe { mi::mi_realloc(block, size) }
    }
    unsafe fn memalign(align: usize, size: usize) -> *mut c_void {
        unsafe { mi::mi_malloc_aligned(size, align) }
    }
    unsafe fn usable_size(block: *mut c_void) -> usize {
        unsafe { mi::mi_usable_size(block) }
    }
}

preload_export::export!(Mimalloc);
