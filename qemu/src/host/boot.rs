//! A guest: booted, spoken to, ended.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tiermem_sys::sync::atomic::{AtomicBool, Ordering};

use super::process::{Files, Process};
use super::{Qemu, Qmp, console};
use crate::cache::Cache;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::guest::plan::Memory;
use crate::image::{self, Base};
use crate::kernel::{self, Kernel};
use crate::machine::Machine;
use crate::program::Luggage;
use crate::wire::{Deed, Ended, Frame, Hello, Kind, PIECE, Request};

/// How often a boot is tried that ends before the first program of the guest.
const TRIES: u32 = 3;
/// How often signals and limits are looked at.
const TICK: Duration = Duration::from_millis(50);

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

/// Where a program's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Standard,
    /// Standard error.
    Error,
}

type Sessions = Arc<Mutex<BTreeMap<u32, Sender<Frame>>>>;

/// A guest that has booted. Dropping it ends QEMU.
#[derive(Debug)]
pub struct Guest {
    process: Process,
    to: Arc<Mutex<UnixStream>>,
    control: Arc<Qmp>,
    sessions: Sessions,
    own: Receiver<Frame>,
    next: u32,
    log: PathBuf,
    /// The version of its kernel.
    pub kernel: String,
    /// The memory that it brought up.
    pub memory: Vec<Memory>,
    /// From the start of QEMU until the memory was there.
    pub boot_time: Duration,
}

impl Lab {
    /// Boots a machine and brings its memory up. A boot that ends before the guest's first program is tried again, and
    /// `notice` hears of it: about one in fifty ends like that under emulation.
    ///
    /// Call it on a thread that lives as long as the guest is wanted.
    ///
    /// # Errors
    /// [`ErrorKind::Boot`], [`ErrorKind::BringUp`], [`ErrorKind::Panic`], [`ErrorKind::TimedOut`],
    /// [`ErrorKind::Interrupted`], and what QEMU does not accept.
    pub fn boot(
        &self,
        machine: &Machine,
        luggage: &Luggage,
        folders: (&Path, &Path),
        timing: Timing<'_>,
        notice: &mut dyn FnMut(&str),
    ) -> Result<Guest> {
        let (scratch, log) = folders;
        fs::create_dir_all(log).at(log)?;
        for backing in &machine.files {
            prepare(backing)?;
        }
        let vmlinux = self.vmlinux()?;
        let base = Base { kernel: &self.kernel, busybox: &self.busybox, agent: &self.agent }.archive(&self.cache)?;
        let image = scratch.join(format!("{}.cpio", machine.name));
        let mut bytes = fs::read(&base).at(&base)?;
        bytes.extend(image::addition(&machine.plan, luggage)?);
        fs::write(&image, bytes).at(&image)?;
        let files = Files { vmlinux: &vmlinux, image: &image, scratch, log, name: &machine.name };
        let mut attempt = 1;
        loop {
            match self.boot_once(machine, files, timing, attempt > 1) {
                Err(error) if error.kind() == ErrorKind::Boot && attempt < TRIES => {
                    notice(&format!("the guest ended before its first program; trying again: {error}"));
                    attempt += 1;
                }
                result => {
                    let _ = fs::remove_file(&image);
                    return result;
                }
            }
        }
    }

    fn vmlinux(&self) -> Result<PathBuf> {
        self.cache.made(&format!("vmlinux/{}", self.kernel.version), || {
            kernel::extract(&fs::read(&self.kernel.image).at(&self.kernel.image)?)
        })
    }

    fn boot_once(&self, machine: &Machine, files: Files<'_>, timing: Timing<'_>, verbose: bool) -> Result<Guest> {
        let start = Instant::now();
        let mut process = Process::start(&self.qemu, machine, files, verbose)?;
        let control = process.connect(&files.control(), timing.boot)?;
        let port = process.connect(&files.port(), timing.boot)?;
        let qmp_log = files.log.join("qmp.jsonl");
        let control = Arc::new(Qmp::connect(control, File::create(&qmp_log).at(&qmp_log)?)?);
        let to = Arc::new(Mutex::new(port.try_clone().context("the port of the guest")?));
        let (sessions, own) = listen(port, &to, &control, machine.devices.clone());
        let mut guest = Guest {
            process,
            to,
            control,
            sessions,
            own,
            next: 1,
            log: files.log.to_path_buf(),
            kernel: String::new(),
            memory: Vec::new(),
            boot_time: Duration::ZERO,
        };
        let hello = match guest.expect(Kind::Hello, timing.boot, timing.stop) {
            Ok(frame) => frame,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let console = fs::read_to_string(files.console()).unwrap_or_default();
                return Err(Error::new(ErrorKind::Boot, format!("{error}\n{}", console::tail(&console))));
            }
        };
        guest.kernel = hello.value::<Hello>()?.kernel;
        let ready = guest.expect(Kind::Ready, timing.bring_up, timing.stop)?;
        let brought: std::result::Result<Vec<Memory>, String> = ready.value()?;
        guest.memory = brought.map_err(|why| Error::new(ErrorKind::BringUp, why))?;
        guest.boot_time = start.elapsed();
        Ok(guest)
    }
}

/// Reads what the guest says and gives it to whom it concerns.
fn listen(
    mut port: UnixStream,
    to: &Arc<Mutex<UnixStream>>,
    control: &Arc<Qmp>,
    devices: BTreeMap<String, String>,
) -> (Sessions, Receiver<Frame>) {
    let (own, receiver) = mpsc::channel();
    let sessions = Sessions::default();
    let (routes, to, control) = (sessions.clone(), to.clone(), control.clone());
    std::thread::spawn(move || {
        while let Ok(Some(frame)) = Frame::read(&mut port) {
            if frame.kind == Kind::Ask {
                let done =
                    frame.value::<Deed>().and_then(|deed| control.perform(&deed, |name| devices.get(name).cloned()));
                let why = done.err().map(|error| error.to_string()).unwrap_or_default();
                let answer = Frame::new(Kind::Answer, frame.session, why);
                let _ = answer.write(&mut *to.lock().unwrap_or_else(PoisonError::into_inner));
            } else if frame.session == 0 {
                let _ = own.send(frame);
            } else if let Some(session) = routes.lock().unwrap_or_else(PoisonError::into_inner).get(&frame.session) {
                let _ = session.send(frame);
            }
        }
        // Whoever waits for a frame learns from this that there will be none.
        routes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    });
    (sessions, receiver)
}

impl Guest {
    /// The control channel of its machine.
    pub fn control(&self) -> &Qmp {
        &self.control
    }

    fn send(&self, frame: &Frame) -> Result<()> {
        let sent = frame.write(&mut *self.to.lock().unwrap_or_else(PoisonError::into_inner));
        sent.map_err(|_| self.gone())
    }

    /// Waits for a frame of the guest itself; snapshots go to the log on the way.
    fn expect(&self, kind: Kind, limit: Duration, stop: &AtomicBool) -> Result<Frame> {
        let start = Instant::now();
        loop {
            match self.own.recv_timeout(TICK) {
                Ok(frame) if frame.kind == kind => return Ok(frame),
                Ok(frame) if frame.kind == Kind::Snapshot => {
                    let path = self.log.join("sysfs.txt");
                    fs::write(&path, &frame.contents).at(&path)?;
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => return Err(interrupted()),
                Err(RecvTimeoutError::Timeout) if start.elapsed() > limit => {
                    let why = format!("no {kind:?} from the guest within {} s", limit.as_secs());
                    return Err(Error::new(ErrorKind::TimedOut, why));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
            }
        }
    }

    /// Why nothing more comes from the guest.
    fn gone(&self) -> Error {
        // The kernel prints its trace and QEMU ends; both take a moment.
        std::thread::sleep(Duration::from_millis(300));
        let console = fs::read_to_string(self.log.join("console.log")).unwrap_or_default();
        match console::panic(&console) {
            Some(trace) => Error::new(ErrorKind::Panic, format!("the guest's kernel panicked:\n{trace}")),
            None => Error::new(ErrorKind::Failed, format!("the guest is gone\n{}", console::tail(&console))),
        }
    }

    /// Runs a program and gives what it writes to `output` and what `input` has to it.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`], [`ErrorKind::Interrupted`], [`ErrorKind::Panic`].
    pub fn run(
        &mut self,
        request: &Request,
        input: Box<dyn Read + Send>,
        timing: Timing<'_>,
        output: &mut dyn FnMut(Output, &[u8]),
    ) -> Result<Ended> {
        let session = self.next;
        self.next += 1;
        let (sender, frames) = mpsc::channel();
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(session, sender);
        self.send(&Frame::of(Kind::Run, session, request))?;
        let (taken, may_send) = mpsc::channel();
        let to = self.to.clone();
        std::thread::spawn(move || feed(input, &to, session, &may_send));
        let start = Instant::now();
        loop {
            match frames.recv_timeout(TICK) {
                Ok(frame) => match frame.kind {
                    Kind::Output => output(Output::Standard, &frame.contents),
                    Kind::ErrorOutput => output(Output::Error, &frame.contents),
                    Kind::InputTaken => drop(taken.send(())),
                    Kind::Ended => return frame.value(),
                    _ => {}
                },
                Err(RecvTimeoutError::Timeout) if timing.stop.load(Ordering::Relaxed) => return Err(interrupted()),
                Err(RecvTimeoutError::Timeout) if timing.program.is_some_and(|limit| start.elapsed() > limit) => {
                    let limit = timing.program.unwrap_or_default().as_secs();
                    return Err(Error::new(ErrorKind::TimedOut, format!("the program took more than {limit} s")));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
            }
        }
    }

    /// Brings back what programs wrote to [`OUT`](crate::guest::OUT), if they wrote anything.
    ///
    /// # Errors
    /// Those of the file system; [`ErrorKind::TimedOut`].
    pub fn collect(&mut self, folder: &Path, limit: Duration) -> Result<()> {
        let session = self.next;
        self.next += 1;
        let (sender, frames) = mpsc::channel();
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(session, sender);
        self.send(&Frame::new(Kind::Collect, session, crate::guest::OUT))?;
        let mut bytes = Vec::new();
        loop {
            match frames.recv_timeout(limit) {
                Ok(frame) if frame.kind == Kind::Collected => bytes.extend(frame.contents),
                Ok(_) => break,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Error::new(ErrorKind::TimedOut, "the guest does not send its files back"));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
            }
        }
        crate::archive::unpack(&bytes[..], folder)
    }

    /// Switches the guest off in order; its kernel's messages go to the log.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if it does not end; then it is killed.
    pub fn finish(mut self, limit: Duration) -> Result<()> {
        self.send(&Frame::new(Kind::PowerOff, 0, []))?;
        if let Ok(frame) = self.own.recv_timeout(limit) {
            let path = self.log.join("dmesg.txt");
            fs::write(&path, &frame.contents).at(&path)?;
        }
        match self.process.wait(limit) {
            Some(_) => Ok(()),
            None => Err(Error::new(ErrorKind::TimedOut, "the guest does not switch itself off")),
        }
    }
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "interrupted")
}

/// Sends what a program reads, one piece after the other was taken.
fn feed(mut input: impl Read, to: &Mutex<UnixStream>, session: u32, may_send: &Receiver<()>) {
    let mut buffer = vec![0; PIECE];
    loop {
        let count = input.read(&mut buffer).unwrap_or(0);
        let frame = Frame::new(Kind::Input, session, &buffer[..count]);
        let sent = frame.write(&mut *to.lock().unwrap_or_else(PoisonError::into_inner));
        if sent.is_err() || count == 0 || may_send.recv().is_err() {
            return;
        }
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
