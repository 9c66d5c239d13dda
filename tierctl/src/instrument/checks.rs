//! The checks that are linked into executables: those of `libtiermem_instrument.so`, two instructions and a jump shorter.
//!
//! An executable knows at link time where its thread-local words are, and calls what lies in it directly. So it gets the
//! threads' state as well, and tells the run time of that and of its checks before anything else runs (`.preinit_array`).
//! Shared libraries, and executables that were linked without, call the checks in the run time. See
//! `tiermem_emulator::instrumented::check` for what they do and may do.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tiermem_emulator::check_text;
use tiermem_emulator::instrumented::filter::STATE_BYTES;

use super::tools::Tools;
use crate::exit::{Exit, Failure};

const TAIL: &str = "
tiermem_checks_register:
 mov rdi, offset tiermem_checks_state@TPOFF
 lea rsi, [rip + tiermem_checks_all]
 mov edx, offset (tiermem_checks_end - tiermem_checks_all) / 8
 jmp tiermem_instrument_state
 .section .preinit_array, \"aw\"
 .balign 8
 .quad tiermem_checks_register
 .section .note.GNU-stack, \"\", @progbits
";

/// Name and text of all checks through these registers.
macro_rules! checks {
    ($($upper:literal $register:literal $low:literal)*) => {
        [$(checks!(@sizes $upper $register $low 1 2 4 8 16)),*]
    };
    (@sizes $upper:literal $register:literal $low:literal $($size:tt)*) => {
        [$(
            (concat!("load_add_", $size, "_", $upper), check_text!(load $size $register $low in executable)),
            (concat!("store_add_", $size, "_", $upper), check_text!(store $size $register $low in executable)),
        )*]
    };
}

const CHECKS: [[(&str, &str); 10]; 13] = checks! {
    "RAX" "rax" "eax" "RBX" "rbx" "ebx" "RCX" "rcx" "ecx" "RDX" "rdx" "edx" "RSI" "rsi" "esi" "RDI" "rdi" "edi"
    "RBP" "rbp" "ebp" "R8" "r8" "r8d" "R9" "r9" "r9d" "R12" "r12" "r12d" "R13" "r13" "r13d" "R14" "r14" "r14d"
    "R15" "r15" "r15d"
};

/// All of them, for the assembler.
fn assembly() -> String {
    let mut text = String::from(" .intel_syntax noprefix\n .text\n");
    for (name, check) in CHECKS.as_flattened() {
        let name = format!("__asan_check_{name}");
        // Writing to a string cannot fail.
        let _ =
            write!(text, " .p2align 4\n .globl {name}\n .hidden {name}\n .type {name}, @function\n{name}:\n{check}");
    }
    text.push_str(" .section .data.rel.ro, \"aw\"\n .balign 8\ntiermem_checks_all:\n");
    for (name, _) in CHECKS.as_flattened() {
        let _ = writeln!(text, " .quad __asan_check_{name}");
    }
    let _ = write!(
        text,
        "tiermem_checks_end:\n .section .tbss, \"awT\", @nobits\n .balign 64\n .type tiermem_checks_state, @object\n \
         .size tiermem_checks_state, {STATE_BYTES}\ntiermem_checks_state: .zero {STATE_BYTES}\n .text\n"
    );
    text + TAIL
}

/// Assembles them with the C compiler that Rust links with too.
///
/// # Errors
/// If there is none.
pub fn object(tools: &Tools) -> Result<PathBuf, Failure> {
    let text = assembly();
    tools.keep("checks.o", &text, |object| {
        let source = object.with_extension("s");
        std::fs::write(&source, &text).map_err(|error| Failure::from_io(source.display(), &error))?;
        let run = Command::new("cc").arg("-c").arg(&source).arg("-o").arg(object).output();
        drop(std::fs::remove_file(&source));
        let output = run.map_err(|error| Failure::from_io("cc, which links programs", &error))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Failure::new(Exit::Failed, format!("cc cannot assemble: {}", String::from_utf8_lossy(&output.stderr))))
    })
}

/// A shell script that runs `command` on its arguments, with `object` unless it makes no executable.
pub fn with_object(command: &str, object: &Path) -> String {
    format!(
        "#!/bin/sh\nfor word; do\n  case $word in\n    -c|-S|-E|-M|-MM|-shared|-r|-static|-static-pie|--version|-v) exec \
         {command} \"$@\" ;;\n  esac\ndone\nexec {command} \"$@\" '{}'\n",
        object.display()
    )
}
