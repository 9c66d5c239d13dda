//! Booting a machine: its files, its start, the trials.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tiermem_sys::sync::atomic::AtomicBool;

use super::guest::Guest;
use super::process::{Files, Process};
use super::{Qemu, console};
use crate::cache::Cache;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::image::{self, Base};
use crate::kernel::{self, Kernel};
use crate::machine::Machine;
use crate::program::Packing;

/// How often a boot is tried that ends before the first program of the guest.
const TRIES: u32 = 3;

/// What guests are started with.
#[derive(Clone, Debug)]
pub struct Lab {
    /// Where images are kept.
    pub cache: Cache,
    /// The emulator.
    pub qemu: Qemu,
    /// The guest's kernel.
    pub kernel: Kernel,
    /// A static busybox.
    pub busybox: PathBuf,
    /// The agent: a program that is one when started with `qemu guest agent`.
    pub agent: PathBuf,
}

/// How long each phase may take, and what ended it before.
#[derive(Clone, Copy, Debug)]
pub struct Timing<'a> {
    /// From the start of QEMU to the agent's first words.
    pub boot: Duration,
    /// Until the memory is there.
    pub bring_up: Duration,
    /// For the program; none: as long as it likes.
    pub program: Option<Duration>,
    /// Set from outside to end everything.
    pub stop: &'a AtomicBool,
}

impl Lab {
    /// Boots a machine and brings its memory up. A boot that ends before the guest's first program is tried again, and
    /// `notice` hears of it: emulated boots end like that now and then on a busy host. Nothing else is tried again.
    ///
    /// Call it on a thread that lives as long as the guest is wanted.
    ///
    /// # Errors
    /// [`ErrorKind::Boot`], [`ErrorKind::BringUp`], [`ErrorKind::Panic`], [`ErrorKind::TimedOut`],
    /// [`ErrorKind::Interrupted`], and what QEMU does not accept.
    pub fn boot(
        &self,
        machine: &Machine,
        packing: &Packing,
        (scratch, log): (&Path, &Path),
        timing: Timing<'_>,
        notice: &mut dyn FnMut(&str),
    ) -> Result<Guest> {
        fs::create_dir_all(log).at(log)?;
        for backing in &machine.files {
            prepare(backing)?;
        }
        let vmlinux = self.vmlinux()?;
        let base = Base { kernel: &self.kernel, busybox: &self.busybox, agent: &self.agent }.archive(&self.cache)?;
        let image = scratch.join(format!("{}.cpio", machine.name));
        let mut bytes = fs::read(&base).at(&base)?;
        bytes.extend(image::addition(&machine.plan, packing)?);
        fs::write(&image, bytes).at(&image)?;
        let files = Files { vmlinux: &vmlinux, image: &image, scratch, log, name: &machine.name };
        let mut attempt = 1;
        let result = loop {
            match self.boot_once(machine, files, timing, attempt > 1) {
                Err(Failed::BeforeFirstProgram(error)) if attempt < TRIES => {
                    notice(&format!("the guest ended before its first program; trying again: {error}"));
                    let _ = fs::rename(files.console(), log.join(format!("console-{attempt}.log")));
                    attempt += 1;
                }
                Err(Failed::BeforeFirstProgram(error) | Failed::Otherwise(error)) => break Err(error),
                Ok(guest) => break Ok(guest),
            }
        };
        let _ = fs::remove_file(&image);
        result
    }

    /// The kernel as QEMU starts it. Another one of the same version is another one: people build kernels again and again.
    fn vmlinux(&self) -> Result<PathBuf> {
        let image = &self.kernel.image;
        let stamp = image::stamp([image.as_path()])?;
        let made = self.cache.made(&format!("vmlinux/{}-{stamp:016x}", self.kernel.version), || {
            kernel::extract(&fs::read(image).at(image)?)
        });
        Ok(self.cache.touch("vmlinux", made?))
    }

    fn boot_once(
        &self,
        machine: &Machine,
        files: Files<'_>,
        timing: Timing<'_>,
        verbose: bool,
    ) -> std::result::Result<Guest, Failed> {
        let start = Instant::now();
        let process = Process::start(&self.qemu, machine, files, verbose)?;
        let mut guest = Guest::greeted(process, files, machine.devices.clone(), timing)?;
        match guest.first_words(timing) {
            Ok(()) => {}
            Err(error) => {
                let console = fs::read_to_string(files.console()).unwrap_or_default();
                let shown = |error: Error| error.followed_by(&format!("\n{}", console::tail(&console)));
                return Err(match error.kind() {
                    ErrorKind::Panic => Failed::BeforeFirstProgram(error),
                    ErrorKind::Failed => Failed::BeforeFirstProgram(Error::new(ErrorKind::Boot, error.to_string())),
                    ErrorKind::TimedOut => Failed::Otherwise(shown(error)),
                    _ => Failed::Otherwise(error),
                });
            }
        }
        guest.bring_up(timing)?;
        guest.boot_time = start.elapsed();
        Ok(guest)
    }
}

/// Why a boot failed.
enum Failed {
    /// The machine ended by itself, and nothing of ours had run in it.
    BeforeFirstProgram(Error),
    /// For a reason that would come again.
    Otherwise(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Otherwise(error)
    }
}

/// Makes the file behind a device.
fn prepare(backing: &crate::machine::Backing) -> Result<()> {
    let path = &backing.path;
    if backing.kept && fs::metadata(path).is_ok_and(|data| data.len() == backing.bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).at(folder)?;
        crate::fetch::check_room(folder, backing.bytes)?;
    }
    if backing.contents.is_empty() {
        // Another guest may have it mapped already: it is made once, and never cut.
        let file = File::options().create(true).truncate(false).write(true).open(path).at(path)?;
        return if file.metadata().at(path)?.len() == backing.bytes {
            Ok(())
        } else {
            file.set_len(backing.bytes).at(path)
        };
    }
    fs::write(path, &backing.contents).at(path)
}
