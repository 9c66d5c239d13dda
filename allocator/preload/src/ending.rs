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
pub(crate) mod exec {
    use tiermem::{NextSymbol, recorder};

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
                    "mov rax, [rip + {known}]",
                    "test rax, rax",
                    "jnz 2f",
                    // An initialiser that runs before this library's.
                    "lea rdi, [rip + {text}]",
                    "call {next}",
                    "2:",
                    "mov r11, rax",
                    "pop rax", "pop r9", "pop r8", "pop rcx", "pop rdx", "pop rsi", "pop rdi",
                    "jmp r11",
                    conclude = sym conclude,
                    known = sym known::$name,
                    next = sym next_definition,
                    text = sym TEXT,
                )
            }
        )+

        /// The C library's functions.
        #[expect(non_upper_case_globals, reason = "they are called as those are")]
        mod known {
            use super::NextSymbol;
            $(pub static $name: NextSymbol = NextSymbol::unknown();)+
        }

        /// Looks all of them up. Here, because `dlsym` takes a lock of the loader's, which a child of fork may find held for ever
        /// by a thread that it does not have.
        pub fn look_up() {
            $(known::$name.look_up(core::ffi::CStr::from_bytes_with_nul($text).unwrap_or_default());)+
        }
        };
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
