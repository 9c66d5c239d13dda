//! The checks that are linked into executables: those of `libtiermem_instrument.so`, three instructions and a jump shorter.
//!
//! An executable knows at link time where its thread-local words are, and calls what lies in it directly. So it gets the
//! position of the buffer as well, and tells the run time of that before anything else runs (`.preinit_array`). Shared
//! libraries, and executables that were linked without, call the checks in the run time. See `tiermem_instrument::checks`
//! for what they do and may do; `tests/` compares their counts.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tiermem_emulator::instrumented::record;

use super::tools::Tools;
use crate::exit::{Exit, Failure};

const REGISTERS: [&str; 13] = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r12", "r13", "r14", "r15"];
const SIZES: [u8; 5] = [1, 2, 4, 8, 16];

const TAIL: &str = "
tiermem_checks_register:
 mov rdi, offset tiermem_checks_position@TPOFF
 jmp tiermem_instrument_register
 .section .preinit_array, \"aw\"
 .balign 8
 .quad tiermem_checks_register
 .section .tbss, \"awT\", @nobits
 .balign 8
 .type tiermem_checks_position, @object
 .size tiermem_checks_position, 8
tiermem_checks_position: .zero 8
 .section .note.GNU-stack, \"\", @progbits
";

/// All of them, for the assembler.
fn assembly() -> String {
    let mut text = String::from(" .intel_syntax noprefix\n .text\n");
    for register in REGISTERS {
        for size in SIZES {
            for store in [false, true] {
                check(&mut text, register, size, store);
            }
        }
    }
    text + TAIL
}

fn check(text: &mut String, register: &str, size: u8, store: bool) {
    let kind = if store { "store" } else { "load" };
    let name = format!("__asan_check_{kind}_add_{size}_{}", register.to_uppercase());
    let tag = record::access(0, size, store);
    let value = match (size, store) {
        (8, false) => format!(" mov r11, [{register}]\n mov [r10 + 4096], r11\n"),
        _ => String::new(),
    };
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        " .p2align 4\n .globl {name}\n .hidden {name}\n .type {name}, @function\n{name}:\n \
         mov r10, fs:[tiermem_checks_position@TPOFF]\n \
         test r10d, 4095\n \
         jz 3f\n\
         2:\n{value} \
         movabs r11, {tag}\n \
         or r11, {register}\n \
         mov [r10], r11\n \
         add r10, 8\n \
         mov fs:[tiermem_checks_position@TPOFF], r10\n \
         ret\n\
         3: call tiermem_instrument_refill\n \
         mov r10, fs:[tiermem_checks_position@TPOFF]\n \
         jmp 2b\n"
    );
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
