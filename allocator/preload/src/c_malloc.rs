//! The malloc family, as C23, POSIX.1-2024 and the GNU C library define it.

use std::ffi::{c_int, c_void};
use std::ptr;

use tiermem::api;
use tiermem::errno::{self, EINVAL, ENOMEM};

type Ptr = *mut c_void;

/// Null with `errno` set.
#[cold]
#[inline(never)]
fn no_memory() -> Ptr {
    errno::set(ENOMEM);
    ptr::null_mut()
}

tiermem::define_malloc!(malloc, api::allocate_slow);
tiermem::define_free!(free);
tiermem::define_free!(cfree);
// C23: the size and the alignment that follow are the ones asked for.
tiermem::define_free!(free_sized);
tiermem::define_free!(free_aligned_sized);

#[unsafe(no_mangle)]
extern "C" fn calloc(count: usize, size: usize) -> Ptr {
    match count.checked_mul(size) {
        Some(bytes) => api::allocate_zeroed(bytes, 1).cast(),
        None => no_memory(),
    }
}

/// # Safety
/// As realloc(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(at: Ptr, size: usize) -> Ptr {
    if at.is_null() {
        return malloc(size);
    }
    if size == 0 {
        // As the GNU C library does: free, and return null.
        // SAFETY: passed on to the caller.
        unsafe { free(at) };
        return ptr::null_mut();
    }
    // SAFETY: passed on to the caller.
    unsafe { api::reallocate(at.cast(), size, 1) }.cast()
}

/// # Safety
/// As reallocarray(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn reallocarray(at: Ptr, count: usize, size: usize) -> Ptr {
    match count.checked_mul(size) {
        // SAFETY: passed on to the caller.
        Some(bytes) => unsafe { realloc(at, bytes) },
        None => no_memory(),
    }
}

fn aligned(align: usize, size: usize) -> Ptr {
    api::allocate_aligned(size, align).cast()
}

#[unsafe(no_mangle)]
extern "C" fn memalign(align: usize, size: usize) -> Ptr {
    // The GNU C library rounds a bad alignment up.
    match align.max(1).checked_next_power_of_two() {
        Some(align) => aligned(align, size),
        None => {
            errno::set(EINVAL);
            ptr::null_mut()
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn aligned_alloc(align: usize, size: usize) -> Ptr {
    if !align.is_power_of_two() {
        errno::set(EINVAL);
        return ptr::null_mut();
    }
    aligned(align, size)
}

/// # Safety
/// As posix_memalign(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(into: *mut Ptr, align: usize, size: usize) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<Ptr>()) {
        return EINVAL;
    }
    let at = api::allocate_aligned(size, align);
    if at.is_null() {
        return ENOMEM;
    }
    // SAFETY: the caller gives a place for a pointer.
    unsafe { into.write(at.cast()) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn valloc(size: usize) -> Ptr {
    aligned(tiermem::os_page_size(), size)
}

#[unsafe(no_mangle)]
extern "C" fn pvalloc(size: usize) -> Ptr {
    let os_page = tiermem::os_page_size();
    match size.max(1).checked_next_multiple_of(os_page) {
        Some(size) => aligned(os_page, size),
        None => no_memory(),
    }
}

/// # Safety
/// As malloc_usable_size(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn malloc_usable_size(at: Ptr) -> usize {
    api::usable_size(at.cast())
}

/// Gives free memory back to the OS; `pad` is ignored. 1 if any was given back.
#[unsafe(no_mangle)]
extern "C" fn malloc_trim(pad: usize) -> c_int {
    let _ = pad;
    c_int::from(tiermem::purge::purge_now() > 0)
}
