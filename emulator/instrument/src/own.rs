//! This library's own memory.
//!
//! It is not the C library's: what the engine keeps of a program would lie between the program's blocks and move them about, and
//! that by chance, since another thread works for the engine. So blocks lie where they would without this library.

use std::alloc::{GlobalAlloc, Layout};

use dlmalloc::Dlmalloc;
use tiermem_sys::sync::Lock;

struct Own(Lock<Dlmalloc>);

#[global_allocator]
static OWN: Own = Own(Lock::new(Dlmalloc::new()));

// SAFETY: an allocator behind a lock. Handlers that interrupt it do not enter this library.
unsafe impl GlobalAlloc for Own {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size and any power of two may be asked for.
        unsafe { self.0.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { self.0.lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { self.0.lock().free(at, layout.size(), layout.align()) };
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: passed on to the caller.
        unsafe { self.0.lock().realloc(at, layout.size(), layout.align(), size) }
    }
}

/// Before a fork: no other thread is within it then.
pub fn before_fork() {
    OWN.0.acquire();
}

/// # Safety
/// [`before_fork`] came before, in this thread or in the one that it was copied from.
pub unsafe fn after_fork() {
    // SAFETY: passed on to the caller.
    unsafe { OWN.0.release() };
}
