//! The setups that every program is run in.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::preload;

/// How memory is placed while a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// Only host DRAM: the allocator alone.
    OneTier,
    /// Host DRAM up to 64 MiB, then a slow tier on a file.
    TwoTiers,
    /// Host DRAM for the first 4 MiB: nearly everything spills to the slow tier.
    Tight,
    /// Host DRAM and the slow tier by turns, two to one.
    Interleaved,
}

/// Bytes of the slow tiers here: more than any program of these tests needs.
const SLOW_TIER: &str = "2G";

impl Setup {
    /// Makes the files that the setup needs; they go when the result is dropped.
    pub fn prepare(self) -> Tiering {
        match self {
            Self::OneTier => Tiering::new(None),
            Self::TwoTiers => Tiering::with_slow_file(SLOW_TIER).limits("dram=64M"),
            Self::Tight => Tiering::with_slow_file(SLOW_TIER).limits("dram=4M"),
            Self::Interleaved => {
                let file = SlowFile::new();
                let policy = format!(
                    "version = 1\n[tier.slow]\nsource = \"dax-file:{},size={SLOW_TIER}\"\n[placement]\n\
                     strategy = \"interleave\"\nchain = [\"dram\", \"slow\"]\nweights = {{ dram = 2, slow = 1 }}\n",
                    file.path().display()
                );
                Tiering::new(Some(file)).policy(&policy)
            }
        }
    }
}

/// A file for a slow tier, alone in a directory of its own: on `/dev/shm`, or on the disk where that is small, as in
/// containers.
#[derive(Debug)]
pub struct SlowFile {
    folder: TempDir,
}

impl SlowFile {
    /// A fresh one; the file itself is left to the allocator to make.
    #[expect(clippy::new_without_default, reason = "it makes a directory, which Default should not")]
    pub fn new() -> Self {
        let place = roomy_place();
        let folder = tempfile::Builder::new().prefix("tiermem-test-").tempdir_in(&place);
        Self { folder: folder.unwrap_or_else(|error| panic!("{}: {error}", place.display())) }
    }

    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("slow")
    }
}

/// `/dev/shm` if the slow tiers of tests that run side by side fit in, else the directory for temporary files.
fn roomy_place() -> PathBuf {
    const SHARED_MEMORY: &str = "/dev/shm";
    const ENOUGH: u64 = 2 << 30;
    static ROOMY: OnceLock<bool> = OnceLock::new();
    let roomy = ROOMY.get_or_init(|| {
        let answer = Command::new("df").args(["--output=avail", "--block-size=1", SHARED_MEMORY]).output();
        let answer = answer.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        answer.lines().find_map(|line| line.trim().parse::<u64>().ok()).is_some_and(|room| room >= ENOUGH)
    });
    if *roomy { SHARED_MEMORY.into() } else { std::env::temp_dir() }
}

/// The environment of one setup, and the files that it names.
#[derive(Debug)]
pub struct Tiering {
    slow: Option<SlowFile>,
    control: TempDir,
    settings: Vec<(&'static str, OsString)>,
}

impl Tiering {
    /// Only the preload and a control directory; `slow` is kept until the end, but no variable names it yet.
    pub fn new(slow: Option<SlowFile>) -> Self {
        let control = tempfile::Builder::new().prefix("tiermem-test-control-").tempdir_in("/dev/shm");
        let control = control.expect("/dev/shm can be written");
        let settings =
            vec![("LD_PRELOAD", preload().into()), ("TIERMEM_CONTROL_DIR", control.path().as_os_str().to_owned())];
        Self { slow, control, settings }
    }

    /// Host DRAM and a tier named `slow` of `size` on a file of `/dev/shm`.
    pub fn with_slow_file(size: &str) -> Self {
        let file = SlowFile::new();
        let spec = format!("slow=dax-file:{},size={size}", file.path().display());
        Self::new(Some(file)).tiers(&spec)
    }

    /// Sets `TIERMEM_TIERS`.
    #[must_use]
    pub fn tiers(self, specs: &str) -> Self {
        self.set("TIERMEM_TIERS", specs)
    }

    /// Sets `TIERMEM_LIMITS`.
    #[must_use]
    pub fn limits(self, limits: &str) -> Self {
        self.set("TIERMEM_LIMITS", limits)
    }

    /// Writes a policy file and sets `TIERMEM_POLICY`.
    #[must_use]
    pub fn policy(self, text: &str) -> Self {
        let path = self.control.path().join("policy.toml");
        std::fs::write(&path, text).expect("the control directory can be written");
        self.set("TIERMEM_POLICY", &path)
    }

    /// Sets any variable, in place of its former value.
    #[must_use]
    pub fn set(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.settings.retain(|(set, _)| *set != name);
        self.settings.push((name, value.into()));
        self
    }

    /// The environment variables.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, OsString)> + '_ {
        self.settings.iter().cloned()
    }

    /// The directory of the control segments.
    pub fn control_directory(&self) -> &Path {
        self.control.path()
    }

    /// The slow tier's file, where the setup has one.
    pub fn slow_file(&self) -> Option<PathBuf> {
        self.slow.as_ref().map(SlowFile::path)
    }
}
