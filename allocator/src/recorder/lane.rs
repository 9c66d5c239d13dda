//! Where a thread's events wait for being written.

use std::ptr::NonNull;

use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use tiermem_sys::{map, thread};
use tiermem_trace::{Encoder, Event, HEADER_LEN, PAYLOAD_TARGET, RECORD_MAX, StreamId};

use super::now;
use super::output::{self, Stream};

/// Bytes of a buffer.
const BUFFER: usize = HEADER_LEN + PAYLOAD_TARGET + RECORD_MAX;

/// Events do not wait longer than this for being written, as long as others come, where the recorder's thread does not write
/// them before (`watch`): in a child of fork that has none yet, and where threads are limited.
const AGE_MAX_NS: u64 = 1_000_000_000;

/// The lane of threads that have no heap.
pub static SPARE: Lane = Lane::new();

static NEXT_STREAM: AtomicU32 = AtomicU32::new(1);

/// Events that could not be entered: there was no memory for a buffer, or they came from a signal handler that had interrupted
/// the entering of another one.
static LOST: AtomicU64 = AtomicU64::new(0);

/// See the module. Only its thread enters events; others write them, too: the recorder's thread once they are old, and who
/// ends the process.
pub struct Lane {
    waiting: Lock<Waiting>,
    /// The thread that is entering an event.
    entering: AtomicUsize,
}

struct Waiting {
    /// Made for the first event, and kept for whatever thread comes next.
    encoder: Option<Encoder<&'static mut [u8]>>,
    stream: Option<Stream>,
    /// Time of the block's first event.
    since: u64,
}

/// How many events are missing.
pub fn lost() -> u64 {
    // Relaxed: a statistic.
    LOST.load(Ordering::Relaxed)
}

impl Lane {
    /// An empty one.
    pub const fn new() -> Self {
        Self { waiting: Lock::new(Waiting::new()), entering: AtomicUsize::new(0) }
    }

    /// Enters the event that `event` makes of the time.
    pub(super) fn push(&self, event: impl FnOnce(u64) -> Event) {
        let me = thread::current();
        // Relaxed: a thread, and signal handlers in it, look for themselves.
        if self.entering.load(Ordering::Relaxed) == me {
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.entering.store(me, Ordering::Relaxed);
        self.waiting.lock().push(event);
        self.entering.store(0, Ordering::Relaxed);
    }

    /// The thread ends: what it has entered is written, and what comes next is another's.
    pub fn end(&self) {
        let mut waiting = self.waiting.lock();
        waiting.flush();
        waiting.stream = None;
    }

    /// Writes what was entered, unless that is going on.
    pub fn try_flush(&self) {
        if let Some(mut waiting) = self.waiting.try_lock() {
            waiting.flush();
        }
    }

    /// Writes what was entered, if the first of it was so before `ns`, unless somebody is at it.
    pub(super) fn flush_older(&self, ns: u64) {
        if let Some(mut waiting) = self.waiting.try_lock()
            && waiting.since < ns
        {
            waiting.flush();
        }
    }

    /// Takes the lane away from the thread that had it in the parent, and what it had entered with it.
    pub fn restart_in_child(&self) {
        self.entering.store(0, Ordering::Relaxed);
        if let Some(mut waiting) = self.waiting.try_lock() {
            waiting.stream = None;
            return;
        }
        // A thread that is not there any more was using it, and has left it in any state. Its buffer is lost.
        // SAFETY: the child has one thread, this one, which is not in here: nobody uses what the lock guards.
        unsafe { self.waiting.as_ptr().write(Waiting::new()) };
        // SAFETY: as above: the thread that this one was copied from stands for the one that held it.
        unsafe { self.waiting.release() };
    }
}

impl Waiting {
    const fn new() -> Self {
        Self { encoder: None, stream: None, since: 0 }
    }

    fn push(&mut self, event: impl FnOnce(u64) -> Event) {
        let Some(encoder) = self.encoder() else {
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let event = event(now());
        let first = encoder.is_empty();
        encoder.push(&event);
        let full = encoder.is_full();
        if first {
            self.since = event.at();
        } else if full || event.at() - self.since > AGE_MAX_NS {
            self.flush();
        }
    }

    /// The encoder of this thread's stream. `None` if there is no memory for it.
    #[inline]
    fn encoder(&mut self) -> Option<&mut Encoder<&'static mut [u8]>> {
        if self.stream.is_none() {
            let stream = StreamId(NEXT_STREAM.fetch_add(1, Ordering::Relaxed));
            match &mut self.encoder {
                Some(encoder) => encoder.restart(stream),
                None => self.encoder = Some(Encoder::with_buffer(stream, buffer()?)),
            }
            self.stream = Some(Stream { id: stream, thread: thread::id(), is_defined: false });
        }
        self.encoder.as_mut()
    }

    fn flush(&mut self) {
        if let (Some(encoder), Some(stream)) = (&mut self.encoder, &mut self.stream)
            && !encoder.is_empty()
        {
            let records = encoder.records();
            output::write(encoder.seal(), records, stream);
        }
    }
}

/// Memory for a buffer, which is never given back.
#[cold]
fn buffer() -> Option<&'static mut [u8]> {
    let at: NonNull<u8> = map::anonymous(BUFFER.next_multiple_of(map::os_page_size())).ok()?;
    // SAFETY: fresh, zeroed memory of that size that nobody else knows of, and that stays mapped.
    Some(unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), BUFFER) })
}
