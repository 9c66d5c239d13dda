//! The functions that compilers call before an access.
//!
//! LLVM's address sanitizer, in its kernel variant with optimised callbacks, calls `__asan_check_load_add_8_RDI` before
//! a load of eight bytes at the address in `rdi`. Such a function may change `r10`, `r11` and the flags, nothing else:
//! LLVM defines the instruction behind the call with exactly these clobbers (`ASAN_CHECK_MEMACCESS` in
//! `llvm/lib/Target/X86/X86InstrAsan.td`) and never passes the address in one of them. So the surrounding code keeps
//! all that it has in registers, vectors included.
//!
//! The fast path appends one word to the thread's [buffer](crate::buffer), and the value of an eight-byte load beside
//! it. Where the buffer is full, [`refill`] saves every register and calls [`drain`](crate::buffer::drain).

use std::arch::naked_asm;

use tiermem_emulator::instrumented::record;

use crate::buffer::{self, BYTES, OFFSET, drain};

// What the code below has as numbers.
const _: () = assert!(BYTES == 4096 && buffer::FIRST == 8);
const _: () = assert!(record::ADDRESS_BITS == 48 && record::STORE == 1 << 63);

/// Makes room in the buffer, with all registers but `r10` and `r11` as they were.
///
/// The state of the vector units is saved with `xsave`: what runs in between may call functions of the C library that
/// use any of them. Mask 0xe7: x87, SSE, AVX, and the three parts of AVX-512. Its layout needs 2,696 bytes at most
/// (Intel SDM volume 1, 13.4), of which the header's 64 are to be zero before.
#[unsafe(naked)]
#[unsafe(export_name = "tiermem_instrument_refill")]
unsafe extern "C" fn refill() {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "sub rsp, 2752",
        "and rsp, -64",
        "xor eax, eax",
        "mov qword ptr [rsp + 512], rax",
        "mov qword ptr [rsp + 520], rax",
        "mov qword ptr [rsp + 528], rax",
        "mov qword ptr [rsp + 536], rax",
        "mov qword ptr [rsp + 544], rax",
        "mov qword ptr [rsp + 552], rax",
        "mov qword ptr [rsp + 560], rax",
        "mov qword ptr [rsp + 568], rax",
        "mov eax, 0xe7",
        "xor edx, edx",
        "xsave64 [rsp]",
        "cld",
        "call {drain}",
        "mov eax, 0xe7",
        "xor edx, edx",
        "xrstor64 [rsp]",
        "lea rsp, [rbp - 56]",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "pop rbp",
        "ret",
        drain = sym drain,
    )
}

/// Defines the check of an access through one register: `$tag` is the record without the address. `$value` are the
/// instructions that note what is loaded.
macro_rules! check {
    ($name:expr, $register:literal, $tag:expr, $($value:literal),*) => {
        const _: () = {
            #[unsafe(export_name = $name)]
            #[unsafe(naked)]
            unsafe extern "C" fn check() {
                naked_asm!(
                    "2:",
                    "mov r10, qword ptr [rip + {offset}]",
                    "mov r10, qword ptr fs:[r10]",
                    "test r10d, 4095",
                    "jz 3f",
                    $(concat!($value, "[", $register, "]"), "mov qword ptr [r10 + 4096], r11",)*
                    "movabs r11, {tag}",
                    concat!("or r11, ", $register),
                    "mov qword ptr [r10], r11",
                    "mov r11, qword ptr [rip + {offset}]",
                    "add r10, 8",
                    "mov qword ptr fs:[r11], r10",
                    "ret",
                    "3: call {refill}",
                    "jmp 2b",
                    tag = const $tag.cast_signed(),
                    offset = sym OFFSET,
                    refill = sym refill,
                )
            }
        };
    };
}

/// All checks through one register.
macro_rules! checks {
    ($($upper:literal $register:literal)*) => {$(
        check!(concat!("__asan_check_load_add_1_", $upper), $register, record::access(0, 1, false),);
        check!(concat!("__asan_check_load_add_2_", $upper), $register, record::access(0, 2, false),);
        check!(concat!("__asan_check_load_add_4_", $upper), $register, record::access(0, 4, false),);
        check!(concat!("__asan_check_load_add_8_", $upper), $register, record::access(0, 8, false), "mov r11, ");
        check!(concat!("__asan_check_load_add_16_", $upper), $register, record::access(0, 16, false),);
        check!(concat!("__asan_check_store_add_1_", $upper), $register, record::access(0, 1, true),);
        check!(concat!("__asan_check_store_add_2_", $upper), $register, record::access(0, 2, true),);
        check!(concat!("__asan_check_store_add_4_", $upper), $register, record::access(0, 4, true),);
        check!(concat!("__asan_check_store_add_8_", $upper), $register, record::access(0, 8, true),);
        check!(concat!("__asan_check_store_add_16_", $upper), $register, record::access(0, 16, true),);
    )*};
}

// All general registers but `rsp`, `r10` and `r11`: LLVM's class GR64PLTSafe.
checks! {
    "RAX" "rax" "RBX" "rbx" "RCX" "rcx" "RDX" "rdx" "RSI" "rsi" "RDI" "rdi" "RBP" "rbp"
    "R8" "r8" "R9" "r9" "R12" "r12" "R13" "r13" "R14" "r14" "R15" "r15"
}

/// An access of a size that has no check of its own: vectors of 32 and 64 bytes, `x87` numbers, packed integers.
#[unsafe(no_mangle)]
extern "C" fn __asan_loadN(address: u64, len: u64) {
    buffer::range(address, len, false);
}

#[unsafe(no_mangle)]
extern "C" fn __asan_storeN(address: u64, len: u64) {
    buffer::range(address, len, true);
}

#[unsafe(no_mangle)]
extern "C" fn __asan_loadN_noabort(address: u64, len: u64) {
    buffer::range(address, len, false);
}

#[unsafe(no_mangle)]
extern "C" fn __asan_storeN_noabort(address: u64, len: u64) {
    buffer::range(address, len, true);
}

/// Called before a call that does not return, where the sanitizer would forget about the stack.
#[unsafe(no_mangle)]
extern "C" fn __asan_handle_no_return() {}
