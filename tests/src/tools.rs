//! Small helps for tests: programs of the system, skipping, waiting, counts.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::preload;

/// Says loudly that the running test is skipped, and why.
pub fn skip(why: &str) {
    eprintln!("SKIP {}: {why}", std::thread::current().name().unwrap_or("test"));
}

/// The path of a program of the system; says that the test is skipped where there is none.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// A count that a test runs through: the variable `TIERMEM_TEST_<name>`, or `default` times [`scale`].
pub fn count(name: &str, default: u64) -> u64 {
    number(name).unwrap_or(default * scale())
}

/// As [`count`], but not multiplied: for work that is [`repeated`] instead.
pub fn count_once(name: &str, default: u64) -> u64 {
    number(name).unwrap_or(default)
}

/// By how much this run multiplies the counts of the tests: `TIERMEM_TEST_SCALE`, which `cargo xtask test --long` sets.
pub fn scale() -> u64 {
    number("SCALE").unwrap_or(1)
}

/// As [`count`] without a variable of its own, as a program's argument.
pub fn scaled(count: u64) -> String {
    (count * scale()).to_string()
}

/// Runs a test [`scale`] times: for programs whose work cannot be multiplied otherwise.
pub fn repeated(mut test: impl FnMut()) {
    (0..scale()).for_each(|_| test());
}

/// The variable `TIERMEM_TEST_<name>`.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(format!("TIERMEM_TEST_{name}")).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("TIERMEM_TEST_{name}={text} is not a number")))
}

/// A fresh directory on the disk for one test, removed afterwards.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("tiermem-test-").tempdir().expect("a temporary directory can be made")
}

/// What a program without the preload makes of an input, remembered in the target directory: the heavy comparisons need
/// it once for every setup. A changed program or input is another `key`, so nothing stale is found.
pub fn remembered(program: &Path, key: impl Hash, make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let data = program.metadata().expect("the program exists");
    let mut hasher = DefaultHasher::new();
    (program, data.len(), data.modified().ok(), key).hash(&mut hasher);
    let folder = preload::target_directory().join("tiermem-test-programs");
    std::fs::create_dir_all(&folder).expect("the target directory can be written");
    let path = folder.join(format!("bare-{:016x}", hasher.finish()));
    std::fs::read(&path).unwrap_or_else(|_| {
        let bytes = make();
        let unfinished = folder.join(format!("bare-{:016x}.{}", hasher.finish(), std::process::id()));
        std::fs::write(&unfinished, &bytes).expect("the target directory can be written");
        std::fs::rename(&unfinished, &path).expect("a file can be renamed");
        bytes
    })
}

/// Tries until `ready` holds; panics with `what` after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The command as the user `nobody`, who has no rights on anything; says that the test is skipped where that is impossible.
pub fn run_as_nobody(program: &Path) -> Option<Command> {
    const NOBODY: u32 = 65_534;
    let mut probe = Command::new("true");
    probe.uid(NOBODY).gid(NOBODY);
    if !probe.status().is_ok_and(|status| status.success()) {
        skip("only root can start a program as nobody");
        return None;
    }
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY);
    Some(command)
}
