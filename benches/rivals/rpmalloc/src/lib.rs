//! rpmalloc 1.4, by way of `rpmalloc-sys`.
//!
//! rpmalloc wants to hear when a thread ends. Its own preload build wraps `pthread_create`, but a `cdylib` hides that
//! wrapper together with its `malloc` (see `build.rs`), so this file wraps it again.

use core::ffi::{CStr, c_char};

use rpmalloc_sys as rp;

struct Rpmalloc;

impl preload_export::CHeap for Rpmalloc {
    unsafe fn malloc(size: usize) -> *mut c_void {
        unsafe { rp::rpmalloc(size).cast() }
    }
    unsafe fn free(block: *mut c_void) {
        unsafe { rp::rpfree(block.cast()) }
    }
    unsafe fn calloc(count: usize, size: usize) -> *mut c_void {
        unsafe { rp::rpcalloc(count, size).cast() }
    }
    unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
        unsafe { rp::rprealloc(block.cast(), size).cast() }
    }
    unsafe fn memalign(align: usize, size: usize) -> *mut c_void {
        unsafe { rp::rpmemalign(align, size).cast() }
    }
    unsafe fn usable_size(block: *mut c_void) -> usize {
        unsafe { rp::rpmalloc_usable_size(block.cast()) }
    }
}

preload_export::export!(Rpmalloc);

type Start = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
type PthreadCreate = unsafe extern "C" fn(*mut c_void, *const c_void, Start, *mut c_void) -> i32;

/// `RTLD_NEXT` of glibc.
const NEXT: *mut c_void = -1isize as *mut c_void;
const REAL: &CStr = c"pthread_create";

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    /// The crate declares this function without its argument.
    fn rpmalloc_thread_finalize(release_caches: i32);
}

struct Entry {
    start: Start,
    argument: *mut c_void,
}

unsafe extern "C" fn run(entry: *mut c_void) -> *mut c_void {
    let Entry { start, argument } = *unsafe { Box::from_raw(entry.cast::<Entry>()) };
    unsafe { rp::rpmalloc_thread_initialize() };
    let result = unsafe { start(argument) };
    unsafe { rpmalloc_thread_finalize(1) };
    result
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create(
    thread: *mut c_void,
    attributes: *const c_void,
    start: Start,
    argument: *mut c_void,
) -> i32 {
    let real: PthreadCreate = unsafe { core::mem::transmute(dlsym(NEXT, REAL.as_ptr())) };
    let entry = Box::into_raw(Box::new(Entry { start, argument }));
    unsafe { real(thread, attributes, run, entry.cast()) }
}
