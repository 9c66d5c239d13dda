//! The functions that end a process, or its program, without exit handlers: what a recorded process has not written yet would
//! be lost with it.
//!
//! In every other process they go straight on.

use std::ffi::{c_int, c_void};

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

/// Has the trace concluded by `quick_exit` too, in a recorded process. The handlers of that run in the reverse order of their
/// registration, and this one comes before all of the program's: what those allocate is recorded.
pub fn conclude_at_quick_exit() {
    type Handler = extern "C" fn(*mut c_void);
    unsafe extern "C" {
        // The linker's: tells this library's handlers from others, so that they go when it does.
        static __dso_handle: u8;
    }
    extern "C" fn handler(_: *mut c_void) {
        recorder::conclude();
    }
    if !recorder::is_on() {
        return;
    }
    // What C's at_quick_exit calls, which is no function of the library's own.
    let register = tiermem::next_symbol(c"__cxa_at_quick_exit");
    if register.is_null() {
        return;
    }
    // SAFETY: the C library's function of this name, whose type this is (Linux Standard Base, and glibc's `cxa_at_quick_exit.c`).
    let register: extern "C" fn(Handler, *const u8) -> c_int = unsafe { std::mem::transmute(register) };
    // Without memory for it the end of such a process is missing, as before.
    let _ = register(handler, &raw const __dso_handle);
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
        // And these end the process. Where the C library calls its own `abort` it does not come by here, but for assertions.
        abort, b"abort\0";
        __assert_fail, b"__assert_fail\0";
    }
}
