//! The functions that compilers call before an access.
//!
//! LLVM's address sanitizer, in its kernel variant with optimised callbacks, calls `__asan_check_load_add_8_RDI` before
//! a load of eight bytes at the address in `rdi`. Such a function may change `r10`, `r11` and the flags, nothing else:
//! LLVM defines the instruction behind the call with exactly these clobbers (`ASAN_CHECK_MEMACCESS` in
//! `llvm/lib/Target/X86/X86InstrAsan.td`) and never passes the address in one of them. So the surrounding code keeps
//! all that it has in registers, vectors included.
//!
//! Their text is [`check_text`], which says what they do. Where the [buffer](crate::buffer) is full or enough was counted,
//! [`refill`] saves every register and calls [`drain`](crate::buffer::drain).

use std::arch::naked_asm;

use tiermem_emulator::check_text;
use tiermem_emulator::instrumented::record;

use crate::buffer::{self, BYTES, drain};
use crate::state::OFFSET;

// What the code below has as numbers.
const _: () = assert!(BYTES == 4096);
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

/// Defines all checks through these registers.
macro_rules! checks {
    ($($upper:literal $register:literal $low:literal)*) => {
        $(checks!(@sizes $upper $register $low 1 2 4 8 16);)*
    };
    (@sizes $upper:literal $register:literal $low:literal $($size:tt)*) => {$(
        checks!(@one concat!("__asan_check_load_add_", $size, "_", $upper), load $size $register $low);
        checks!(@one concat!("__asan_check_store_add_", $size, "_", $upper), store $size $register $low);
    )*};
    (@one $name:expr, $($what:tt)*) => {
        const _: () = {
            #[unsafe(export_name = $name)]
            #[unsafe(naked)]
            unsafe extern "C" fn check() {
                naked_asm!(check_text!($($what)* in shared), offset = sym OFFSET, refill = sym refill)
            }
        };
    };
}

// All general registers but `rsp`, `r10` and `r11`: LLVM's class GR64PLTSafe.
checks! {
    "RAX" "rax" "eax" "RBX" "rbx" "ebx" "RCX" "rcx" "ecx" "RDX" "rdx" "edx" "RSI" "rsi" "esi" "RDI" "rdi" "edi"
    "RBP" "rbp" "ebp" "R8" "r8" "r8d" "R9" "r9" "r9d" "R12" "r12" "r12d" "R13" "r13" "r13d" "R14" "r14" "r14d"
    "R15" "r15" "r15d"
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
