//! Starting guests, and what is said in them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tiermem_qemu::cache::Cache;
use tiermem_qemu::wanted::{self, Verdict};
use tiermem_tests::{Run, skip, static_program, tierctl};

pub use tiermem_qemu::wanted::Set;

/// Seconds that a phase in the guest may take, and all of it: everything is emulated, and others work here too.
const PHASE: u64 = 300;
const LIMIT: u64 = 900;

/// A start of a topology in the making.
pub struct Guests {
    command: Vec<String>,
    environment: BTreeMap<&'static str, String>,
    _alone: MutexGuard<'static, ()>,
}

/// What came of it.
pub struct Said {
    /// The exit code of `tierctl qemu run`.
    pub code: Option<i32>,
    /// Standard output.
    pub text: String,
    /// Standard error.
    pub errors: String,
}

impl Guests {
    /// Guests of a topology, shipped or in a file; `None` if this set is not to be run, which is said.
    pub fn of(set: Set, topology: impl AsRef<Path>) -> Option<Self> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        if !is_wanted(set) {
            return None;
        }
        let programs = [("G", "lab-guest"), ("C", "conformance")];
        let programs: Vec<_> = programs.map(|(variable, name)| (variable, static_program(name))).into();
        let mut command = Vec::new();
        for (_, path) in &programs {
            command.extend(["--copy".into(), path.display().to_string()]);
        }
        command.extend(["--boot-timeout".into(), PHASE.to_string(), "--timeout".into(), PHASE.to_string()]);
        command.push(topology.as_ref().display().to_string());
        Some(Self {
            command,
            environment: programs.into_iter().map(|(name, path)| (name, path.display().to_string())).collect(),
            _alone: ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner),
        })
    }

    /// A kernel other than the newest one; `None` if it has not been fetched, which is said.
    pub fn kernel(self, version: &str) -> Option<Self> {
        let cache = Cache::of_user().ok()?;
        let there = cache.kernels().ok()?.iter().any(|kernel| kernel.is_called(version));
        if !there {
            skip(&format!("kernel {version} has not been fetched (`tierctl qemu fetch --older-kernel`)"));
            return None;
        }
        Some(self.option("--guest-kernel", version))
    }

    /// An option of `tierctl qemu run`.
    pub fn option(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        let position = self.command.len() - 1;
        let pair = [name.to_owned(), value.as_ref().display().to_string()];
        self.command.splice(position..position, pair);
        self
    }

    /// Runs a shell script in each guest: `$G` is the program of checks, `$C` the conformance suite, `$T` the first tier's SPEC.
    pub fn run(&self, script: &str) -> Said {
        let mut command = Command::new(tierctl());
        command.args(["qemu", "run"]);
        for (name, value) in &self.environment {
            command.args(["--env", &format!("{name}={value}")]);
        }
        let script = format!("T=${{TIERMEM_LAB_TIERS%%;*}}\n{script}");
        command.args(&self.command).args(["--", "sh", "-c", &script]);
        let finished = Run::of(command).limit(LIMIT).finish();
        let said = Said { code: finished.status.code(), text: finished.text(), errors: finished.stderr };
        eprintln!("{}{}", said.text, said.errors);
        said
    }

    /// As [`run`](Self::run); every check must hold, and there must be `checks` of them, the suite's included.
    #[track_caller]
    pub fn holds(&self, checks: usize, script: &str) -> Said {
        let said = self.run(&format!("set -e\n{script}"));
        let lines = || said.text.lines().map(|line| line.split_once("] ").map_or(line, |(_, rest)| rest));
        let broken: Vec<&str> = lines().filter(|line| line.starts_with("not ok")).collect();
        assert!(broken.is_empty() && said.code == Some(0), "{broken:#?}, exit code {:?}\n{}", said.code, said.errors);
        let held = lines().filter(|line| line.starts_with("ok ")).count();
        assert!(held >= checks, "{held} checks of {checks} have been made");
        said
    }
}

/// How many checks the conformance suite makes of a tier that has its space for itself.
pub const SUITE: usize = 20;

/// Whether tests of this set are to be run here; if not, that is said.
fn is_wanted(set: Set) -> bool {
    match wanted::verdict(set) {
        Verdict::Run => true,
        Verdict::Skip(why) => {
            skip(&why);
            false
        }
        Verdict::Fail(why) => panic!("{why}"),
    }
}
