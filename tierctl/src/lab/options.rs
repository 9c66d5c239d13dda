//! Options that several of the lab's verbs have.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use tiermem_qemu::cache::Cache;
use tiermem_qemu::host::{Lab, Qemu};
use tiermem_qemu::kernel::Kernel;
use tiermem_qemu::{Error, ErrorKind};

use super::failure;
use super::program::Goods;
use crate::exit::Failure;

/// Names the kernel to boot where no option does.
const KERNEL_VARIABLE: &str = "TIERMEM_LAB_KERNEL";
/// Seconds that booting and bringing the memory up may take each, unless the user says otherwise.
const BOOT_S: u64 = 120;

/// A program for a guest.
#[derive(Debug, clap::Args)]
pub struct Work {
    /// End the program after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    #[command(flatten)]
    pub goods: Goods,
    /// The program and its arguments. One that this machine does not have is busybox's.
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

/// Where what outlives a guest goes.
#[derive(Debug, clap::Args)]
pub struct Places {
    /// Keep what persistent devices hold in this folder (default: gone afterwards).
    #[arg(long, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    /// Write console, kernel messages, sysfs and QEMU's events to this folder.
    #[arg(long, value_name = "FOLDER")]
    pub log: Option<PathBuf>,
}

/// What a guest is booted from, and how long that may take.
#[derive(Clone, Debug, clap::Args)]
pub struct Boot {
    /// Seconds that booting and bringing the memory up may take each.
    #[arg(long, value_name = "SECONDS", default_value_t = BOOT_S)]
    boot_timeout: u64,
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
    /// Of the kernels that were fetched, boot this one, for example 6.12 (default: what TIERMEM_LAB_KERNEL says, else the
    /// newest).
    #[arg(long, value_name = "VERSION", conflicts_with = "kernel")]
    guest_kernel: Option<String>,
}

impl Work {
    /// How long the program may take.
    pub fn limit(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }
}

impl Boot {
    /// How long each phase before the program may take.
    pub fn limit(&self) -> Duration {
        Duration::from_secs(self.boot_timeout)
    }

    /// The same again, for a process that this one starts.
    pub fn arguments(&self) -> Vec<OsString> {
        let paths = [
            ("--qemu", &self.qemu),
            ("--kernel", &self.kernel),
            ("--modules", &self.modules),
            ("--busybox", &self.busybox),
        ];
        let path = |(name, path): (&str, &Option<PathBuf>)| Some([name.into(), path.clone()?.into_os_string()]);
        let version = self.wanted_kernel().map(|version| ["--guest-kernel".into(), version.into()]);
        let limit = ["--boot-timeout".into(), self.boot_timeout.to_string().into()];
        paths.into_iter().filter_map(path).chain(version).chain([limit]).flatten().collect()
    }

    fn wanted_kernel(&self) -> Option<String> {
        let named = || std::env::var(KERNEL_VARIABLE).ok().filter(|version| !version.is_empty());
        self.guest_kernel.clone().or_else(|| named().filter(|_| self.kernel.is_none()))
    }

    /// What guests are started with.
    ///
    /// # Errors
    /// What was not fetched, or is not what it should be.
    pub fn lab(&self) -> Result<Lab, Failure> {
        self.found().map_err(|e| failure(&e))
    }

    /// As [`lab`](Self::lab).
    ///
    /// # Errors
    /// As there.
    pub fn found(&self) -> Result<Lab, Error> {
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
                let wanted = self.wanted_kernel();
                let fits = |kernel: &Kernel| wanted.as_ref().is_none_or(|wanted| kernel.is_called(wanted));
                let kernel = cache.kernels()?.into_iter().find(fits);
                let what = wanted.as_ref().map_or("kernel".to_owned(), |wanted| format!("kernel {wanted}"));
                kernel.ok_or_else(|| lacking(&what, "--kernel and --modules"))?
            }
        };
        let busybox = self.busybox.clone().unwrap_or_else(|| cache.busybox());
        if !busybox.is_file() {
            return Err(lacking("busybox", "--busybox"));
        }
        let agent =
            std::env::current_exe().map_err(|e| Error::new(ErrorKind::Failed, format!("tierctl itself: {e}")))?;
        Ok(Lab { cache, qemu, kernel, busybox, agent })
    }
}
