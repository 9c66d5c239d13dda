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

use std::cell::Cell;
use std::ptr::{NonNull, null_mut, with_exposed_provenance, with_exposed_provenance_mut};

use tiermem_emulator::instrumented::filter::{self, Company, Passed, ThreadState};
use tiermem_emulator::instrumented::{Batch, Record, ThreadIndex, record};
use tiermem_sys::map;
use tiermem_sys::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tiermem_sys::sync::spin_hint;
use tiermem_sys::thread::KeepErrno;

use crate::deferred::Deferred;
use crate::stack::SiteCache;
use crate::state::{Quiet, is_inside, is_quiet, position, set_position, state};
use crate::{engine, stack};

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
    next: *mut u8,
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

/// A thread of the program.
pub struct Thread {
    /// Its number in the engine, where there is one.
    pub index: Option<ThreadIndex>,
    /// The buffer that it fills, unless a handler has put one of its own in use.
    buffer: Cell<Buffer>,
    /// Odd while it goes from one buffer to the next.
    moves: AtomicUsize,
    /// [`Company`] as it was when its counts were begun last.
    company: Cell<Company>,
    /// What its handlers left behind.
    pub deferred: Deferred,
    /// Its state, for others.
    state: *const ThreadState,
    pub stack: stack::Bounds,
    pub sites: SiteCache,
    /// How often its end was announced.
    pub ends: u32,
}

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
    unsafe fn give_to(self, thread: *const Thread, start: Passed) {
        let thread = thread.cast_mut();
        let header = Header { thread, taken: self.first(), start, end: 0, passed: Passed::default(), next: null_mut() };
        // SAFETY: the buffer begins with room for its header.
        unsafe { self.0.cast::<Header>().write(header) };
    }

    /// It is to wait, filled up to `end`.
    ///
    /// # Safety
    /// It is the calling thread's, which fills it no more.
    pub unsafe fn fill(self, end: usize, passed: Passed, next: *mut u8) {
        // SAFETY: it begins with a header; nobody else uses it.
        let header = unsafe { self.0.cast::<Header>().as_mut() };
        (header.end, header.passed, header.next) = (end, passed, next);
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
        take(thread.index, &unsafe { gathered(header.end, header.passed) });
    }

    /// The buffer that waits beside it, which now is `other`.
    ///
    /// # Safety
    /// It waits, and nobody else uses it.
    pub unsafe fn replace_next(self, other: *mut u8) -> *mut u8 {
        // SAFETY: it begins with a header.
        std::mem::replace(unsafe { &mut self.0.cast::<Header>().as_mut().next }, other)
    }

    /// As a pointer, and back.
    pub const fn as_ptr(self) -> *mut u8 {
        self.0.as_ptr()
    }

    /// See [`as_ptr`](Self::as_ptr).
    pub const fn from_ptr(at: *mut u8) -> Option<Self> {
        match NonNull::new(at) {
            Some(at) => Some(Self(at)),
            None => None,
        }
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

/// Address of the buffer that this position, not 0, leads into.
const fn buffer_of(position: usize) -> usize {
    (position - 1) / BYTES * BYTES
}

/// What stands in the buffer that is filled up to `end`, and was not taken yet.
///
/// # Safety
/// `end` is or was a position of a thread, and its buffer is there and not emptied meanwhile.
unsafe fn gathered<'a>(end: usize, passed: Passed) -> Batch<'a> {
    // SAFETY: each buffer begins with one.
    let header = unsafe { &*with_exposed_provenance::<Header>(buffer_of(end)) };
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

impl Thread {
    /// One without a buffer in use.
    pub fn new(index: Option<ThreadIndex>) -> Option<NonNull<Self>> {
        let thread = NonNull::from(Box::leak(Box::new(Self {
            index,
            buffer: Cell::new(Buffer(NonNull::dangling())),
            moves: AtomicUsize::new(0),
            company: Cell::new(Company::default()),
            deferred: Deferred::default(),
            state: state(),
            stack: stack::Bounds::of_this_thread(),
            sites: SiteCache::default(),
            ends: 0,
        })));
        let buffer = Buffer::of(thread.as_ptr())?;
        // SAFETY: made above, and nobody else knows of it.
        unsafe { thread.as_ref() }.buffer.set(buffer);
        Some(thread)
    }

    /// The calling thread's, if it has begun.
    pub fn current() -> Option<NonNull<Self>> {
        let position = position();
        if position == 0 {
            return None;
        }
        // SAFETY: the position points behind the header of a buffer.
        NonNull::new(unsafe { (*with_exposed_provenance::<Header>(buffer_of(position))).thread })
    }

    /// Begins to fill its buffer.
    pub fn begin(&self) {
        self.buffer.get().put_in_use();
    }

    /// Whether its buffer can be passed on: handlers have others, and what they left behind comes after it.
    pub fn can_pass(&self) -> bool {
        buffer_of(position()) + FIRST == self.buffer.get().first() && self.deferred.is_empty()
    }

    /// Fills `empty` from now on, and gives back the buffer that it filled until now. The thread is the calling one, and
    /// [can](Self::can_pass).
    pub fn go_on_in(&self, empty: Buffer, company: Company) -> Buffer {
        let full = self.buffer.replace(empty);
        let state = state();
        // SAFETY: the thread's own, and not passed on yet.
        unsafe { full.fill(position(), state.passed(), null_mut()) };
        // Whoever takes what other threads have so far sees that it is not all there.
        self.moves.fetch_add(1, Ordering::SeqCst);
        state.go_on(company, self.company.replace(company));
        // SAFETY: nobody's.
        unsafe { empty.give_to(self, state.passed()) };
        empty.put_in_use();
        self.moves.fetch_add(1, Ordering::SeqCst);
        full
    }

    /// How far its buffer is filled, and what was counted. The thread may be any that has not ended; the engine is locked.
    fn so_far(&self) -> (usize, Passed) {
        // SAFETY: the thread has not ended, so its state is there.
        let state = unsafe { &*self.state };
        loop {
            let moves = self.moves.load(Ordering::SeqCst);
            // SAFETY: as above. If the thread is not the calling one, it may go on meanwhile.
            let end = unsafe { state.position.as_ptr().read_volatile() };
            let passed = state.passed();
            if moves.is_multiple_of(2) && self.moves.load(Ordering::SeqCst) == moves {
                return (end, passed);
            }
            spin_hint();
        }
    }

    /// Gives what it has gathered and was not taken yet to `take`. The engine is locked.
    pub fn take(&self, take: impl FnOnce(&Batch<'_>)) {
        let (end, passed) = self.so_far();
        if end == 0 {
            return;
        }
        // SAFETY: it is its position.
        take(&unsafe { gathered(end, passed) });
        let header = with_exposed_provenance_mut::<Header>(buffer_of(end));
        // SAFETY: the thread's buffer, whose header nobody else looks at while the engine is locked.
        let header = unsafe { &mut *header };
        header.taken = end;
        header.start = passed;
    }

    /// Begins its buffer anew when all was taken, and its counts by `restart`. The thread is the calling one.
    pub fn restart(&self, company: Company, restart: impl FnOnce(&ThreadState)) {
        self.company.set(company);
        let position = position();
        if position == 0 {
            return;
        }
        let buffer = buffer_of(position);
        let state = state();
        restart(state);
        let header = with_exposed_provenance_mut::<Header>(buffer);
        // SAFETY: as in `take`.
        let header = unsafe { &mut *header };
        header.taken = buffer + FIRST;
        header.start = state.passed();
        set_position(buffer + FIRST);
    }

    /// Gives its buffer back.
    ///
    /// # Safety
    /// The calling thread is this one, and its position is 0.
    pub unsafe fn release(self) {
        // SAFETY: passed on to the caller.
        unsafe { self.buffer.get().release() };
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
