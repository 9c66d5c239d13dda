//! What the tests share.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tiermem_qemu::host::Scratch;
use tiermem_qemu::session;
use tiermem_qemu::wanted::{self, Verdict};

pub use tiermem_qemu::wanted::Set;

pub const TIERCTL: &str = env!("CARGO_BIN_EXE_tierctl");
/// Seconds that a phase may take: everything is emulated, and other tests run too.
pub const PHASE: &str = "400";
/// How long something is waited for that should happen soon.
pub const SOON: Duration = Duration::from_secs(300);

fn skip(why: &str) {
    eprintln!("SKIP {}: {why}", std::thread::current().name().unwrap_or("test"));
}

/// Whether tests of this set are to be run here; if not, that is said.
pub fn is_wanted(set: Set) -> bool {
    match wanted::verdict(set) {
        Verdict::Run => true,
        Verdict::Skip(why) => {
            skip(&why);
            false
        }
        Verdict::Fail(why) => panic!("{why}"),
    }
}

/// A topology with one expander that nobody else has: its name is its own, so its guests are known.
pub struct Own {
    folder: TempDir,
    pub name: String,
}

impl Own {
    pub fn new(what: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("{what}-{}", std::process::id());
        let shipped = tiermem_topology::SHIPPED.iter().find(|(name, _)| *name == "one-expander").unwrap().1;
        let text = shipped.replace("\"one-expander\"", &format!("\"{name}\""));
        assert!(text.contains(&name));
        fs::write(folder.path().join("topology.toml"), text).unwrap();
        Self { folder, name }
    }

    pub fn topology(&self) -> String {
        self.path("topology.toml").display().to_string()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The processes that keep guests of this topology.
    pub fn keepers(&self) -> Vec<u32> {
        let places = session::all().into_iter();
        places.filter(|place| place.note.topology == self.name).map(|place| place.note.keeper.pid).collect()
    }

    /// Processes and folders of this topology's guests must be gone soon.
    #[track_caller]
    pub fn leaves_nothing(&self) {
        let left = || {
            let mut left: Vec<String> = self.keepers().iter().map(|pid| format!("keeper {pid}")).collect();
            left.extend(processes_with(&format!("logs/{}-", self.name)));
            left
        };
        until(|| left().is_empty(), || format!("there is still {:?}", left()));
    }
}

/// Processes on whose command line this stands: QEMU names its log, and the topology's name is in it.
fn processes_with(text: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let own = std::process::id().to_string();
    let lines = entries.filter(|entry| *entry.file_name() != *own).filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(text).then(|| format!("{}: {line}", entry.file_name().display()))
    });
    lines.collect()
}

#[track_caller]
pub fn until(mut happened: impl FnMut() -> bool, why: impl Fn() -> String) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < SOON, "{}", why());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// `tierctl qemu …`, with signals at their defaults whatever the tests were started with.
pub fn lab(arguments: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal", TIERCTL, "qemu"]).args(arguments).stdin(Stdio::null());
    command.env_remove("LD_PRELOAD");
    command
}

/// What lies in the folders for what lives only while guests run.
pub fn scratch_folders() -> Vec<PathBuf> {
    Scratch::all_living()
}

/// A package without dependencies.
pub fn package(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}
