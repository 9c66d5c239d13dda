//! The agent: the one process in the guest that talks to the host.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, PipeWriter, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tiermem_sys::sync::atomic::{AtomicU32, Ordering};

use super::plan::{Memory, Plan};
use super::sessions::Sessions;
use super::sysfs::{entries, name, read, wait_for};
use super::{MEMORY, OUT, PLAN, SOCKET, bring_up};
use crate::archive;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::wire::{CONTENTS_MAX, Frame, Hello, Kind, PIECE, PORT};

/// The way to the host; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Host {
    port: Arc<Mutex<File>>,
}

impl Host {
    /// Sends a frame; nobody hears of a failure, because the host is who would.
    pub(super) fn send(&self, frame: &Frame) {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = frame.write(&mut *port);
    }
}

/// Runs until the host says that it is over. The guest's `/init` starts it.
///
/// # Errors
/// If this is no guest of the lab, or the way to the host breaks.
pub fn run() -> Result<()> {
    let port = wait_for("the port to the host", || {
        let ports = entries("/sys/class/virtio-ports").into_iter();
        ports.filter(|path| read(path.join("name")).as_deref() == Some(PORT)).map(|path| name(&path)).next()
    })?;
    let path = PathBuf::from("/dev").join(port);
    // A port can be opened once: both directions share it.
    let mut from = File::options().read(true).write(true).open(&path).at(&path)?;
    let host = Host { port: Arc::new(Mutex::new(from.try_clone().at(&path)?)) };
    let kernel = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let uptime_s = read("/proc/uptime").and_then(|text| Some(text.split(' ').next()?.to_owned())).unwrap_or_default();
    host.send(&Frame::of(Kind::Hello, 0, &Hello { kernel, uptime_s }));

    let plan = Path::new("/").join(PLAN);
    let text = fs::read(&plan).at(&plan)?;
    let plan: Plan = serde_json::from_slice(&text).map_err(|e| Error::new(ErrorKind::BadInput, e.to_string()))?;
    fs::create_dir_all(OUT).at(Path::new(OUT))?;
    let answers = Answers::listen(&host)?;
    let brought = bring_up::bring_up(&plan);
    send_long(&host, Kind::Snapshot, &bring_up::snapshot());
    if let Ok(memory) = &brought {
        let path = Path::new("/").join(MEMORY);
        fs::write(&path, serde_json::to_vec(memory).unwrap_or_default()).at(&path)?;
    }
    let told: std::result::Result<&Vec<Memory>, String> = brought.as_ref().map_err(ToString::to_string);
    host.send(&Frame::of(Kind::Ready, 0, &told));
    let sessions = Sessions::new(&host, &plan, brought.unwrap_or_default());
    serve(&mut from, &host, &sessions, &answers)?;
    sessions.end_all();
    send_long(&host, Kind::Snapshot, &bring_up::kernel_log());
    switch_off();
    Ok(())
}

/// Does what the host says.
fn serve(from: &mut File, host: &Host, sessions: &Sessions, answers: &Answers) -> Result<()> {
    let mut unpacking = BTreeMap::new();
    while let Some(frame) = Frame::read(from).context("the port to the host")? {
        match frame.kind {
            Kind::Archive => {
                let unpack = match unpacking.entry(frame.session) {
                    std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Unpacking::start()?),
                };
                // Where unpacking failed there is no reader; its reason is told at the end.
                let _ = unpack.to.write_all(&frame.contents);
            }
            Kind::ArchiveEnd => {
                let why = unpacking.remove(&frame.session).map(Unpacking::finish).unwrap_or_default();
                host.send(&Frame::new(Kind::ArchiveEnd, frame.session, why));
            }
            Kind::Collect => collect(host, frame.session, Path::new(&frame.text())),
            Kind::Answer => answers.give(frame),
            Kind::PowerOff => break,
            _ => sessions.handle(frame),
        }
    }
    Ok(())
}

/// An archive on its way into the guest's files.
struct Unpacking {
    to: PipeWriter,
    work: JoinHandle<Result<()>>,
}

impl Unpacking {
    fn start() -> Result<Self> {
        let (from, to) = std::io::pipe().context("a pipe")?;
        Ok(Self { to, work: std::thread::spawn(move || archive::unpack(BufReader::new(from), Path::new("/"))) })
    }

    /// Why it failed, or nothing.
    fn finish(self) -> String {
        drop(self.to);
        match self.work.join() {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "unpacking panicked in the guest".into(),
        }
    }
}

/// Sends the files below a folder.
fn collect(host: &Host, session: u32, folder: &Path) {
    let mut archive = archive::Writer::new(Pieces { host, session });
    // Files may vanish meanwhile: what can be read is sent.
    let _ = pack(&mut archive, folder, folder);
    let _ = archive.finish();
    host.send(&Frame::new(Kind::CollectedEnd, session, []));
}

fn pack(archive: &mut archive::Writer<Pieces<'_>>, top: &Path, folder: &Path) -> std::io::Result<()> {
    for path in entries(folder) {
        let inside = path.strip_prefix(top).unwrap_or(&path).to_string_lossy().into_owned();
        let Ok(data) = fs::symlink_metadata(&path) else { continue };
        if data.is_dir() {
            archive.folder(&inside)?;
            pack(archive, top, &path)?;
        } else if data.is_file()
            && let Ok(contents) = fs::read(&path)
        {
            archive.file(&inside, std::os::unix::fs::PermissionsExt::mode(&data.permissions()), &contents)?;
        }
    }
    Ok(())
}

/// Sends what is written in frames.
struct Pieces<'a> {
    host: &'a Host,
    session: u32,
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let part = &bytes[..bytes.len().min(PIECE)];
        self.host.send(&Frame::new(Kind::Collected, self.session, part));
        Ok(part.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn send_long(host: &Host, kind: Kind, text: &str) {
    let bytes = text.as_bytes();
    host.send(&Frame::new(kind, 0, &bytes[..bytes.len().min(CONTENTS_MAX)]));
}

/// Questions of programs and the host's answers to them.
struct Answers {
    waiting: Arc<Mutex<BTreeMap<u32, UnixStream>>>,
}

impl Answers {
    fn listen(host: &Host) -> Result<Self> {
        let _ = fs::remove_file(SOCKET);
        let listener = UnixListener::bind(SOCKET).context(SOCKET)?;
        let answers = Self { waiting: Arc::default() };
        let (waiting, host) = (answers.waiting.clone(), host.clone());
        std::thread::spawn(move || {
            let last = AtomicU32::new(0);
            for stream in listener.incoming().flatten() {
                let mut line = String::new();
                let read = BufReader::new(&stream).read_line(&mut line);
                if read.is_ok() {
                    let number = last.fetch_add(1, Ordering::Relaxed) + 1;
                    waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(number, stream);
                    host.send(&Frame::new(Kind::Ask, number, line.trim_end()));
                }
            }
        });
        Ok(answers)
    }

    fn give(&self, frame: Frame) {
        let asked = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&frame.session);
        if let Some(mut stream) = asked {
            let mut line = frame.text().replace('\n', " ");
            line.push('\n');
            let _ = stream.write_all(line.as_bytes());
        }
    }
}

/// Writes everything out and takes file systems away, so that persistent memory is left in order.
fn switch_off() {
    let busybox = |arguments: &[&str]| {
        let _ = std::process::Command::new("/bin/busybox").args(arguments).output();
    };
    for place in entries("/mnt") {
        busybox(&["umount", &place.to_string_lossy()]);
    }
    busybox(&["sync"]);
    busybox(&["poweroff", "-f"]);
}
