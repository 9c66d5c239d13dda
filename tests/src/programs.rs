//! The C and C++ programs in `tests/programs`, compiled on demand.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Run, Tiering, preload, tools};

/// A compiled program.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A run of it, under the preload in this setup.
    pub fn under(&self, tiering: &Tiering) -> Run {
        Run::new(&self.path).under(tiering)
    }

    /// A run of it without any preload.
    pub fn bare(&self) -> Run {
        Run::new(&self.path)
    }
}

/// `programs/NAME.c`, or `None` (and a word about skipping) without a C compiler.
pub fn c_program(name: &str) -> Option<Program> {
    c_program_with(name, &[])
}

/// As [`c_program`], with more compiler flags.
pub fn c_program_with(name: &str, flags: &[&str]) -> Option<Program> {
    compile("cc", &format!("{name}.c"), flags, "")
}

/// `programs/NAME.cpp`, or `None` without a C++ compiler.
pub fn cpp_program(name: &str) -> Option<Program> {
    compile("c++", &format!("{name}.cpp"), &["-std=c++17", "-faligned-new", "-fsized-deallocation"], "")
}

/// `programs/NAME.c` as a shared library, with more compiler flags.
pub fn shared_library(name: &str, flags: &[&str]) -> Option<PathBuf> {
    let flags = [&["-shared", "-fPIC"], flags].concat();
    compile("cc", &format!("{name}.c"), &flags, ".so").map(|library| library.path)
}

/// Compiles into the target directory under a name made of the source's and flags' hash, so that every source is
/// compiled once, however many test processes want it, and never used stale.
fn compile(compiler: &str, source: &str, flags: &[&str], extension: &str) -> Option<Program> {
    let compiler = tools::find(compiler)?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let read =
        |name: &str| std::fs::read(sources.join(name)).unwrap_or_else(|error| panic!("programs/{name}: {error}"));
    // No builtins: the compiler must not fold away the calls that are being tested.
    let flags = [&["-O1", "-g", "-pthread", "-Wall", "-Wextra", "-Werror", "-fno-builtin"], flags].concat();
    let mut hasher = DefaultHasher::new();
    (&compiler, read(source), read("check.h"), &flags).hash(&mut hasher);

    let folder = preload::target_directory().join("tiermem-test-programs");
    std::fs::create_dir_all(&folder).expect("the target directory can be written");
    let path = folder.join(format!("{}-{:016x}{extension}", source.replace('.', "-"), hasher.finish()));
    if !path.exists() {
        let unfinished = folder.join(format!("{source}.{}.{:?}", std::process::id(), std::thread::current().id()));
        let output = Command::new(&compiler)
            .args(&flags)
            .arg("-o")
            .arg(&unfinished)
            .arg(sources.join(source))
            .args(["-ldl", "-lm"])
            .env_remove("LD_PRELOAD")
            .output()
            .expect("the compiler starts");
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "programs/{source} does not compile:\n{complaints}");
        std::fs::rename(&unfinished, &path).expect("a compiled program can be renamed");
    }
    Some(Program { path })
}
