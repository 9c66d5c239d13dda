//! The QEMU process of one guest: its arguments, its start, its certain end.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tiermem_sys::child;
use tiermem_sys::sync::atomic::Ordering;

use super::{Qemu, Timing};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::machine::Machine;
use crate::wire::PORT;

/// What every guest boots with. `-hypervisor` on the processor makes the kernel commit regions; without it, it finds no way to
/// keep caches in step and refuses. But then it also tests whether timer interrupts come at a processor's pace, and on a busy host
/// panics ("IO-APIC + timer doesn't work"): `no_timer_check`.
const KERNEL_ARGUMENTS: &str =
    "console=ttyS0 panic=-1 nokaslr mitigations=off tsc=reliable no_timer_check random.trust_cpu=on";
/// Translated code that QEMU keeps, MiB.
pub const TRANSLATION_MIB: u64 = 256;

/// A QEMU that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    said: PathBuf,
}

/// The files that QEMU boots and writes.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    pub vmlinux: &'a Path,
    pub image: &'a Path,
    /// For sockets.
    pub scratch: &'a Path,
    /// For what is kept.
    pub log: &'a Path,
    /// The guest's, because several share the folder for sockets.
    pub name: &'a str,
}

impl Files<'_> {
    pub fn port(&self) -> PathBuf {
        self.scratch.join(format!("{}.port", self.name))
    }

    pub fn control(&self) -> PathBuf {
        self.scratch.join(format!("{}.qmp", self.name))
    }

    pub fn console(&self) -> PathBuf {
        self.log.join("console.log")
    }
}

impl Process {
    /// Starts QEMU. The thread that calls this must live as long as the guest is wanted: with it, QEMU ends.
    ///
    /// # Errors
    /// Those of the system.
    pub fn start(qemu: &Qemu, machine: &Machine, files: Files<'_>, verbose: bool) -> Result<Self> {
        // Those of a boot that failed.
        for socket in [files.port(), files.control()] {
            let _ = fs::remove_file(socket);
        }
        let mut command = qemu.command();
        command.args(arguments(machine, files, verbose));
        let shown = format!("{command:?}\n");
        let path = files.log.join("qemu-command.txt");
        fs::write(&path, shown).at(&path)?;
        let said = files.log.join("qemu-messages.txt");
        let messages = File::create(&said).at(&said)?;
        command.stderr(messages);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        child::dies_with_its_starter(&mut command);
        let child = command.spawn().context(command.get_program().display())?;
        Ok(Self { child, said })
    }

    /// Connects to a socket that QEMU listens on.
    ///
    /// # Errors
    /// [`ErrorKind::Failed`] if QEMU ends first, with its reason; [`ErrorKind::TimedOut`]; [`ErrorKind::Interrupted`].
    pub fn connect(&mut self, socket: &Path, timing: Timing<'_>) -> Result<UnixStream> {
        let start = Instant::now();
        loop {
            match UnixStream::connect(socket) {
                Ok(stream) => return Ok(stream),
                Err(_) if self.ended().is_some() => return Err(self.refusal()),
                // Relaxed: the flag says only that it is set.
                Err(_) if timing.stop.load(Ordering::Relaxed) => {
                    return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
                }
                Err(_) if start.elapsed() < timing.boot => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => {
                    return Err(Error::new(
                        ErrorKind::TimedOut,
                        format!("QEMU opens no {}: {error}", socket.display()),
                    ));
                }
            }
        }
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            let ended = self.ended();
            if ended.is_some() || start.elapsed() > limit {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What QEMU said when it did not want to go on.
    pub fn refusal(&self) -> Error {
        let said = fs::read_to_string(&self.said).unwrap_or_default();
        let said = if said.trim().is_empty() { "it gives no reason" } else { said.trim() };
        Error::new(ErrorKind::Failed, format!("QEMU does not start this machine: {said}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn arguments(machine: &Machine, files: Files<'_>, verbose: bool) -> Vec<String> {
    let shown = |path: &Path| escaped(&path.to_string_lossy());
    let listen = |id: &str, path: &Path| format!("socket,id={id},path={},server=on,wait=off", shown(path));
    let mut arguments: Vec<String> = [
        "-accel",
        &format!("tcg,thread=multi,tb-size={TRANSLATION_MIB}"),
        "-cpu",
        "max,-hypervisor",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-kernel",
        &files.vmlinux.to_string_lossy(),
        "-initrd",
        &files.image.to_string_lossy(),
        "-append",
        &format!("{KERNEL_ARGUMENTS}{}{}", pace(), if verbose { "" } else { " quiet" }),
        "-chardev",
        &format!("file,id=console,path={}", shown(&files.console())),
        "-serial",
        "chardev:console",
        "-chardev",
        &listen("control", &files.control()),
        "-mon",
        "chardev=control,mode=control",
        "-device",
        "virtio-serial-pci",
        "-chardev",
        &listen("port", &files.port()),
        "-device",
        &format!("virtserialport,chardev=port,name={PORT}"),
    ]
    .map(str::to_owned)
    .into();
    arguments.extend(machine.arguments.iter().cloned());
    arguments
}

/// Tells the kernel how fast its processor's counter of time runs, which is this machine's. What it measured itself while the host
/// was busy could be wrong by far, and then its clock ran twenty times too fast.
fn pace() -> String {
    tiermem_sys::clock::counter_hz().map(|hz| format!(" tsc_early_khz={}", hz / 1000)).unwrap_or_default()
}

/// A value in QEMU's lists of properties.
pub fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}
