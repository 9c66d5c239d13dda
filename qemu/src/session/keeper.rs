//! The process that keeps a shared guest.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tiermem_sys::signal::number::SIGKILL;
use tiermem_sys::sync::atomic::{AtomicBool, Ordering};

use super::place::{self, Note, Place};
use super::{Client, Owner};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::host::{Channel, Guest, Heard, TICK};
use crate::program::{Packing, Stamp};
use crate::wire::{Frame, Kind};

/// How long a guest is kept without a program, unless a client says otherwise.
const IDLE: Duration = Duration::from_secs(300);
/// How long files may take into the guest.
const PUT: Duration = Duration::from_secs(600);

/// A guest and its clients.
#[derive(Debug)]
pub struct Keeper<'a> {
    guest: &'a Guest,
    stop: &'a AtomicBool,
    listener: UnixListener,
    place: Place,
    /// What the guest's files are.
    known: Mutex<BTreeSet<Stamp>>,
    usage: Mutex<Usage>,
}

/// Who uses the guest.
#[derive(Debug)]
struct Usage {
    clients: usize,
    owners: BTreeSet<Owner>,
    idle: Option<Duration>,
    last: Instant,
}

impl<'a> Keeper<'a> {
    /// Announces the guest in `folder`, a scratch folder.
    ///
    /// # Errors
    /// Those of the system.
    pub fn announce(guest: &'a Guest, folder: &Path, note: Note, first: &Client, stop: &'a AtomicBool) -> Result<Self> {
        let socket = place::socket(folder);
        let listener = UnixListener::bind(&socket).at(&socket)?;
        let usage = Usage {
            clients: 0,
            owners: first.owner.into_iter().collect(),
            idle: first.idle_s.map(Duration::from_secs),
            last: Instant::now(),
        };
        let place = Place::announce(folder, note)?;
        Ok(Self { guest, stop, listener, place, known: Mutex::default(), usage: Mutex::new(usage) })
    }

    /// Serves clients until nobody needs the guest any more, `stop` is set, or the guest is gone.
    ///
    /// # Errors
    /// Why the guest is gone.
    pub fn serve(&self) -> Result<()> {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while let Ok((stream, _)) = self.listener.accept() {
                    if self.is_over() {
                        break;
                    }
                    scope.spawn(move || self.client(stream));
                }
            });
            while !self.is_over() {
                std::thread::sleep(TICK);
            }
            self.place.withdraw();
            self.stop.store(true, Ordering::Relaxed);
            // Nobody else wakes the thread that accepts.
            drop(UnixStream::connect(self.place.socket()));
        });
        if self.guest.is_gone() { Err(self.guest.gone()) } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        // Relaxed: the flag says only that it is set.
        self.stop.load(Ordering::Relaxed) || self.guest.is_gone() || self.lock().is_over()
    }

    /// One client, from its first words to its last.
    fn client(&self, stream: UnixStream) {
        self.lock().clients += 1;
        let done = self.converse(&stream);
        if let Err(error) = done {
            let _ = Frame::of(Kind::Failed, 1, &error).write(&mut &stream);
        }
        let mut now = self.lock();
        now.clients -= 1;
        now.last = Instant::now();
    }

    fn converse(&self, stream: &UnixStream) -> Result<()> {
        let mut from = stream.try_clone().context("a client")?;
        let mut heard = || Frame::read(&mut from).ok().flatten();
        let mut luggage = Vec::new();
        let request = loop {
            let Some(frame) = heard() else { return Ok(()) };
            match frame.kind {
                Kind::Client => {
                    self.lock().join(&frame.value::<Client>()?);
                    Frame::new(Kind::Ready, 1, []).write(&mut &*stream).context("a client")?;
                }
                Kind::PowerOff => {
                    self.stop.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                Kind::Luggage => luggage.extend(frame.contents),
                Kind::Run => break frame,
                _ => {}
            }
        };
        let packing: Packing = serde_json::from_slice(&luggage)
            .map_err(|e| Error::new(ErrorKind::BadInput, format!("a client's list of files: {e}")))?;
        {
            // One after the other: who finds a file known may rely on its being there.
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            self.guest.put(&packing, &mut known, PUT, self.stop)?;
        }
        let channel = self.guest.channel();
        channel.sender().send(Kind::Run, request.contents).map_err(|_| self.guest.gone())?;
        std::thread::scope(|scope| {
            let to_program = channel.sender();
            scope.spawn(move || {
                while let Ok(Some(frame)) = Frame::read(&mut from) {
                    if matches!(frame.kind, Kind::Input | Kind::Signal | Kind::Resize | Kind::OutputTaken) {
                        let _ = to_program.send(frame.kind, frame.contents);
                    }
                }
                // The client has left, or has been told of the program's end, and then this does nothing.
                let _ = to_program.send(Kind::Signal, SIGKILL.to_string());
                let _ = to_program.send(Kind::OutputTaken, "nobody listens");
            });
            let done = self.pass_on(&channel, stream);
            // Ends the thread above.
            let _ = stream.shutdown(std::net::Shutdown::Read);
            done
        })
    }

    /// Tells a client what its program says, to the program's end.
    fn pass_on(&self, channel: &Channel, stream: &UnixStream) -> Result<()> {
        loop {
            let heard =
                channel.hear(self.stop, None, "").map_err(|error| error.within("the shared guest was stopped"))?;
            let Heard::Frame(frame) = heard else { return Err(self.guest.gone()) };
            let frame = Frame { session: 1, ..frame };
            if frame.write(&mut &*stream).is_err() || frame.kind == Kind::Ended {
                return Ok(());
            }
        }
    }
}

impl Usage {
    fn join(&mut self, client: &Client) {
        self.owners.extend(client.owner);
        self.idle = self.idle.max(client.idle_s.map(Duration::from_secs));
    }

    /// Whether nobody needs the guest any more.
    fn is_over(&mut self) -> bool {
        if self.clients > 0 {
            return false;
        }
        let rested = self.last.elapsed();
        match self.idle {
            Some(idle) => rested >= idle,
            None => {
                self.owners.retain(Owner::lives);
                self.owners.is_empty() || rested >= IDLE
            }
        }
    }
}

/// Tells who started this keeper how it went: ready, something worth knowing, or why not.
pub fn report(mut to: impl Write, kind: Kind, text: &str) {
    // Whoever started it may be gone; then the guest is not wanted long.
    let _ = Frame::new(kind, 0, text).write(&mut to);
}

#[cfg(test)]
mod tests {
    use super::{IDLE, Usage};
    use crate::session::{Client, Owner};
    use std::time::{Duration, Instant};

    #[test]
    fn a_guest_is_kept_for_the_living_and_no_longer() {
        let alive = Owner::of(std::process::id()).unwrap();
        let dead = Owner { started: alive.started + 1, ..alive };
        let last = Instant::now();
        let mut now = Usage { clients: 0, owners: [dead, alive].into(), idle: None, last };
        assert!(!now.is_over());
        now.owners = [dead].into();
        assert!(now.is_over());
        now.clients = 1;
        assert!(!now.is_over());
        now.clients = 0;
        now.join(&Client { owner: None, idle_s: Some(3600) });
        assert!(!now.is_over());
        let Some(long_ago) = last.checked_sub(IDLE + Duration::from_secs(1)) else {
            eprintln!("SKIP a_guest_is_kept_for_the_living_and_no_longer: this machine has just started");
            return;
        };
        now = Usage { clients: 0, owners: [alive].into(), idle: None, last: long_ago };
        assert!(now.is_over());
    }
}
