//! Where the library under test lies.

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
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    let rooms = ["sys", "tiers", "placement", "trace", "allocator", "Cargo.lock"].map(|room| workspace.join(room));
    let fresh = modified(&library).is_some_and(|built| rooms.iter().all(|room| newest(room) <= built));
    if !fresh {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--release", "--package", "tiermem-preload", "--target-dir"])
            .arg(&target)
            .current_dir(workspace)
            .status()
            .expect("cargo starts");
        assert!(status.success(), "cargo could not build libtiermem.so");
    }
    library
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|data| data.modified()).ok()
}

/// The latest change below `path`, of files only: building touches no source, but editors touch directories.
fn newest(path: &Path) -> SystemTime {
    let Ok(entries) = path.read_dir() else { return modified(path).unwrap_or(SystemTime::UNIX_EPOCH) };
    entries.flatten().map(|entry| newest(&entry.path())).max().unwrap_or(SystemTime::UNIX_EPOCH)
}
