//! System packages that a chore needs: installed with apt where this is root, named on one line where it is not.

use std::fs;
use std::process::Command;

use crate::failure::{Context, Failure, Result};
use crate::step::{answered, captured};

/// What the workspace is built with, beside Rust and a C compiler. The hwloc bindings ask the linker for what hwloc
/// itself uses too, hence libudev.
pub const BUILD: &[&str] = &["libhwloc-dev", "libudev-dev", "pkg-config"];
/// What the demo runs.
pub const DEMO: &[&str] = &["libhwloc-dev", "libudev-dev", "pkg-config", "procps", "redis-server"];
/// What the tests run: compilers, real programs, an OpenCL implementation on the CPU.
pub const TEST: &[&str] = &[
    "libhwloc-dev",
    "libudev-dev",
    "pkg-config",
    "procps",
    "binutils",
    "clang",
    "gcc",
    "g++",
    "make",
    "redis-server",
    "python3",
    "sqlite3",
    "valgrind",
    "libjemalloc2",
    "ocl-icd-libopencl1",
    "pocl-opencl-icd",
];

/// What the benchmarks run: a C++ compiler for the rivals that are built here, those that Debian has, callgrind, and real
/// programs.
pub const BENCH: &[&str] = &[
    "libhwloc-dev",
    "libudev-dev",
    "pkg-config",
    "gcc",
    "g++",
    "make",
    "libjemalloc2",
    "libtcmalloc-minimal4",
    "libmimalloc2.0",
    "valgrind",
    "redis-server",
    "sqlite3",
    "python3",
    "ghostscript",
];

/// Makes sure that the Debian packages `names` are installed.
///
/// On a system without dpkg it says what is needed and goes on: a missing one then shows where it is used.
pub fn ensure(names: &[&str]) -> Result<()> {
    let Some(missing) = missing(names) else {
        eprintln!("xtask: this is no Debian or Ubuntu; going on in the hope that it has {}", names.join(" "));
        return Ok(());
    };
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root()? {
        return Err(Failure::new(format!(
            "these system packages are missing; install them and try again:\n  sudo apt-get install -y {}",
            missing.join(" ")
        )));
    }
    println!("installing {}", missing.join(" "));
    install(&missing)
}

/// Installs Python's own regression tests, which Debian packs for each version of Python. They are no condition: the tests
/// that want them are skipped without.
pub fn offer_python_tests() {
    let version = "import sys; print('%d.%d' % sys.version_info[:2])";
    // The system's own, not one that happens to come first in the PATH.
    if let Some(version) = answered(Command::new("/usr/bin/python3").args(["-c", version])) {
        offer(&format!("libpython{}-testsuite", version.trim()));
    }
}

/// Installs the headers for plugins of gcc, which Debian packs for each of its versions. They are no condition: the tests
/// that instrument programs with gcc are skipped without.
pub fn offer_gcc_plugins() {
    let version = answered(Command::new("gcc").arg("-dumpversion"));
    if let Some(package) = version.and_then(|version| plugin_headers(&version)) {
        offer(&package);
    }
}

/// The package of the headers for the gcc that gave this version, as its last line.
fn plugin_headers(answer: &str) -> Option<String> {
    let version = answer.lines().last()?.split('.').next()?;
    version.parse::<u32>().ok().map(|version| format!("gcc-{version}-plugin-dev"))
}

/// Installs a package if that can be done.
fn offer(package: &str) {
    let wanted = missing(&[package]).is_some_and(|missing| !missing.is_empty());
    if wanted && is_root().is_ok_and(|root| root) {
        println!("installing {package}");
        if let Err(failure) = install(&[package]) {
            println!("{package} could not be installed: {failure}");
        }
    }
}

/// The packages of `names` that are not installed; `None` if there is no dpkg to ask.
fn missing<'a>(names: &[&'a str]) -> Option<Vec<&'a str>> {
    let query = ["--showformat=${Package} ${db:Status-Status}\n", "--show"];
    let answer = Command::new("dpkg-query").args(query).args(names).output().ok()?;
    Some(absent(names, &String::from_utf8_lossy(&answer.stdout)))
}

fn absent<'a>(names: &[&'a str], answer: &str) -> Vec<&'a str> {
    let installed = |name: &str| answer.lines().any(|line| line.split_once(' ') == Some((name, "installed")));
    names.iter().copied().filter(|name| !installed(name)).collect()
}

fn install(names: &[&str]) -> Result<()> {
    let apt = |args: &[&str]| {
        captured(Command::new("apt-get").args(args).args(names).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let install = ["install", "-y", "--no-install-recommends"];
    let (done, _) = apt(&install);
    if done {
        return Ok(());
    }
    // The package lists may be missing or old.
    let (updated, why_not) = captured(Command::new("apt-get").arg("update"));
    if !updated {
        return Err(Failure::new(why_not));
    }
    let (done, why_not) = apt(&install);
    if done { Ok(()) } else { Err(Failure::new(why_not)) }
}

fn is_root() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status").while_doing("/proc/self/status")?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    // Real, effective, saved and file-system user.
    Ok(ids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_count() {
        let answer = "gcc installed\nredis-server config-files\n";
        assert_eq!(absent(&["gcc", "redis-server", "valgrind"], answer), ["redis-server", "valgrind"]);
    }

    /// What a command says comes behind a line with the command itself.
    #[test]
    fn the_headers_are_those_of_the_gcc_that_is_there() {
        assert_eq!(plugin_headers("$ gcc -dumpversion\n12\n").as_deref(), Some("gcc-12-plugin-dev"));
        assert_eq!(plugin_headers("$ gcc -dumpversion\n14.2.0\n").as_deref(), Some("gcc-14-plugin-dev"));
        assert_eq!(plugin_headers("$ gcc -dumpversion\ngcc: no such option\n"), None);
        let (known, answer) = captured(Command::new("gcc").arg("-dumpversion"));
        assert!(!known || plugin_headers(&answer).is_some(), "{answer}");
    }

    #[test]
    fn a_package_that_cannot_exist_is_missing() {
        if let Some(missing) = missing(&["no-such-package-here"]) {
            assert_eq!(missing, ["no-such-package-here"]);
        } else {
            eprintln!("SKIP a_package_that_cannot_exist_is_missing: no dpkg-query here");
        }
    }
}
