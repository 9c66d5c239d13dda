//! C++'s `new`, so that a block's site is who wrote `new`: the C++ library keeps no frame pointers, and would hide the caller.
//!
//! Where there is no memory, the C++ library's own goes on, which asks the program for some or throws. Then no frame of this
//! library's is in between. (`delete` ends in `free`.)

use std::arch::naked_asm;
use std::ffi::c_void;

use crate::heap::begins;
use crate::real::{__libc_malloc, __libc_memalign, Real};

/// A block, or else the function that goes on.
#[repr(C)]
struct Answer {
    at: *mut c_void,
    otherwise: usize,
}

/// An operator under its mangled name, its body, and the registers that the body has the caller and its frame in.
macro_rules! operators {
    ($($name:ident, $real:literal, $body:ident, $caller:literal, $frame:literal;)*) => {$(
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name() {
            unsafe extern "C" fn body(a: usize, b: usize, c: usize, d: usize) -> Answer {
                static REAL: Real<usize> = Real::new($real);
                $body(a, b, c, d).unwrap_or_else(|| Answer { at: std::ptr::null_mut(), otherwise: REAL.get() })
            }
            naked_asm!(
                concat!("mov ", $caller, ", qword ptr [rsp]"),
                concat!("mov ", $frame, ", rbp"),
                "push rdi",
                "push rsi",
                "sub rsp, 8",
                "call {body}",
                "add rsp, 8",
                "pop rsi",
                "pop rdi",
                "test rax, rax",
                "jz 2f",
                "ret",
                "2: jmp rdx",
                body = sym body,
            )
        }
    )*};
}

operators! {
    _Znwm, c"_Znwm", plain, "rdx", "rcx";
    _Znam, c"_Znam", plain, "rdx", "rcx";
    _ZnwmRKSt9nothrow_t, c"_ZnwmRKSt9nothrow_t", plain, "rdx", "rcx";
    _ZnamRKSt9nothrow_t, c"_ZnamRKSt9nothrow_t", plain, "rdx", "rcx";
    _ZnwmSt11align_val_t, c"_ZnwmSt11align_val_t", aligned, "rdx", "rcx";
    _ZnamSt11align_val_t, c"_ZnamSt11align_val_t", aligned, "rdx", "rcx";
}

/// Behind the size may stand anything.
fn plain(size: usize, _: usize, caller: usize, frame: usize) -> Option<Answer> {
    // SAFETY: any size may be asked for.
    answer(unsafe { __libc_malloc(size.max(1)) }, size, caller, frame)
}

fn aligned(size: usize, align: usize, caller: usize, frame: usize) -> Option<Answer> {
    // SAFETY: the C library checks the alignment.
    answer(unsafe { __libc_memalign(align, size.max(1)) }, size, caller, frame)
}

fn answer(at: *mut c_void, size: usize, caller: usize, frame: usize) -> Option<Answer> {
    (!at.is_null()).then(|| Answer { at: begins(at, size, caller, frame), otherwise: 0 })
}
