//! Programs that take this one's place: its report is written before.

use std::arch::naked_asm;
use std::ffi::{c_char, c_int};

use crate::process::write_report;
use crate::real::Real;
use crate::signals;

type Strings = *const *const c_char;

static EXECVE: Real<unsafe extern "C" fn(*const c_char, Strings, Strings) -> c_int> = Real::new(c"execve");
static EXECVPE: Real<unsafe extern "C" fn(*const c_char, Strings, Strings) -> c_int> = Real::new(c"execvpe");
static FEXECVE: Real<unsafe extern "C" fn(c_int, Strings, Strings) -> c_int> = Real::new(c"fexecve");
static EXECVEAT: Real<unsafe extern "C" fn(c_int, *const c_char, Strings, Strings, c_int) -> c_int> =
    Real::new(c"execveat");
static EXECV: Real<unsafe extern "C" fn(*const c_char, Strings) -> c_int> = Real::new(c"execv");
static EXECVP: Real<unsafe extern "C" fn(*const c_char, Strings) -> c_int> = Real::new(c"execvp");

/// Before another program takes this process's place. Not in a child of vfork, where all is its parent's.
fn before_exec() {
    if signals::is_own_process() {
        write_report("exec");
    }
}

/// # Safety
/// As execve(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn execve(path: *const c_char, words: Strings, environment: Strings) -> c_int {
    before_exec();
    // SAFETY: passed on to the caller.
    unsafe { EXECVE.get()(path, words, environment) }
}

/// # Safety
/// As execvpe(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn execvpe(file: *const c_char, words: Strings, environment: Strings) -> c_int {
    before_exec();
    // SAFETY: passed on to the caller.
    unsafe { EXECVPE.get()(file, words, environment) }
}

/// # Safety
/// As execv(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn execv(path: *const c_char, words: Strings) -> c_int {
    before_exec();
    // SAFETY: passed on to the caller.
    unsafe { EXECV.get()(path, words) }
}

/// # Safety
/// As execvp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn execvp(file: *const c_char, words: Strings) -> c_int {
    before_exec();
    // SAFETY: passed on to the caller.
    unsafe { EXECVP.get()(file, words) }
}

/// # Safety
/// As fexecve(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn fexecve(file: c_int, words: Strings, environment: Strings) -> c_int {
    before_exec();
    // SAFETY: passed on to the caller.
    unsafe { FEXECVE.get()(file, words, environment) }
}

/// # Safety
/// As execveat(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn execveat(
    folder: c_int,
    path: *const c_char,
    words: Strings,
    environment: Strings,
    flags: c_int,
) -> c_int {
    before_exec();
    // SAFETY: passed on to the caller.
    unsafe { EXECVEAT.get()(folder, path, words, environment, flags) }
}

/// Functions with any number of arguments, which the C library's gets as they are.
macro_rules! with_list {
    ($($name:ident, $real:literal;)*) => {$(
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            extern "C" fn before() -> usize {
                static REAL: Real<usize> = Real::new($real);
                before_exec();
                REAL.get()
            }
            naked_asm!(
                "push rdi",
                "push rsi",
                "push rdx",
                "push rcx",
                "push r8",
                "push r9",
                "push rax",
                "call {before}",
                "mov r11, rax",
                "pop rax",
                "pop r9",
                "pop r8",
                "pop rcx",
                "pop rdx",
                "pop rsi",
                "pop rdi",
                "jmp r11",
                before = sym before,
            )
        }
    )*};
}

with_list! {
    execl, c"execl";
    execlp, c"execlp";
    execle, c"execle";
}
