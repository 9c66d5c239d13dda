//! Who wants to run a program in a shared guest.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tiermem_sys::child;
use tiermem_sys::signal::{self, number::SIGKILL, number::SIGTERM};
use tiermem_sys::sync::atomic::{AtomicBool, Ordering};

use super::{Client, Place, all};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::host::{Channel, Heard, Output, Sender, TICK};
use crate::program::Packing;
use crate::wire::{Ended, Frame, Kind, PIECE, Request};

/// How often a guest is looked for that ends just when it is found.
const TRIES: usize = 5;
/// How long a keeper may take to answer.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a keeper may take to switch its guest off before it is killed.
const FAREWELL: Duration = Duration::from_secs(60);

/// The way to a shared guest, for one program.
#[derive(Debug)]
pub struct Remote {
    channel: Channel,
    place: Place,
}

/// A way to the guest with this key. One that does not run is started with `start`, by one client at a time.
///
/// # Errors
/// Those of `start`; [`ErrorKind::Interrupted`]; [`ErrorKind::Failed`] if guests end as soon as they are there.
pub fn reach(
    key: &str,
    client: &Client,
    starting: &Path,
    stop: &AtomicBool,
    start: &mut dyn FnMut() -> Result<()>,
) -> Result<Remote> {
    let found =
        || all().into_iter().filter(|place| place.note.key == key).find_map(|place| Remote::of(place, client, stop));
    if let Some(remote) = found() {
        return Ok(remote);
    }
    if let Some(folder) = starting.parent() {
        fs::create_dir_all(folder).at(folder)?;
    }
    for _ in 0..TRIES {
        let lock = File::create(starting).at(starting)?;
        while lock.try_lock().is_err() {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            std::thread::sleep(TICK);
        }
        if let Some(remote) = found() {
            return Ok(remote);
        }
        start()?;
        if let Some(remote) = found() {
            return Ok(remote);
        }
    }
    Err(Error::new(ErrorKind::Failed, "a shared guest was started and gone at once, again and again"))
}

/// Starts a keeper and waits until its guest is ready. What it has to say to people goes to `notice`.
///
/// # Errors
/// The keeper's own; [`ErrorKind::Interrupted`], after which nothing of it is left.
pub fn start(command: &mut Command, log: &Path, stop: &AtomicBool, notice: &mut dyn FnMut(&str)) -> Result<()> {
    let said = log.join("keeper.txt");
    let messages = File::create(&said).at(&said)?;
    child::detached(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(messages));
    let mut keeper = command.spawn().context(command.get_program().display())?;
    let mut from = keeper.stdout.take().ok_or_else(|| Error::new(ErrorKind::Failed, "the keeper has no output"))?;
    let (sender, frames) = mpsc::channel();
    std::thread::spawn(move || {
        while let Ok(Some(frame)) = Frame::read(&mut from) {
            // Once it is ready nothing more is said, and nobody holds the pipe.
            let last = frame.kind == Kind::Ready;
            if sender.send(frame).is_err() || last {
                return;
            }
        }
    });
    loop {
        match frames.recv_timeout(TICK) {
            Ok(frame) => match frame.kind {
                Kind::Ready => return Ok(()),
                Kind::Notice => notice(&frame.text()),
                Kind::Failed => {
                    let _ = keeper.wait();
                    return Err(frame.value()?);
                }
                _ => {}
            },
            Err(mpsc::RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => {
                let _ = signal::kill(keeper.id(), SIGTERM);
                let _ = keeper.wait();
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let ended = keeper.wait().map(|status| status.to_string()).unwrap_or_default();
                let words = fs::read_to_string(&said).unwrap_or_default();
                let why = format!("the process that keeps the guest ended ({ended})\n{}", words.trim());
                return Err(Error::new(ErrorKind::Failed, why));
            }
        }
    }
}

/// Stops a shared guest, its programs included, and waits until nothing of it is left. One whose keeper does not answer is
/// killed. Whether it ended by itself.
pub fn stop(place: &Place) -> bool {
    if let Ok(stream) = UnixStream::connect(place.socket()) {
        let _ = Frame::new(Kind::PowerOff, 1, []).write(&mut &stream);
    }
    let start = Instant::now();
    while place.note.keeper.lives() {
        if start.elapsed() > FAREWELL {
            let _ = signal::kill(place.note.keeper.pid, SIGKILL);
            let killed = Instant::now();
            while place.note.keeper.lives() && killed.elapsed() < FAREWELL {
                std::thread::sleep(TICK);
            }
            // Looking for others removes what this one left.
            all();
            return false;
        }
        std::thread::sleep(TICK);
    }
    all();
    true
}

impl Remote {
    /// `None` if this guest is not to be had any more.
    fn of(place: Place, client: &Client, stop: &AtomicBool) -> Option<Self> {
        let stream = UnixStream::connect(place.socket()).ok()?;
        let mut from = stream.try_clone().ok()?;
        let (sender, frames) = mpsc::channel();
        std::thread::spawn(move || {
            while let Ok(Some(frame)) = Frame::read(&mut from) {
                if sender.send(frame).is_err() {
                    return;
                }
            }
        });
        let channel = Channel::new(Sender::new(Arc::new(Mutex::new(stream)), 1), frames);
        channel.sender().send(Kind::Client, serde_json::to_vec(client).ok()?).ok()?;
        match channel.hear(stop, Some(ANSWER), "the keeper of a shared guest").ok()? {
            Heard::Frame(frame) if frame.kind == Kind::Ready => Some(Self { channel, place }),
            _ => None,
        }
    }

    /// Where the guest's log is.
    pub fn log(&self) -> &Path {
        &self.place.note.log
    }

    /// The direction to the program.
    pub fn sender(&self) -> Sender {
        self.channel.sender()
    }

    /// Puts the program's files into the guest and runs it there.
    ///
    /// # Errors
    /// As for a guest of one's own.
    pub fn run(
        &self,
        packing: &Packing,
        request: &Request,
        input: Box<dyn Read + Send>,
        timing: (Option<Duration>, &AtomicBool),
        output: &mut dyn FnMut(Output, &[u8]),
    ) -> Result<Ended> {
        let gone = || {
            let why = format!("the process that keeps the shared guest is gone; see {}", self.log().display());
            Error::new(ErrorKind::Failed, why)
        };
        let list = serde_json::to_vec(packing).map_err(|e| Error::new(ErrorKind::BadInput, format!("{e}")))?;
        let mut pieces = list.chunks(PIECE);
        pieces.try_for_each(|piece| self.sender().send(Kind::Luggage, piece)).map_err(|_| gone())?;
        self.channel.run(request, input, timing, output)?.ok_or_else(gone)
    }
}
