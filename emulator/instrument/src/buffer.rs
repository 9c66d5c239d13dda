//! Where a thread gathers what it does, and what it does when that is full.
//!
//! ```text
//! position ───────────────┐  (in the thread's state; a multiple of 4096 where there is no room or no buffer: then `drain`)
//!                         ▼
//! ┌────────┬────────┬────────┬─   ─┬────────┬────────┬─   ─┬────────┬────────┬─   ─┐
//! │ header │ record │ (free) │  …  │        │ value  │  …  │        │ before │  …  │
//! └────────┴────────┴────────┴─   ─┴────────┴────────┴─   ─┴────────┴────────┴─   ─┘
//! 0        80       88             4096     4176           8192     8272           12288
//! ```
//! A [`record`], its value and what was counted before it stand 4096 bytes apart. Values are what a load of eight bytes
//! loads, the length of a range, or what an event is about; under other records they are left over from before.
//!
//! Writing a record and moving the position are two steps, which a signal can interrupt; [`signals`](crate::signals)
//! has handlers start in a buffer of their own.

use std::ptr::{NonNull, with_exposed_provenance, with_exposed_provenance_mut};

use tiermem_emulator::instrumented::filter::{self, Passed};
use tiermem_emulator::instrumented::{Batch, Record, ThreadIndex, record};
use tiermem_sys::map;
use tiermem_sys::sync::atomic::{AtomicU64, Ordering};
use tiermem_sys::thread::KeepErrno;

use crate::engine;
use crate::state::{Quiet, is_inside, is_quiet, position, set_position, state};
use crate::thread::Thread;

/// Bytes of the records, of the values behind them, and of the counts behind these.
pub const BYTES: usize = 4096;
const ALL_BYTES: usize = 3 * BYTES;

/// What a buffer begins with. All zero is one that nobody reads.
#[repr(C)]
struct Header {
    thread: *mut Thread,
    /// The engine has all records before this address,
    taken: usize,
    /// and what was counted until then.
    start: Passed,
    /// Where it waits to be taken: how far it is filled, what was counted, and another buffer that waits.
    end: usize,
    passed: Passed,
    next: Option<Buffer>,
}

/// Bytes before the first record.
pub const FIRST: usize = size_of::<Header>();
const _: () = assert!(FIRST == 80);

/// A buffer that nobody reads: its first record's address.
pub fn sink() -> Option<usize> {
    Some(map::anonymous(ALL_BYTES).ok()?.as_ptr().expose_provenance() + FIRST)
}

/// The calling thread's buffer is no longer used; one more access begins it anew.
pub fn stop() {
    set_position(0);
    state().record_all();
}

/// Records that could not be taken, because a handler interrupted the library and filled its buffer.
pub static LOST: AtomicU64 = AtomicU64::new(0);

/// Header, records, values, counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Buffer(NonNull<u8>);

// SAFETY: an address; who may use what is there is said with each use.
unsafe impl Send for Buffer {}

impl Buffer {
    /// One that is nobody's yet. Safe in a signal handler.
    pub fn new() -> Option<Self> {
        Some(Self(map::anonymous(ALL_BYTES).ok()?))
    }

    /// One for this thread. Safe in a signal handler.
    pub fn of(thread: *const Thread) -> Option<Self> {
        let buffer = Self::new()?;
        // SAFETY: new.
        unsafe { buffer.give_to(thread, Passed::default()) };
        Some(buffer)
    }

    /// The thread is to fill it from its begin, with what was counted until now.
    ///
    /// # Safety
    /// Nobody uses it.
    pub unsafe fn give_to(self, thread: *const Thread, start: Passed) {
        let thread = thread.cast_mut();
        let header = Header { thread, taken: self.first(), start, end: 0, passed: Passed::default(), next: None };
        // SAFETY: the buffer begins with room for its header.
        unsafe { self.0.cast::<Header>().write(header) };
    }

    /// The one that this position leads into; none if it is 0.
    pub fn at(position: usize) -> Option<Self> {
        NonNull::new(with_exposed_provenance_mut(position.checked_sub(1)? / BYTES * BYTES)).map(Self)
    }

    /// Whose it is.
    ///
    /// # Safety
    /// It is some thread's, and the thread has not ended.
    pub unsafe fn thread(self) -> Option<NonNull<Thread>> {
        // SAFETY: it begins with a header.
        NonNull::new(unsafe { self.0.cast::<Header>().as_ref() }.thread)
    }

    /// The engine has what stands before `taken`, and what was counted until then.
    ///
    /// # Safety
    /// It is a thread's, which leaves its begin alone, and the engine is locked.
    pub unsafe fn taken(self, taken: usize, start: Passed) {
        // SAFETY: it begins with a header, which nobody else looks at meanwhile.
        let header = unsafe { self.0.cast::<Header>().as_mut() };
        (header.taken, header.start) = (taken, start);
    }

    /// What stands in it up to `end`, and was not taken yet.
    ///
    /// # Safety
    /// `end` is or was a position of a thread that fills it, and it is not emptied meanwhile.
    pub unsafe fn gathered<'a>(self, end: usize, passed: Passed) -> Batch<'a> {
        // SAFETY: it begins with a header.
        let header = unsafe { self.0.cast::<Header>().as_ref() };
        let count = end.saturating_sub(header.taken) / size_of::<Record>();
        // SAFETY: that many words of each part are filled, and the thread writes behind them only.
        let part = |at: usize| unsafe { std::slice::from_raw_parts(with_exposed_provenance::<u64>(at), count) };
        Batch {
            records: part(header.taken),
            values: part(header.taken + BYTES),
            before: part(header.taken + 2 * BYTES),
            start: header.start,
            end: passed,
        }
    }

    /// It is to wait, filled up to `end`.
    ///
    /// # Safety
    /// It is the calling thread's, which fills it no more.
    pub unsafe fn fill(self, end: usize, passed: Passed) {
        // SAFETY: it begins with a header; nobody else uses it.
        let header = unsafe { self.0.cast::<Header>().as_mut() };
        (header.end, header.passed) = (end, passed);
    }

    /// Gives what waits in it to `take`, and whose it is.
    ///
    /// # Safety
    /// It [waits](Self::fill), and nobody else takes it.
    pub unsafe fn take(self, take: impl FnOnce(Option<ThreadIndex>, &Batch<'_>)) {
        // SAFETY: it begins with a header, and its thread takes all that is its own before it ends.
        let (header, thread) = unsafe {
            let header = self.0.cast::<Header>().as_ref();
            (header, &*header.thread)
        };
        // SAFETY: it was filled as far as that.
        take(thread.index, &unsafe { self.gathered(header.end, header.passed) });
    }

    /// The buffer that waits beside it, which now is `other`.
    ///
    /// # Safety
    /// It waits, and nobody else uses it.
    pub unsafe fn replace_next(self, other: Option<Self>) -> Option<Self> {
        // SAFETY: it begins with a header.
        std::mem::replace(unsafe { &mut self.0.cast::<Header>().as_mut().next }, other)
    }

    /// As a pointer.
    pub const fn as_ptr(self) -> *mut u8 {
        self.0.as_ptr()
    }

    /// Back from a pointer; none if it is null.
    pub fn from_ptr(at: *mut u8) -> Option<Self> {
        NonNull::new(at).map(Self)
    }

    /// Address of its first record.
    pub fn first(self) -> usize {
        self.0.as_ptr().expose_provenance() + FIRST
    }

    /// From now on the calling thread fills this one.
    pub fn put_in_use(self) {
        set_position(self.first());
    }

    /// # Safety
    /// Nobody's position leads into it. The thread works in this library, or the program would seem to unmap something.
    pub unsafe fn release(self) {
        // SAFETY: mapped with this length by `of`; the rest is passed on to the caller.
        let released = unsafe { map::unmap(self.0, ALL_BYTES) };
        debug_assert!(released.is_ok());
    }
}

/// Appends a record of the program's.
pub fn push(record: Record, value: u64) {
    if is_quiet() {
        return;
    }
    let mut at = position();
    if at.is_multiple_of(BYTES) {
        drain();
        at = position();
    }
    let word = with_exposed_provenance_mut::<u64>(at);
    // SAFETY: there is room for a record in the thread's own buffer,
    unsafe { word.write(record) };
    // SAFETY: for its value,
    unsafe { word.byte_add(BYTES).write(value) };
    // SAFETY: and for the counts before.
    unsafe { word.byte_add(2 * BYTES).write(state().passed().counts) };
    set_position(at + size_of::<Record>());
}

/// The program reads or writes `len` bytes from `address`.
#[inline]
pub fn range(address: u64, len: u64, store: bool) {
    if len == 0 || is_quiet() {
        return;
    }
    let state = state();
    if !state.pass_range(address, len, store) {
        record_range(address, len, store);
    } else if state.has_enough() {
        drain();
    }
}

#[inline(never)]
fn record_range(address: u64, len: u64, store: bool) {
    push(record::range(address, store), len);
    state().note_range(address, len, store);
}

/// Makes room for at least one more record of the calling thread, and to count more.
#[cold]
pub extern "C" fn drain() {
    let _errno = KeepErrno::new();
    if is_inside() {
        drop_all();
        return;
    }
    let _quiet = Quiet::new();
    match Thread::current() {
        // SAFETY: the calling thread's own.
        Some(thread) => engine::pass(unsafe { thread.as_ref() }),
        None => engine::begin_thread(),
    }
}

/// A handler interrupted the library, which cannot be entered again now.
#[cold]
fn drop_all() {
    let (at, state) = (position(), state());
    if at == 0 {
        if let Some(sink) = engine::sink() {
            set_position(sink);
        }
    } else if at.is_multiple_of(BYTES) {
        lost((BYTES - FIRST) / size_of::<Record>());
        set_position(at - BYTES + FIRST);
    }
    if state.has_enough() {
        lost(usize::try_from(filter::number(state.passed().counts)).unwrap_or(usize::MAX));
        state.set_passed(&Passed::default());
    }
}

pub fn lost(records: usize) {
    // Relaxed: a count, read when all is over.
    LOST.fetch_add(records as u64, Ordering::Relaxed);
}
