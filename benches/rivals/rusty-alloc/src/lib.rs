//! rusty_alloc: mimalloc's design in Rust.

use rusty_alloc::alloc;

struct RustyAlloc;

impl preload_export::CHeap for RustyAlloc {
    unsafe fn malloc(size: usize) -> *mut c_void {
        alloc::malloc(size).cast()
    }
    unsafe fn free(block: *mut c_void) {
        unsafe { alloc::free(block.cast()) }
    }
    unsafe fn calloc(count: usize, size: usize) -> *mut c_void {
        alloc::calloc(count, size).cast()
    }
    unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
        unsafe { alloc::realloc(block.cast(), size).cast() }
    }
    unsafe fn memalign(align: usize, size: usize) -> *mut c_void {
        alloc::malloc_aligned(size, align).cast()
    }
    unsafe fn usable_size(block: *mut c_void) -> usize {
        unsafe { alloc::usable_size(block.cast()) }
    }
}

preload_export::export!(RustyAlloc);
