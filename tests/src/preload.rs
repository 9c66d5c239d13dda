//! Where what is tested lies, built first where it is missing or stale.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The library to preload: `TIERMEM_PRELOAD`, or the release build of this workspace, built first where it is missing or
/// older than a source file (a test against yesterday's library proves nothing).
pub fn preload() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("TIERMEM_PRELOAD") {
        Some(given) => PathBuf::from(given).canonicalize().expect("TIERMEM_PRELOAD names no file"),
        None => built(),
    })
}

/// Cargo's target directory, found from where this test program runs (`target/PROFILE/deps/NAME`).
pub(crate) fn target_directory() -> PathBuf {
    let program = std::env::current_exe().expect("the test program knows its own path");
    program.ancestors().nth(3).expect("test programs lie in target/PROFILE/deps").to_path_buf()
}

fn built() -> PathBuf {
    let target = target_directory();
    let library = target.join("release/libtiermem.so");
    build_unless_fresh(&library, &["sys", "tiers", "placement", "trace", "allocator"], |cargo| {
        cargo.args(["build", "--release", "--package", "tiermem-preload", "--target-dir"]).arg(&target);
    });
    library
}

/// `tierctl`: `TIERMEM_TIERCTL`, or the release build of this workspace, made when missing or stale.
pub fn tierctl() -> PathBuf {
    if let Some(given) = std::env::var_os("TIERMEM_TIERCTL") {
        return PathBuf::from(given).canonicalize().expect("TIERMEM_TIERCTL names no file");
    }
    let target = target_directory();
    let program = target.join("release/tierctl");
    let rooms = ["sys", "tiers", "complaint", "placement", "trace", "allocator", "emulator", "qemu", "tierctl"];
    build_unless_fresh(&program, &rooms, |cargo| {
        cargo.args(["build", "--release", "--package", "tierctl", "--target-dir"]).arg(&target);
    });
    program
}

/// A program of this package as one static file, for guests that have no libraries.
pub fn static_program(name: &str) -> PathBuf {
    const PLATFORM: &str = "x86_64-unknown-linux-gnu";
    let target = target_directory().join("static");
    let program = target.join(PLATFORM).join("release").join(name);
    build_unless_fresh(
        &program,
        &["sys", "tiers", "placement", "trace", "allocator", "emulator", "tests/src"],
        |cargo| {
            // A target is named so that the flags are not those of build scripts.
            cargo.args([
                "build",
                "--release",
                "--package",
                "tiermem-tests",
                "--bins",
                "--target",
                PLATFORM,
                "--target-dir",
            ]);
            cargo
                .arg(&target)
                .env("RUSTFLAGS", "-C target-feature=+crt-static")
                .env("CARGO_PROFILE_RELEASE_LTO", "off");
        },
    );
    program
}

/// Runs cargo with these arguments where `file` is missing or older than a file of the rooms that it is made of.
fn build_unless_fresh(file: &Path, rooms: &[&str], arguments: impl FnOnce(&mut Command)) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    let sources = rooms.iter().chain(&["Cargo.lock"]).map(|room| newest(&workspace.join(room)));
    let newest = sources.max().unwrap_or(SystemTime::UNIX_EPOCH);
    if modified(file).is_some_and(|built| newest <= built) {
        return;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    arguments(&mut cargo);
    let status = cargo.arg("--quiet").current_dir(workspace).status().expect("cargo starts");
    assert!(status.success(), "cargo could not build {}", file.display());
    // Cargo leaves a file alone that comes out the same; it is up to date all the same.
    let touched = std::fs::File::options().append(true).open(file);
    let _ = touched.and_then(|file| file.set_modified(SystemTime::now()));
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|data| data.modified()).ok()
}

/// The latest change below `path`, of files only: building touches no source, but editors touch directories.
fn newest(path: &Path) -> SystemTime {
    let Ok(entries) = path.read_dir() else { return modified(path).unwrap_or(SystemTime::UNIX_EPOCH) };
    entries.flatten().map(|entry| newest(&entry.path())).max().unwrap_or(SystemTime::UNIX_EPOCH)
}
