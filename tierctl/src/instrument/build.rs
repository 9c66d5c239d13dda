//! How compilers are told to put a call in front of each access.
//!
//! LLVM's address sanitizer in its kernel variant, with nothing of it left but the calls: no shadow memory, no red zones, no
//! check left out because an earlier one covers it. Its callbacks keep all registers (see `tiermem_instrument::checks`). The
//! pass runs after all others, so that what is counted is what the optimiser has left over. [`compilers`] has those of C
//! and C++.

use std::env;
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::checks;
use super::compilers::{self, Compilers};
use super::tools::Tools;
use crate::exit::Failure;

/// Options of LLVM that all versions have.
pub const SANITIZER: [&str; 10] = [
    // A call for each access, however many there are.
    "-asan-instrumentation-with-call-threshold=0",
    "-asan-max-ins-per-bb=1000000000",
    // Calls that keep registers.
    "-asan-optimize-callbacks",
    // An access that is not aligned is one access all the same.
    "-asan-mapping-scale=0",
    "-asan-stack=0",
    "-asan-globals=0",
    // No access is left out: because another one is near, because it is on the stack, because it must be in bounds.
    "-asan-opt=0",
    "-asan-skip-promotable-allocas=0",
    "-asan-use-stack-safety=0",
    "-asan-instrument-dynamic-allocas=0",
];

/// Options of the LLVM in rustc.
const RUST_SANITIZER: [&str; 4] = [
    "-asan-constructor-kind=none",
    "-force-attribute=sanitize_address",
    // Comparisons of a known length would become loads behind the sanitizer's back.
    "-force-attribute=memcmp:nobuiltin",
    "-force-attribute=bcmp:nobuiltin",
];

/// Between the flags of `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\x1f";

/// The profiles that cargo has; those of the program's own cannot be told apart from here.
const PROFILES: [&str; 4] = ["DEV", "RELEASE", "TEST", "BENCH"];

/// The command, with what its compilers are told in its environment.
///
/// # Errors
/// If wrappers cannot be written, or the triple of this machine is not known.
pub fn command(program: &Path, words: &[OsString], library: &Path) -> Result<Command, Failure> {
    let place = library.parent().unwrap_or(Path::new("/")).to_path_buf();
    let tools = Tools::open()?;
    let object = checks::object(&tools)?;
    Compilers::new(&tools, &place, &object).wrap(words)?;
    let linker = tools.script(&linker_name(&object)?, &checks::with_object("cc", &object))?;
    let program = match words.first() {
        Some(name) if Compilers::has(words, name) => tools.bin().join(name),
        _ => program.to_path_buf(),
    };
    let mut command = Command::new(program);
    if let Some(name) = words.first() {
        command.arg0(name);
    }
    // Set where cargo runs tierctl; the compilers' scripts see by it whether cargo calls them.
    command.args(words.iter().skip(1)).env_remove(compilers::UNDER_CARGO);
    command.env("PATH", in_front(&tools.bin(), "PATH"));
    // Programs know where the run time was when they were built.
    command.env("LD_LIBRARY_PATH", in_front(&place, "LD_LIBRARY_PATH"));
    command.env("CARGO_ENCODED_RUSTFLAGS", rust_flags(&place, &linker)).env_remove("RUSTFLAGS");
    let names_target = words.iter().any(|word| word.to_string_lossy().starts_with("--target"));
    if env::var_os("CARGO_BUILD_TARGET").is_none() && !names_target {
        command.env("CARGO_BUILD_TARGET", TRIPLE);
    }
    for profile in PROFILES {
        command.env(format!("CARGO_PROFILE_{profile}_LTO"), "off");
    }
    Ok(command)
}

/// A list of folders with one more in front of it. (Nothing between two colons would be the present folder.)
fn in_front(folder: &Path, variable: &str) -> OsString {
    let mut list = folder.as_os_str().to_owned();
    if let Some(before) = env::var_os(variable).filter(|before| !before.is_empty()) {
        list.push(":");
        list.push(before);
    }
    list
}

/// A name that is another one where the checks are: it stands in a flag, so that cargo builds programs anew that have the checks
/// of before.
fn linker_name(object: &Path) -> Result<String, Failure> {
    let checks = std::fs::read(object).map_err(|error| Failure::from_io(object.display(), &error))?;
    let mut hasher = DefaultHasher::new();
    checks.hash(&mut hasher);
    Ok(format!("link-{:016x}", hasher.finish()))
}

/// The only one that the run time is for.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

fn rust_flags(place: &Path, linker: &Path) -> OsString {
    let before = env::var_os("CARGO_ENCODED_RUSTFLAGS").or_else(|| {
        let plain = env::var_os("RUSTFLAGS")?;
        Some(plain.to_string_lossy().split_whitespace().collect::<Vec<_>>().join(SEPARATOR).into())
    });
    let mut flags: Vec<OsString> = before.into_iter().filter(|flags| !flags.is_empty()).collect();
    flags.extend(
        [
            // With several units, functions of one are not inlined into another without LTO.
            "-Ccodegen-units=1",
            // The optimiser of LTO would run behind the sanitizer.
            "-Cembed-bitcode=no",
            "-Cno-redzone=yes",
            "-Cforce-frame-pointers=yes",
            "-Cpasses=forceattrs,asan<kernel>",
        ]
        .map(OsString::from),
    );
    flags.extend(SANITIZER.iter().chain(&RUST_SANITIZER).map(|option| format!("-Cllvm-args={option}").into()));
    let mut linked = OsString::from("-Lnative=");
    linked.push(place);
    let mut found = OsString::from("-Clink-arg=-Wl,-rpath,");
    found.push(place);
    let mut linker_flag = OsString::from("-Clinker=");
    linker_flag.push(linker);
    flags.extend([linker_flag, "-Clinker-flavor=gcc".into(), linked, "-ldylib=tiermem_instrument".into(), found]);
    flags.join(OsStr::new(SEPARATOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_checks_are_another_flag() {
        let folder = tempfile::tempdir().unwrap();
        let name = |text: &str| {
            let object = folder.path().join("checks.o");
            std::fs::write(&object, text).unwrap();
            linker_name(&object).unwrap()
        };
        assert_eq!(name("some"), name("some"));
        assert_ne!(name("some"), name("others"));
        assert!(linker_name(Path::new("/no/such.o")).is_err());
    }
}
