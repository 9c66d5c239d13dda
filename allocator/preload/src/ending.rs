//! The functions that end a process, or its program, without exit handlers: what a recorded process has not written yet would
//! be lost with it.
//!
//! In every other process they go straight on.

use std::ffi::c_int;

use tiermem::{exit_by_kernel, recorder};

/// _exit(2). By the kernel's own call, because the C library's function may not be looked up in a signal handler, where this
/// one may be called.
#[unsafe(no_mangle)]
extern "C" fn _exit(code: c_int) -> ! {
    recorder::conclude();
    exit_by_kernel(code)
}

/// C's name for the same.
#[unsafe(no_mangle)]
extern "C" fn _Exit(code: c_int) -> ! {
    _exit(code)
}

#[cfg(target_arch = "x86_64")]
mod exec {
    use tiermem::recorder;

    use crate::cxx::next_definition;

    /// Concludes the trace and goes on in the C library's function of this name, whatever its arguments.
    macro_rules! define {
        ($($name:ident, $text:literal;)+) => {$(
            #[unsafe(naked)]
            #[unsafe(no_mangle)]
            extern "C" fn $name() {
                static TEXT: [u8; $text.len()] = *$text;
                std::arch::naked_asm!(
                    // All that may hold arguments; with the return address they keep the stack aligned.
                    "push rdi", "push rsi", "push rdx", "push rcx", "push r8", "push r9", "push rax",
                    "call {conclude}",
                    "lea rdi, [rip + {text}]",
                    "call {next}",
                    "mov r11, rax",
                    "pop rax", "pop r9", "pop r8", "pop rcx", "pop rdx", "pop rsi", "pop rdi",
                    "jmp r11",
                    conclude = sym conclude,
                    next = sym next_definition,
                    text = sym TEXT,
                )
            }
        )+};
    }

    extern "C" fn conclude() {
        recorder::conclude();
    }

    define! {
        execve, b"execve\0";
        execv, b"execv\0";
        execvp, b"execvp\0";
        execvpe, b"execvpe\0";
        execl, b"execl\0";
        execlp, b"execlp\0";
        execle, b"execle\0";
        fexecve, b"fexecve\0";
        execveat, b"execveat\0";
    }
}
