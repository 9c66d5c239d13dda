//! The file that is recorded into: which it is, what stands in it beside events, and who may write.
//!
//! It is opened for each block, by its path: a descriptor that stays open would be closed by programs that close all of theirs,
//! and what the program opened next under that number would be written into. Nothing here allocates.

use std::os::fd::AsFd;

use tiermem_sys::file::{self, Existing, FileType};
use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicU32, Ordering};
use tiermem_sys::thread::Uncancelled;
use tiermem_sys::{Errno, clock, process, thread};
use tiermem_trace::definition::{Part, clock_code, completeness, frame, kind, provenance};
use tiermem_trace::{Clock, MAGIC, StreamId};

use super::modules::Known;
use super::words::{Text, push_command};
use super::writer::{PATH_MAX, Writer};
use super::{TAKEN_VARIABLE, TRACE_VARIABLE, accesses, lane, sites, tier_name};
use crate::sites::FRAMES;

/// Files of one process, one for each program that it becomes (exec).
const PROGRAMS_MAX: u64 = 1000;
/// How long the end of a process waits for others that write, milliseconds.
const PATIENCE_MS: u32 = 100;

/// The file.
pub static OUTPUT: Lock<Output> = Lock::new(Output::new());
/// The process whose file it is; 0 before it is opened. A child of vfork, which shares this memory, is another one.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Whose events a block has.
pub struct Stream {
    pub id: StreamId,
    /// The OS's number of the thread.
    pub thread: u32,
    /// Whether the file says so already.
    pub is_defined: bool,
}

/// See the module.
pub struct Output {
    writer: Writer,
    is_open: bool,
    /// As the user said, absolute.
    base: Text<PATH_MAX>,
    /// The process that this one was copied from, while it recorded; 0 for none.
    parent: u32,
    sites_defined: u32,
    tiers_defined: usize,
    modules: Known,
}

/// Whether this process may record into the very file that the environment names: no other did before.
pub fn may_take() -> bool {
    process::early_variable(TAKEN_VARIABLE.as_bytes()).is_none()
}

/// Whether the file is this process's.
pub fn is_own() -> bool {
    // Relaxed: written by this process, or before it was made.
    let owner = OWNER.load(Ordering::Relaxed);
    owner == 0 || owner == process::id()
}

/// Writes a block of events.
pub fn write(block: &[u8], records: u32, stream: &mut Stream) {
    let _uncancelled = Uncancelled::new();
    let mut output = OUTPUT.lock();
    if output.open() {
        output.define_stream(stream);
        output.define_rest();
        output.writer.write_events(block, records);
    }
}

/// Writes the end, unless others go on writing. See [`super::conclude`].
pub fn conclude() {
    for _ in 0..PATIENCE_MS {
        match OUTPUT.try_lock() {
            Some(mut output) => return output.conclude(),
            None => thread::sleep_ms(1),
        }
    }
}

impl Output {
    const fn new() -> Self {
        Self {
            writer: Writer::new(),
            is_open: false,
            base: Text::new(),
            parent: 0,
            sites_defined: 0,
            tiers_defined: 0,
            modules: Known::new(),
        }
    }

    /// Makes the file, the first time. False if there is none.
    pub fn open(&mut self) -> bool {
        if !self.is_open && !self.writer.file.has_failed {
            // Relaxed: see `is_own`.
            OWNER.store(process::id(), Ordering::Relaxed);
            self.is_open = true;
            match self.make() {
                Ok(()) => self.introduce(),
                Err(errno) => self.writer.file.fail(errno),
            }
        }
        !self.writer.file.has_failed
    }

    fn make(&mut self) -> Result<(), Errno> {
        if self.base.is_empty() {
            let asked = process::early_variable(TRACE_VARIABLE.as_bytes()).unwrap_or_default();
            if !asked.starts_with(b"/") {
                file::working_directory(|directory| {
                    self.base.push(directory).push(b"/");
                })?;
            }
            self.base.push(asked);
        }
        let path = &mut self.writer.file.path;
        path.clear();
        path.push(self.base.as_bytes());
        if self.parent == 0 && may_take() {
            let fd = file::open(path.as_c_str().ok_or(Errno::ENAMETOOLONG)?, Existing::OrCreate, false)?;
            if file::status(fd.as_fd())?.file_type != FileType::Regular {
                return Err(Errno::ESPIPE);
            }
            let mut start = MAGIC;
            let len = file::read_at(fd.as_fd(), &mut start, 0)?;
            if len > 0 && (len, start) != (MAGIC.len(), MAGIC) {
                // Something else, which would be lost.
                return Err(Errno::EEXIST);
            }
            return file::set_size(fd.as_fd(), 0);
        }
        for program in 1..=PROGRAMS_MAX {
            path.clear();
            path.push(self.base.as_bytes()).push(b".").push_number(process::id().into());
            if program > 1 {
                path.push(b".").push_number(program);
            }
            match file::open(path.as_c_str().ok_or(Errno::ENAMETOOLONG)?, Existing::Forbidden, false) {
                Ok(_) => return Ok(()),
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EEXIST)
    }

    /// Writes what stands at the beginning.
    fn introduce(&mut self) {
        const TOOL: &str = concat!("libtiermem.so ", env!("CARGO_PKG_VERSION"));
        let writer = &mut self.writer;
        writer.begin();
        writer.put(provenance::TOOL, &[Part::Rest(TOOL.as_bytes())]);
        let mut command = Text::<1024>::new();
        push_command(&mut command);
        writer.put(provenance::COMMAND, &[Part::Rest(command.as_bytes())]);
        writer.put(provenance::PID, &[Part::Number(process::id().into())]);
        writer.put(provenance::STARTED, &[Part::Number(clock::unix_ns())]);
        writer.put(provenance::CLOCK, &[Part::Number(clock_code(Clock::RealNs))]);
        writer.put(provenance::COMMON_CLOCK, &[Part::Number(1)]);
        let source = accesses::source();
        let accesses = if source.is_some() { completeness::AGGREGATED } else { completeness::ABSENT };
        writer.put(provenance::ACCESSES, &[accesses, 0].map(Part::Number));
        writer.put(provenance::ALLOCATIONS, &[completeness::EXACT, 0].map(Part::Number));
        if self.parent != 0 {
            let mut note = Text::<128>::new();
            note.push(b"forked by process ").push_number(self.parent.into());
            note.push(b": what that had allocated before is freed here without having been allocated");
            writer.put(provenance::NOTE, &[Part::Rest(note.as_bytes())]);
        }
        if let Some(kind) = source {
            let mut note = Text::<128>::new();
            note.push(b"accesses as seen by ").push(kind.as_str().as_bytes()).push(b": ").push(kind.sees().as_bytes());
            note.push(b", at most every ").push_number(accesses::every_ms().into()).push(b" ms");
            writer.put(provenance::NOTE, &[Part::Rest(note.as_bytes())]);
        }
        if sites::depth() > 1 {
            let mut note = Text::<128>::new();
            note.push(b"sites are call stacks of up to ").push_number(sites::depth().into()).push(b" frames");
            writer.put(provenance::NOTE, &[Part::Rest(note.as_bytes())]);
        }
        writer.write_provenance();
    }

    fn define_stream(&mut self, stream: &mut Stream) {
        if std::mem::replace(&mut stream.is_defined, true) {
            return;
        }
        let mut path = Text::<64>::new();
        // Not /proc/self, which is empty once the first thread has left with pthread_exit.
        path.push(b"/proc/thread-self/../").push_number(stream.thread.into()).push(b"/comm");
        let mut name = [0; 64];
        let len = path.as_c_str().and_then(|path| file::read_small(path, &mut name).ok()).unwrap_or(0);
        let name = name[..len].strip_suffix(b"\n").unwrap_or(&name[..len]);
        let numbers = [stream.id.0, stream.thread].map(|number| Part::Number(number.into()));
        self.writer.put(kind::STREAM, &[numbers[0], numbers[1], Part::Text(name)]);
    }

    /// Writes all definitions that are new.
    fn define_rest(&mut self) {
        while let Some(name) = tier_name(self.tiers_defined) {
            let tag = u8::try_from(self.tiers_defined).unwrap_or(u8::MAX);
            self.writer.put(kind::TIER, &[Part::Byte(tag), Part::Text(name.as_str().as_bytes())]);
            self.tiers_defined += 1;
        }
        let mut is_known = true;
        for (number, stack) in sites::after(self.sites_defined) {
            self.sites_defined = number;
            let Some(stack) = stack else { continue };
            let frames = stack.addresses();
            is_known &= frames.iter().all(|&address| self.modules.has(address as usize));
            let mut parts = [Part::Number(frame::ADDRESS); 2 + 2 * FRAMES];
            parts[0] = Part::Number(number.into());
            parts[1] = Part::Number(frames.len() as u64);
            parts[2..].iter_mut().skip(1).step_by(2).zip(frames).for_each(|(part, &frame)| *part = Part::Number(frame));
            self.writer.put(kind::SITE, &parts[..2 + 2 * frames.len()]);
        }
        if !is_known {
            self.modules.update(|start, end, offset, path| {
                let [start, end, offset] = [start, end, offset].map(|number| Part::Number(number as u64));
                self.writer.put(kind::MODULE, &[start, end, offset, Part::Text(path)]);
            });
        }
        self.writer.write_definitions();
    }

    fn conclude(&mut self) {
        if !self.open() {
            return;
        }
        self.define_rest();
        self.writer.conclude();
        if lane::lost() > 0 {
            let mut line = Text::<128>::new();
            line.push(b"tiermem: the trace lacks ").push_number(lane::lost());
            process::say(line.push(b" events, of signal handlers or for want of memory\n").as_bytes());
        }
    }

    /// In a child of fork: another file.
    pub fn restart_in_child(&mut self) {
        if self.is_open {
            self.parent = OWNER.load(Ordering::Relaxed);
        }
        OWNER.store(0, Ordering::Relaxed);
        self.is_open = false;
        self.writer.restart();
        (self.sites_defined, self.tiers_defined) = (0, 0);
        self.modules.clear();
    }
}
