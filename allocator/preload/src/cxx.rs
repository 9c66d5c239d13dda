//! C++'s replaceable allocation functions, by their mangled names (Itanium C++ ABI).
//!
//! `operator new` must throw `std::bad_alloc` when there is no memory, after asking the new-handler. Rust code cannot
//! throw C++ exceptions, so on failure these functions jump, with their arguments and without a frame of their own,
//! to the C++ library's function of the same name: it asks `malloc` again, fails again, and does the rest.

use std::ffi::{c_char, c_void};

use tiermem::{api, fast};

type Ptr = *mut c_void;

/// Allocates where the fast path could not.
#[cfg(target_arch = "x86_64")]
extern "C" fn new_slow(size: usize, _align: usize, caller: usize) -> Ptr {
    api::allocate_slow(size, caller).cast()
}

extern "C" fn new_aligned_or_null(size: usize, align: usize, caller: usize) -> Ptr {
    if align.is_power_of_two() { api::allocate_aligned_by(caller, size, align).cast() } else { std::ptr::null_mut() }
}

unsafe extern "C" fn new_aligned_nothrow(size: usize, align: usize, _tag: *const c_void, caller: usize) -> Ptr {
    new_aligned_or_null(size, align, caller)
}

/// The next library's function of this name; one that ends the program if there is none.
#[cfg(target_arch = "x86_64")]
pub extern "C" fn next_definition(name: *const c_char) -> *const c_void {
    // SAFETY: the functions below pass C strings.
    let found = tiermem::next_symbol(unsafe { std::ffi::CStr::from_ptr(name) });
    if found.is_null() { std::process::abort as *const c_void } else { found }
}

#[cfg(target_arch = "x86_64")]
mod throwing {
    use super::{Ptr, new_aligned_or_null, new_slow, next_definition};

    static NEW: [u8; 6] = *b"_Znwm\0";
    static NEW_ARRAY: [u8; 6] = *b"_Znam\0";
    static NEW_ALIGNED: [u8; 21] = *b"_ZnwmSt11align_val_t\0";
    static NEW_ARRAY_ALIGNED: [u8; 21] = *b"_ZnamSt11align_val_t\0";

    macro_rules! define {
        ($name:ident, $text:path, $allocate:path) => {
            /// Allocates; on failure goes on in the C++ library's function of this name.
            #[unsafe(naked)]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name(size: usize, align: usize) -> Ptr {
                throwing_body!($text, $allocate)
            }
        };
    }

    /// Allocates or throws: the whole of a function, which has no frame yet.
    macro_rules! throwing_body {
        ($text:path, $allocate:path) => {
                std::arch::naked_asm!(
                    "push rdi",
                    "push rsi",
                    "sub rsp, 8",
                    "mov rdx, qword ptr [rsp + 24]", // the return address
                    "call {allocate}",
                    "add rsp, 8",
                    "pop rsi",
                    "pop rdi",
                    "test rax, rax",
                    "je 2f",
                    "ret",
                    "2:",
                    "push rdi",
                    "push rsi",
                    "sub rsp, 8",
                    "lea rdi, [rip + {text}]",
                    "call {next}",
                    "add rsp, 8",
                    "pop rsi",
                    "pop rdi",
                    // Rounding a size near the end of the address space up to its alignment would wrap around.
                    "movabs r11, 0x4000000000000000",
                    "cmp rdi, r11",
                    "cmova rdi, r11",
                    "jmp rax",
                    allocate = sym $allocate,
                    next = sym next_definition,
                    text = sym $text,
                )
        };
    }

    /// The slow path of an `operator new` without alignment.
    macro_rules! define_slow {
        ($name:ident, $text:path) => {
            #[unsafe(naked)]
            extern "C" fn $name(size: usize) -> Ptr {
                throwing_body!($text, new_slow)
            }
        };
    }

    define_slow!(new_or_throw, NEW);
    define_slow!(new_array_or_throw, NEW_ARRAY);
    tiermem::define_malloc!(_Znwm, new_or_throw);
    tiermem::define_malloc!(_Znam, new_array_or_throw);
    define!(_ZnwmSt11align_val_t, NEW_ALIGNED, new_aligned_or_null);
    define!(_ZnamSt11align_val_t, NEW_ARRAY_ALIGNED, new_aligned_or_null);
}

// On other processors the C++ library's own `operator new` is left in place: it calls `malloc` here.

// The tag that follows says nothing.
tiermem::define_malloc!(_ZnwmRKSt9nothrow_t, fast::allocate_slow);
tiermem::define_malloc!(_ZnamRKSt9nothrow_t, fast::allocate_slow);
tiermem::define_with_caller! {
    _ZnwmSt11align_val_tRKSt9nothrow_t(size: usize, align: usize, tag: *const c_void) -> Ptr, "rcx", new_aligned_nothrow;
    _ZnamSt11align_val_tRKSt9nothrow_t(size: usize, align: usize, tag: *const c_void) -> Ptr, "rcx", new_aligned_nothrow;
}

macro_rules! delete {
    ($($slow:ident: $($name:ident),+;)+) => {$($(tiermem::define_free!($name, fast::$slow);)+)+};
}

delete! {
    free_slow: _ZdlPv, _ZdaPv, _ZdlPvRKSt9nothrow_t, _ZdaPvRKSt9nothrow_t;
    free_sized: _ZdlPvm, _ZdaPvm;
    free_aligned: _ZdlPvSt11align_val_t, _ZdaPvSt11align_val_t, _ZdlPvSt11align_val_tRKSt9nothrow_t,
        _ZdaPvSt11align_val_tRKSt9nothrow_t;
    free_sized_aligned: _ZdlPvmSt11align_val_t, _ZdaPvmSt11align_val_t;
}
