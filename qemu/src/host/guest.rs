//! A guest that runs: spoken to, ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tiermem_sys::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::boot::Timing;
use super::channel::{Channel, Heard, Output, Sender, hear};
use super::process::{Files, Process};
use super::{Qmp, console};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::guest::plan::Memory;
use crate::program::{Packing, Stamp};
use crate::wire::{Deed, Ended, Frame, Hello, Kind, PIECE, Request};

type Sessions = Arc<Mutex<Option<BTreeMap<u32, mpsc::Sender<Frame>>>>>;

/// A guest that has booted. Dropping it ends QEMU.
#[derive(Debug)]
pub struct Guest {
    process: Process,
    to: Arc<Mutex<UnixStream>>,
    control: Arc<Qmp>,
    /// Who hears what about which program; none once the guest is gone.
    sessions: Sessions,
    own: Mutex<Receiver<Frame>>,
    last: AtomicU32,
    log: PathBuf,
    /// The version of its kernel.
    pub kernel: String,
    /// The memory that it brought up.
    pub memory: Vec<Memory>,
    /// From the start of QEMU until the memory was there.
    pub boot_time: Duration,
}

impl Guest {
    /// Gets in touch with a QEMU that has just been started.
    pub(super) fn greeted(
        mut process: Process,
        files: Files<'_>,
        devices: BTreeMap<String, String>,
        timing: Timing<'_>,
    ) -> Result<Self> {
        let control = process.connect(&files.control(), timing)?;
        let port = process.connect(&files.port(), timing)?;
        let qmp_log = files.log.join("qmp.jsonl");
        let control = Arc::new(Qmp::connect(control, File::create(&qmp_log).at(&qmp_log)?)?);
        let to = Arc::new(Mutex::new(port.try_clone().context("the port of the guest")?));
        let (sessions, own) = listen(port, &to, &control, devices);
        Ok(Self {
            process,
            to,
            control,
            sessions,
            own: Mutex::new(own),
            last: AtomicU32::new(0),
            log: files.log.to_path_buf(),
            kernel: String::new(),
            memory: Vec::new(),
            boot_time: Duration::ZERO,
        })
    }

    /// Waits until the guest's first program speaks.
    pub(super) fn first_words(&mut self, timing: Timing<'_>) -> Result<()> {
        let hello = self.expect(Kind::Hello, timing.boot, timing.stop, "booting")?;
        self.kernel = hello.value::<Hello>()?.kernel;
        Ok(())
    }

    /// Waits until the memory is there.
    pub(super) fn bring_up(&mut self, timing: Timing<'_>) -> Result<()> {
        let ready = self.expect(Kind::Ready, timing.bring_up, timing.stop, "bringing the memory up")?;
        let brought: std::result::Result<Vec<Memory>, String> = ready.value()?;
        self.memory = brought.map_err(|why| Error::new(ErrorKind::BringUp, why))?;
        Ok(())
    }

    /// The control channel of its machine.
    pub fn control(&self) -> &Qmp {
        &self.control
    }

    /// Whether nothing can be heard of it any more.
    pub fn is_gone(&self) -> bool {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// The way to a program that is to be started.
    pub fn channel(&self) -> Channel {
        // Relaxed: the numbers must differ, no more.
        let session = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, frames) = mpsc::channel();
        if let Some(sessions) = &mut *self.sessions.lock().unwrap_or_else(PoisonError::into_inner) {
            sessions.insert(session, sender);
        }
        Channel::new(Sender::new(self.to.clone(), session), frames)
    }

    /// Waits for a frame of the guest itself; snapshots go to the log on the way.
    fn expect(&self, kind: Kind, limit: Duration, stop: &AtomicBool, what: &str) -> Result<Frame> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        loop {
            match hear(&own, stop, start, Some(limit), what)? {
                Heard::Frame(frame) if frame.kind == kind => return Ok(frame),
                Heard::Frame(frame) if frame.kind == Kind::Snapshot => {
                    let path = self.log.join("sysfs.txt");
                    fs::write(&path, &frame.contents).at(&path)?;
                }
                Heard::Frame(_) => {}
                Heard::Nothing => return Err(self.gone()),
            }
        }
    }

    /// Why nothing more comes from the guest.
    pub fn gone(&self) -> Error {
        // QEMU closes its files before its end is heard of, so the console is complete.
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
        &self,
        request: &Request,
        input: Box<dyn Read + Send>,
        timing: Timing<'_>,
        output: &mut dyn FnMut(Output, &[u8]),
    ) -> Result<Ended> {
        self.run_over(&self.channel(), request, input, timing, output)
    }

    /// Runs a program over a channel of its own, so that it can be spoken to meanwhile.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub fn run_over(
        &self,
        channel: &Channel,
        request: &Request,
        input: Box<dyn Read + Send>,
        timing: Timing<'_>,
        output: &mut dyn FnMut(Output, &[u8]),
    ) -> Result<Ended> {
        let ended = channel.run(request, input, (timing.program, timing.stop), output)?;
        ended.ok_or_else(|| self.gone())
    }

    /// Puts files into the guest that `known` does not name yet, and adds them to `known`.
    ///
    /// # Errors
    /// Those of the file system, of the guest's too; [`ErrorKind::TimedOut`], [`ErrorKind::Interrupted`].
    pub fn put(
        &self,
        packing: &Packing,
        known: &mut BTreeSet<Stamp>,
        limit: Duration,
        stop: &AtomicBool,
    ) -> Result<()> {
        let mut now_known = known.clone();
        let bytes = packing.write(Vec::new(), &mut now_known)?;
        let channel = self.channel();
        let sent = bytes.chunks(PIECE).try_for_each(|piece| channel.sender().send(Kind::Archive, piece));
        sent.and_then(|()| channel.sender().send(Kind::ArchiveEnd, [])).map_err(|_| self.gone())?;
        match channel.hear(stop, Some(limit), "unpacking files in the guest")? {
            Heard::Nothing => Err(self.gone()),
            Heard::Frame(frame) if frame.contents.is_empty() => {
                *known = now_known;
                Ok(())
            }
            Heard::Frame(frame) => {
                let why = frame.text();
                let kind = if why.contains("No space left") { ErrorKind::NoRoom } else { ErrorKind::Failed };
                Err(Error::new(kind, format!("files cannot be put into the guest: {why}")))
            }
        }
    }

    /// Brings back what programs wrote to [`OUT`](crate::guest::OUT), if they wrote anything.
    ///
    /// # Errors
    /// Those of the file system; [`ErrorKind::TimedOut`], [`ErrorKind::Interrupted`].
    pub fn collect(&self, folder: &Path, limit: Duration, stop: &AtomicBool) -> Result<()> {
        let channel = self.channel();
        channel.sender().send(Kind::Collect, crate::guest::OUT).map_err(|_| self.gone())?;
        let mut bytes = Vec::new();
        loop {
            match channel.hear(stop, Some(limit), "sending files back")? {
                Heard::Frame(frame) if frame.kind == Kind::Collected => bytes.extend(frame.contents),
                Heard::Frame(_) => break,
                Heard::Nothing => return Err(self.gone()),
            }
        }
        crate::archive::unpack(&bytes[..], folder)
    }

    /// Switches the guest off in order; its kernel's messages go to the log.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if it does not end, [`ErrorKind::Interrupted`]; then it is killed.
    pub fn finish(mut self, limit: Duration, stop: &AtomicBool) -> Result<()> {
        let what = "switching the guest off";
        let sent =
            Frame::new(Kind::PowerOff, 0, []).write(&mut *self.to.lock().unwrap_or_else(PoisonError::into_inner));
        sent.map_err(|_| self.gone())?;
        let own = self.own.get_mut().unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        while let Heard::Frame(frame) = hear(own, stop, start, Some(limit), what)? {
            if frame.kind == Kind::Snapshot {
                let path = self.log.join("dmesg.txt");
                fs::write(&path, &frame.contents).at(&path)?;
            }
        }
        match self.process.wait(limit) {
            Some(_) => Ok(()),
            None => Err(Error::new(ErrorKind::TimedOut, format!("{what} took more than {} s", limit.as_secs()))),
        }
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
    let sessions: Sessions = Arc::new(Mutex::new(Some(BTreeMap::new())));
    let (routes, to, control) = (sessions.clone(), to.clone(), control.clone());
    std::thread::spawn(move || {
        while let Ok(Some(frame)) = Frame::read(&mut port) {
            let mut routes = routes.lock().unwrap_or_else(PoisonError::into_inner);
            let session = frame.session;
            if frame.kind == Kind::Ask {
                drop(routes);
                let done =
                    frame.value::<Deed>().and_then(|deed| control.perform(&deed, |name| devices.get(name).cloned()));
                let why = done.err().map(|error| error.to_string()).unwrap_or_default();
                let answer = Frame::new(Kind::Answer, session, why);
                let _ = answer.write(&mut *to.lock().unwrap_or_else(PoisonError::into_inner));
            } else if session == 0 {
                let _ = own.send(frame);
            } else if let Some(routes) = &mut *routes
                && routes.get(&session).is_some_and(|route| route.send(frame).is_err())
            {
                // Nobody listens any more.
                routes.remove(&session);
            }
        }
        // Whoever waits for a frame learns from this that there will be none.
        *routes.lock().unwrap_or_else(PoisonError::into_inner) = None;
    });
    (sessions, receiver)
}
