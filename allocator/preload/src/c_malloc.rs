//! The malloc family, as C23, POSIX.1-2024 and the GNU C library define it.

use std::ffi::{c_int, c_void};
use std::ptr;

use tiermem::api;
use tiermem::errno::{self, EINVAL, ENOMEM};
use tiermem::fast;

type Ptr = *mut c_void;

/// Null with `errno` set.
#[cold]
#[inline(never)]
fn no_memory() -> Ptr {
    errno::set(ENOMEM);
    ptr::null_mut()
}

tiermem::define_malloc!(malloc, fast::allocate_slow);
tiermem::define_free!(free, fast::free_slow);
tiermem::define_free!(cfree, fast::free_slow);
// C23: the size and the alignment that follow are the ones asked for.
tiermem::define_free!(free_sized, fast::free_sized);
tiermem::define_free!(free_aligned_sized, fast::free_aligned_sized);

tiermem::define_with_caller! {
    calloc(count: usize, size: usize) -> Ptr, "rdx", calloc_by;
    realloc(at: Ptr, size: usize) -> Ptr, "rdx", realloc_by;
    reallocarray(at: Ptr, count: usize, size: usize) -> Ptr, "rcx", reallocarray_by;
    memalign(align: usize, size: usize) -> Ptr, "rdx", memalign_by;
    aligned_alloc(align: usize, size: usize) -> Ptr, "rdx", aligned_alloc_by;
    posix_memalign(into: *mut Ptr, align: usize, size: usize) -> c_int, "rcx", posix_memalign_by;
    valloc(size: usize) -> Ptr, "rsi", valloc_by;
    pvalloc(size: usize) -> Ptr, "rsi", pvalloc_by;
    malloc_usable_size(at: Ptr) -> usize, "rsi", malloc_usable_size_by;
}

unsafe extern "C" fn calloc_by(count: usize, size: usize, caller: usize) -> Ptr {
    match count.checked_mul(size) {
        Some(bytes) => api::allocate_zeroed_by(caller, bytes, 1).cast(),
        None => no_memory(),
    }
}

/// # Safety
/// As realloc(3).
unsafe extern "C" fn realloc_by(at: Ptr, size: usize, caller: usize) -> Ptr {
    if at.is_null() {
        return api::allocate_aligned_by(caller, size, 1).cast();
    }
    if size == 0 {
        // As the GNU C library does: free, and return null.
        // SAFETY: passed on to the caller.
        unsafe { free(at) };
        return ptr::null_mut();
    }
    // SAFETY: passed on to the caller.
    unsafe { api::reallocate_by(caller, at.cast(), size, 1) }.cast()
}

/// # Safety
/// As reallocarray(3).
unsafe extern "C" fn reallocarray_by(at: Ptr, count: usize, size: usize, caller: usize) -> Ptr {
    match count.checked_mul(size) {
        // SAFETY: passed on to the caller.
        Some(bytes) => unsafe { realloc_by(at, bytes, caller) },
        None => no_memory(),
    }
}

fn aligned(align: usize, size: usize, caller: usize) -> Ptr {
    api::allocate_aligned_by(caller, size, align).cast()
}

unsafe extern "C" fn memalign_by(align: usize, size: usize, caller: usize) -> Ptr {
    // The GNU C library rounds a bad alignment up.
    match align.max(1).checked_next_power_of_two() {
        Some(align) => aligned(align, size, caller),
        None => {
            errno::set(EINVAL);
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn aligned_alloc_by(align: usize, size: usize, caller: usize) -> Ptr {
    if !align.is_power_of_two() {
        errno::set(EINVAL);
        return ptr::null_mut();
    }
    aligned(align, size, caller)
}

/// # Safety
/// As posix_memalign(3).
unsafe extern "C" fn posix_memalign_by(into: *mut Ptr, align: usize, size: usize, caller: usize) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<Ptr>()) {
        return EINVAL;
    }
    let at = api::allocate_aligned_by(caller, size, align);
    if at.is_null() {
        return ENOMEM;
    }
    // SAFETY: the caller gives a place for a pointer.
    unsafe { into.write(at.cast()) };
    0
}

unsafe extern "C" fn valloc_by(size: usize, caller: usize) -> Ptr {
    aligned(tiermem::os_page_size(), size, caller)
}

unsafe extern "C" fn pvalloc_by(size: usize, caller: usize) -> Ptr {
    let os_page = tiermem::os_page_size();
    match size.max(1).checked_next_multiple_of(os_page) {
        Some(size) => aligned(os_page, size, caller),
        None => no_memory(),
    }
}

/// # Safety
/// As malloc_usable_size(3).
unsafe extern "C" fn malloc_usable_size_by(at: Ptr, caller: usize) -> usize {
    api::usable_size_by(caller, at.cast())
}

/// Gives free memory back to the OS; `pad` is ignored. 1 if any was given back.
#[unsafe(no_mangle)]
extern "C" fn malloc_trim(pad: usize) -> c_int {
    let _ = pad;
    c_int::from(tiermem::purge::purge_now() > 0)
}
