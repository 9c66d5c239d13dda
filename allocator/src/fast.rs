//! The fast paths at the C boundary, instruction by instruction.
//!
//! `malloc` is 14 instructions here and `free` 17, where the compiler makes 15 and 23 of the same steps in
//! [`api`](crate::api): it does not fold relaxed atomic loads into the instructions that use them. What `api` says is what
//! these do; it is also what runs where they are not: on other processors, in Rust programs that link the crate, and in a
//! library that is to be loaded late (feature `dynamic-tls`), which should not ask for static TLS.
//!
//! They are macros, to be expanded under the C library's names, because a jump to a shared body would be one more
//! instruction. A race with statistics is none: aligned words are read and written whole, as by a relaxed atomic.

use crate::geometry::UNIT_SHIFT;
use crate::size_class::SMALL_MAX;
use crate::span::Span;

pub use crate::api::{allocate_slow, free_attend, free_elsewhere, free_slow};
pub use crate::arena::POSITION;

// What the code below has as numbers.
const _: () = assert!(SMALL_MAX == 2048);
const _: () = assert!(size_of::<Span>() == 128 && UNIT_SHIFT == 16);
const _: () = Span::ASSERT_LAYOUT;

/// Defines `$name(size)`: allocates, as [`api::allocate`](crate::api::allocate). On the slow path it jumps, with its
/// argument, to `$slow`.
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(feature = "dynamic-tls")))]
#[macro_export]
macro_rules! define_malloc {
    ($name:ident, $slow:path) => {
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        extern "C" fn $name(size: usize) -> *mut ::core::ffi::c_void {
            ::core::arch::naked_asm!(
                "cmp rdi, 2048",
                "ja 2f",
                "mov rcx, qword ptr [rip + tiermem_thread_0_1@GOTTPOFF]",
                "lea rax, [rdi + 15]",
                "mov rcx, qword ptr fs:[rcx]", // the view
                "shr rax, 4",
                "mov rcx, qword ptr [rcx + 8 * rax]",  // the span that serves this size
                "sub dword ptr [rcx + 16], 1",         // allocs_left
                "js 2f",
                "mov rax, qword ptr [rcx]", // free
                "mov rdx, qword ptr [rax]", // the block's link
                // Its link is read by the next call, and was written long ago where many blocks are live.
                "prefetcht0 byte ptr [rdx]",
                "mov qword ptr [rcx], rdx",
                "ret",
                "2: jmp {slow}",
                slow = sym $slow,
            )
        }
    };
}

/// Defines `$name(at, …)`: frees, as [`api::free`](crate::api::free); what comes after the first argument is ignored.
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(feature = "dynamic-tls")))]
#[macro_export]
macro_rules! define_free {
    ($name:ident) => {
        /// # Safety
        /// The argument is null or a block that is not used any more.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(at: *mut ::core::ffi::c_void) {
            ::core::arch::naked_asm!(
                "mov rax, rdi",
                "sub rax, qword ptr [rip + {position}]", // base
                "cmp rax, qword ptr [rip + {position} + 8]", // len
                "jae 4f",
                "shr rax, 9",
                "and rax, -128",
                "add rax, qword ptr [rip + {position} + 16]", // the unit's record
                "mov rdx, qword ptr [rip + tiermem_thread_0_1@GOTTPOFF]",
                "mov rcx, qword ptr [rax + 8]", // owner
                "cmp rcx, qword ptr fs:[rdx + 8]", // this thread's key
                "jne 3f",
                "mov rcx, qword ptr [rax]", // free
                "mov qword ptr [rdi], rcx",
                "mov qword ptr [rax], rdi",
                "sub dword ptr [rax + 20], 1", // frees_left
                "je 2f",
                "ret",
                "2: mov rdi, rax",
                "jmp {attend}",
                "3: mov rsi, rax",
                "jmp {slow}",
                "4: jmp {elsewhere}",
                position = sym $crate::fast::POSITION,
                attend = sym $crate::fast::free_attend,
                slow = sym $crate::fast::free_slow,
                elsewhere = sym $crate::fast::free_elsewhere,
            )
        }
    };
}

/// Defines `$name(size)`: allocates, as [`api::allocate`](crate::api::allocate), then goes on in `$slow`.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(feature = "dynamic-tls"))))]
#[macro_export]
macro_rules! define_malloc {
    ($name:ident, $slow:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn $name(size: usize) -> *mut ::core::ffi::c_void {
            match $crate::api::allocate_fast(size) {
                Some(block) => block.as_ptr().cast(),
                None => $slow(size).cast(),
            }
        }
    };
}

/// Defines `$name(at)`: frees, as [`api::free`](crate::api::free).
#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(feature = "dynamic-tls"))))]
#[macro_export]
macro_rules! define_free {
    ($name:ident) => {
        /// # Safety
        /// The argument is null or a block that is not used any more.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(at: *mut ::core::ffi::c_void) {
            // SAFETY: passed on to the caller.
            unsafe { $crate::api::free(at.cast()) }
        }
    };
}
