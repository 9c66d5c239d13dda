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

pub use crate::api::free_attend;
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

/// Defines `$name(at, …)`: frees, as [`api::free`](crate::api::free). On the slow path it jumps, with its arguments and the
/// unit's record in `rax`, to `$slow`: one of the functions here, which say what the arguments after the first one are.
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(feature = "dynamic-tls")))]
#[macro_export]
macro_rules! define_free {
    ($name:ident, $slow:path) => {
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
                "mov r8, qword ptr [rip + tiermem_thread_0_1@GOTTPOFF]",
                "mov rcx, qword ptr [rax + 8]", // owner
                "cmp rcx, qword ptr fs:[r8 + 8]", // this thread's key
                "jne 3f",
                "mov rcx, qword ptr [rax]", // free
                "mov qword ptr [rdi], rcx",
                "mov qword ptr [rax], rdi",
                "sub dword ptr [rax + 20], 1", // frees_left
                "je 2f",
                "ret",
                "2: mov rdi, rax",
                "jmp {attend}",
                "3: jmp {slow}",
                "4: jmp {elsewhere}",
                position = sym $crate::fast::POSITION,
                attend = sym $crate::fast::free_attend,
                slow = sym $slow,
                elsewhere = sym $crate::fast::free_elsewhere,
            )
        }
    };
}

/// Defines functions that fetch the return address, which names the caller in a hardened process's reports, and go on in
/// others: `$name(…)` jumps to `$to(…, caller)`, whose last argument is in the register `$register`.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[macro_export]
macro_rules! define_with_caller {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?, $register:literal, $to:path;)+) => {$(
        /// # Safety
        /// As for what it goes on in.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($arg: $type),*) $(-> $result)? {
            ::core::arch::naked_asm!(concat!("mov ", $register, ", qword ptr [rsp]"), "jmp {to}", to = sym $to)
        }
    )+};
}

/// As above, on other processors: the caller is not known.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
#[macro_export]
macro_rules! define_with_caller {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?, $register:literal, $to:path;)+) => {$(
        /// # Safety
        /// As for what it goes on in.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($arg: $type),*) $(-> $result)? {
            // SAFETY: passed on to the caller.
            unsafe { $to($($arg,)* $crate::api::UNKNOWN) }
        }
    )+};
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(feature = "dynamic-tls")))]
mod slow {
    use crate::{api, harden, span::Span};

    /// A function of the slow path, reached by a jump from a macro here, so that the word on top of the stack is the
    /// program's return address and the arguments are still in their registers.
    macro_rules! define {
        ($($(#[$doc:meta])* $name:ident = [$($step:literal),*], $to:path;)+) => {$(
            $(#[$doc])*
            #[unsafe(naked)]
            pub extern "C" fn $name() {
                core::arch::naked_asm!($($step,)* "jmp {to}", to = sym $to)
            }
        )+};
    }

    define! {
        /// Of `free(at, size)`.
        free_sized = ["mov rcx, rsi", "mov rdx, qword ptr [rsp]", "mov rsi, rax", "xor r8d, r8d"], api::free_claimed;
        /// Of `free(at, align)`.
        free_aligned = ["mov r8, rsi", "mov rdx, qword ptr [rsp]", "mov rsi, rax", "mov rcx, -1"], api::free_claimed;
        /// Of `free(at, size, align)`.
        free_sized_aligned =
            ["mov rcx, rsi", "mov r8, rdx", "mov rdx, qword ptr [rsp]", "mov rsi, rax"], api::free_claimed;
        /// Of `free(at, align, size)`.
        free_aligned_sized =
            ["mov rcx, rdx", "mov r8, rsi", "mov rdx, qword ptr [rsp]", "mov rsi, rax"], api::free_claimed;
        /// Of any of them, for an address outside the arena.
        free_elsewhere = ["mov rsi, qword ptr [rsp]"], api::free_elsewhere;
    }

    /// Of `malloc(size)`.
    #[unsafe(naked)]
    pub extern "C" fn allocate_slow(size: usize) -> *mut u8 {
        core::arch::naked_asm!(
            "mov rsi, qword ptr [rsp]",
            "cmp byte ptr [rip + {flags}], {checked}",
            "je 2f",
            "jmp {slow}",
            "2: jmp {fast}",
            flags = sym harden::FLAGS,
            checked = const harden::TAILS,
            slow = sym api::allocate_slow,
            fast = sym harden::allocate_checked,
        )
    }

    /// Of `free(at)`.
    #[unsafe(naked)]
    pub extern "C" fn free_slow() {
        core::arch::naked_asm!(
            "mov rdx, qword ptr [rsp]",
            "mov rsi, rax",
            "cmp byte ptr [rip + {flags}], {checked}",
            "je 2f",
            "jmp {slow}",
            "2: jmp {fast}",
            flags = sym harden::FLAGS,
            checked = const harden::TAILS,
            slow = sym api::free_slow,
            fast = sym harden::free_checked,
        )
    }

    // What the code above has in registers.
    const _: unsafe extern "C" fn(*mut u8, &'static Span, usize) = api::free_slow;
    const _: unsafe extern "C" fn(*mut u8, &'static Span, usize, usize, usize) = api::free_claimed;
    const _: extern "C" fn(*mut u8, usize) = api::free_elsewhere;
    const _: extern "C" fn(usize, usize) -> *mut u8 = api::allocate_slow;
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(feature = "dynamic-tls"))))]
mod slow {
    /// Of `malloc(size)`.
    pub extern "C" fn allocate_slow(size: usize) -> *mut u8 {
        crate::api::allocate_slow(size, crate::api::UNKNOWN)
    }
}

pub use slow::*;

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
    ($name:ident, $slow:path) => {
        /// # Safety
        /// The argument is null or a block that is not used any more.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(at: *mut ::core::ffi::c_void) {
            // SAFETY: passed on to the caller.
            unsafe { $crate::api::free(at.cast()) }
        }
    };
}
