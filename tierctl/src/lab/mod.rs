//! The QEMU lab's verbs that start guests: `run`, `exec`, `shell` and what keeps a shared guest.

mod exec;
mod keep;
mod program;
mod run;
mod shell;
mod start;
mod watch;

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use tiermem_qemu::cache::Cache;
use tiermem_qemu::host::{Lab, Qemu};
use tiermem_qemu::kernel::Kernel;
use tiermem_qemu::{Error, ErrorKind, image};
use tiermem_topology::{LoadError, Topology};

pub use exec::{Exec, Stop};
pub use keep::Keep;
pub use run::Run;
pub use shell::Shell;

use crate::exit::{Exit, Failure};

/// What is to be used instead of what was fetched.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Choice {
    /// Use this QEMU, version 11 or newer.
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// Boot this vmlinuz or vmlinux.
    #[arg(long, value_name = "FILE", requires = "modules")]
    kernel: Option<PathBuf>,
    /// The kernel's modules: a folder such as /lib/modules/VERSION.
    #[arg(long, value_name = "FOLDER", requires = "kernel")]
    modules: Option<PathBuf>,
    /// Use this static busybox.
    #[arg(long, value_name = "PROGRAM")]
    busybox: Option<PathBuf>,
    /// Of the kernels that were fetched, boot this one, for example 6.12 (default: the newest).
    #[arg(long, value_name = "VERSION", conflicts_with = "kernel")]
    guest_kernel: Option<String>,
}

/// Seconds that booting and bringing the memory up may take each, unless the user says otherwise.
pub const BOOT_S: u64 = 120;

/// Says what a shared guest was booted from: one with the same key is the same.
///
/// # Errors
/// Those of the file system.
fn key(topology: &Topology, lab: &Lab) -> Result<String, Error> {
    let files = [lab.kernel.image.as_path(), &lab.busybox, &lab.agent];
    let made_of = (format!("{topology:?}"), format!("{lab:?}"), image::stamp(files)?);
    let mut hasher = DefaultHasher::new();
    made_of.hash(&mut hasher);
    Ok(format!("{}-{:016x}", topology.name, hasher.finish()))
}

/// How a failure of the lab ends tierctl.
pub fn failure(error: &Error) -> Failure {
    let exit = match error.kind() {
        ErrorKind::NotFound => Exit::NotFound,
        ErrorKind::BadInput => Exit::BadInput,
        ErrorKind::NoRights => Exit::NoRights,
        ErrorKind::Unsupported => Exit::Unsupported,
        ErrorKind::NotExecutable => Exit::Command(126),
        ErrorKind::Boot | ErrorKind::BringUp | ErrorKind::Panic => Exit::Command(125),
        ErrorKind::TimedOut => Exit::Command(124),
        _ => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

/// The topology of this name or file.
///
/// # Errors
/// Not found, or everything that is wrong with it.
pub fn topology(which: &str) -> Result<Topology, Failure> {
    Topology::load(which).map_err(|error| {
        let exit = match &error {
            LoadError::Unknown { .. } => Exit::NotFound,
            _ => Exit::BadInput,
        };
        Failure::new(exit, error.to_string())
    })
}

impl Choice {
    /// The same again, for a process that this one starts.
    fn arguments(&self) -> Vec<OsString> {
        let paths = [
            ("--qemu", &self.qemu),
            ("--kernel", &self.kernel),
            ("--modules", &self.modules),
            ("--busybox", &self.busybox),
        ];
        let path = |(name, path): (&str, &Option<PathBuf>)| Some([name.into(), path.clone()?.into_os_string()]);
        let version = self.guest_kernel.iter().map(|version| ["--guest-kernel".into(), version.into()]);
        paths.into_iter().filter_map(path).chain(version).flatten().collect()
    }

    fn lab(&self) -> Result<Lab, Failure> {
        self.found().map_err(|e| failure(&e))
    }

    fn found(&self) -> Result<Lab, Error> {
        let cache = Cache::of_user()?;
        let lacking = |what: &str, option: &str| {
            let why = format!("there is no {what}: run `tierctl qemu fetch`, or name one with {option}");
            Error::new(ErrorKind::NotFound, why)
        };
        let qemu = match &self.qemu {
            Some(program) => Qemu::given(program)?,
            None => Qemu::best(&cache)?,
        };
        let kernel = match (&self.kernel, &self.modules) {
            (Some(image), Some(modules)) => Kernel::given(image, modules)?,
            _ => {
                let fits = |kernel: &Kernel| self.guest_kernel.as_ref().is_none_or(|wanted| kernel.is_called(wanted));
                let kernel = cache.kernels()?.into_iter().find(fits);
                kernel.ok_or_else(|| lacking("such kernel", "--kernel and --modules"))?
            }
        };
        let busybox = self.busybox.clone().unwrap_or_else(|| cache.path("busybox/usr/bin/busybox"));
        if !busybox.is_file() {
            return Err(lacking("busybox", "--busybox"));
        }
        let agent =
            std::env::current_exe().map_err(|e| Error::new(ErrorKind::Failed, format!("tierctl itself: {e}")))?;
        Ok(Lab { cache, qemu, kernel, busybox, agent })
    }
}
