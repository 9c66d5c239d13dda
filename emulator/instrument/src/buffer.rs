//! Where a thread gathers what it does, and what it does when that is full.
//!
//! ```text
//! position ──────────────┐  (thread-local; a multiple of 4096 where there is no room or no buffer: then `drain`)
//!                        ▼
//! ┌────────┬────────┬────────┬─   ─┬────────┬────────┬────────┬─   ─┐
//! │ thread │ record │ (free) │  …  │        │ value  │        │  …  │
//! └────────┴────────┴────────┴─   ─┴────────┴────────┴────────┴─   ─┘
//! 0        8        16                4096     4104                8192
//! ```
//! A [`record`] and its value stand 4096 bytes apart. Values are what a load of eight bytes loads, the length of a
//! range, or what an event is about; under other records they are left over from before.
//!
//! Writing a record and moving the position are two steps, which a signal can interrupt; [`signals`](crate::signals)
//! has handlers start in a buffer of their own.

use std::arch::{asm, global_asm};
use std::ptr::{NonNull, with_exposed_provenance_mut};

use tiermem_emulator::instrumented::{Record, ThreadIndex, record};
use tiermem_sys::map;
use tiermem_sys::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tiermem_sys::thread::KeepErrno;

use crate::stack::SiteCache;
use crate::{engine, stack};

/// Bytes of the records, and of the values behind them.
pub const BYTES: usize = 4096;
/// Bytes before the first record.
pub const FIRST: usize = size_of::<usize>();

// Static thread-local storage, reached without a call: see "initial exec" in Drepper, "ELF Handling For Thread-Local
// Storage" (2013), 4.2.
global_asm!(
    ".pushsection .tbss, \"awT\", @nobits",
    ".balign 16",
    ".globl tiermem_instrument_position",
    ".hidden tiermem_instrument_position",
    ".type tiermem_instrument_position, @object",
    ".size tiermem_instrument_position, 16",
    "tiermem_instrument_position: .zero 16", // The position, and whether the thread is quiet.
    ".popsection",
);

/// Where the position lies, seen from the thread's own address: in this library, or in the program, whose checks need one
/// instruction less then.
pub static OFFSET: AtomicUsize = AtomicUsize::new(0);

/// Called by the program before anything else of it or of this library runs: its position lies there.
#[unsafe(no_mangle)]
extern "C" fn tiermem_instrument_register(offset: usize) {
    // Relaxed: before there is another thread.
    OFFSET.store(offset, Ordering::Relaxed);
}

fn thread_pointer() -> usize {
    let at: usize;
    // SAFETY: reads the thread's own address.
    unsafe { asm!("mov {at}, qword ptr fs:[0]", at = out(reg) at, options(pure, readonly, nostack)) };
    at
}

fn own_offset() -> usize {
    let at: usize;
    // SAFETY: reads a word of the global offset table.
    unsafe {
        asm!(
            "mov {at}, qword ptr [rip + tiermem_instrument_position@GOTTPOFF]",
            at = out(reg) at,
            options(pure, readonly, nostack),
        );
    }
    at
}

fn position_word() -> *mut usize {
    // Relaxed: see `tiermem_instrument_register`.
    let mut offset = OFFSET.load(Ordering::Relaxed);
    if offset == 0 {
        offset = own_offset();
        OFFSET.store(offset, Ordering::Relaxed);
    }
    with_exposed_provenance_mut(thread_pointer().wrapping_add(offset))
}

fn quiet_word() -> *mut usize {
    const AFTER_POSITION: usize = 8;
    with_exposed_provenance_mut(thread_pointer().wrapping_add(own_offset()).wrapping_add(AFTER_POSITION))
}

/// Where the calling thread's next record goes; a multiple of [`BYTES`] if there is no room.
pub fn position() -> usize {
    // SAFETY: the thread's own word.
    unsafe { position_word().read_volatile() }
}

pub fn set_position(at: usize) {
    // SAFETY: the thread's own word.
    unsafe { position_word().write_volatile(at) };
}

/// Set in the quiet word while a handler of the program's runs that interrupted this library.
const CAPTIVE: usize = 1 << 32;

fn quiet() -> usize {
    // SAFETY: the thread's own word.
    unsafe { quiet_word().read_volatile() }
}

/// Whether the calling thread is working in this library.
pub fn is_quiet() -> bool {
    quiet() & (CAPTIVE - 1) != 0
}

/// Whether a handler of the program's runs that interrupted this library, which must not be entered now.
pub fn is_captive() -> bool {
    quiet() & CAPTIVE != 0
}

/// While it lives, the thread works in this library, and what it does is not the program's doing.
pub struct Quiet(());

impl Quiet {
    pub fn new() -> Self {
        let word = quiet_word();
        // SAFETY: the thread's own word, which handlers leave as they found it.
        unsafe { word.write_volatile(word.read_volatile() + 1) };
        Self(())
    }
}

/// While it lives, the calling thread runs a handler of the program's, whatever it did before.
pub struct Handling {
    position: usize,
    quiet: usize,
}

impl Handling {
    /// Also says whether this library was interrupted.
    pub fn new() -> (Self, bool) {
        let before = Self { position: position(), quiet: quiet() };
        let captive = before.quiet != 0;
        // SAFETY: the thread's own word.
        unsafe { quiet_word().write_volatile(if captive { CAPTIVE } else { 0 }) };
        (before, captive)
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        set_position(self.position);
        // SAFETY: the thread's own word.
        unsafe { quiet_word().write_volatile(self.quiet) };
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let word = quiet_word();
        // SAFETY: as above.
        unsafe { word.write_volatile(word.read_volatile() - 1) };
    }
}

/// The calling thread's buffer is no longer used; one more access begins it anew.
pub fn stop() {
    set_position(0);
}

/// Records that could not be taken, because a handler interrupted the library and filled its buffer.
pub static LOST: AtomicU64 = AtomicU64::new(0);

/// A thread of the program.
pub struct Thread {
    /// Its number in the engine, where there is one.
    pub index: Option<ThreadIndex>,
    /// The buffer that it began with. Others, of handlers, come and go.
    buffer: Buffer,
    /// Buffers of handlers that interrupted this library, not taken yet.
    pub deferred: Vec<(Buffer, usize)>,
    /// Its [`position`], for others.
    position: *mut usize,
    pub stack: stack::Bounds,
    pub sites: SiteCache,
    /// How often its end was announced.
    pub ends: u32,
}

/// What stands in a buffer: records, and as many values.
pub struct Gathered<'a> {
    pub records: &'a [Record],
    pub values: &'a [u64],
}

/// Two OS pages: records and values.
#[derive(Clone, Copy)]
pub struct Buffer(NonNull<u8>);

impl Buffer {
    /// One for this thread. Safe in a signal handler.
    pub fn of(thread: *mut Thread) -> Option<Self> {
        let buffer = map::anonymous(2 * BYTES).ok()?;
        // SAFETY: the buffer begins with room for this pointer.
        unsafe { buffer.cast::<*mut Thread>().write(thread) };
        Some(Self(buffer))
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
    /// Nobody's position leads into it.
    pub unsafe fn release(self) {
        // SAFETY: mapped with this length by `of`; the rest is passed on to the caller.
        let released = unsafe { map::unmap(self.0, 2 * BYTES) };
        debug_assert!(released.is_ok());
    }
}

/// What stands in the buffer that is filled up to `end`.
///
/// # Safety
/// `end` is or was a position of a thread, and its buffer is there and not emptied meanwhile.
pub unsafe fn gathered<'a>(end: usize) -> Gathered<'a> {
    let first = (end - 1) / BYTES * BYTES + FIRST;
    let count = (end - first) / size_of::<Record>();
    let records = with_exposed_provenance_mut::<u64>(first);
    let values = with_exposed_provenance_mut::<u64>(first + BYTES);
    Gathered {
        // SAFETY: that many words of the buffer are filled, and its thread writes behind them only.
        records: unsafe { std::slice::from_raw_parts(records, count) },
        // SAFETY: as many values stand behind.
        values: unsafe { std::slice::from_raw_parts(values, count) },
    }
}

impl Thread {
    /// One without a buffer in use.
    pub fn new(index: Option<ThreadIndex>) -> Option<NonNull<Self>> {
        let thread = NonNull::from(Box::leak(Box::new(Self {
            index,
            buffer: Buffer(NonNull::dangling()),
            deferred: Vec::with_capacity(DEFERRED_MAX),
            position: position_word(),
            stack: stack::Bounds::of_this_thread(),
            sites: SiteCache::default(),
            ends: 0,
        })));
        let buffer = Buffer::of(thread.as_ptr())?;
        // SAFETY: made above, and nobody else knows of it.
        unsafe { (*thread.as_ptr()).buffer = buffer };
        Some(thread)
    }

    /// The calling thread's, if it has begun.
    pub fn current() -> Option<NonNull<Self>> {
        let at = position().checked_sub(1)? / BYTES * BYTES;
        // SAFETY: the position points behind the first word of a buffer, which is a pointer to its thread.
        NonNull::new(unsafe { *with_exposed_provenance_mut::<*mut Self>(at) })
    }

    /// Fills the buffer that it began with.
    pub fn begin(&self) {
        self.buffer.put_in_use();
    }

    /// What it has gathered since that was asked last.
    pub fn gathered(&self) -> Gathered<'_> {
        // SAFETY: the thread has not ended, so its word is there.
        let end = unsafe { self.position.read_volatile() };
        // SAFETY: it is its position.
        unsafe { gathered(end) }
    }

    /// Forgets what was gathered.
    pub fn empty(&self) {
        // SAFETY: the thread has not ended, so its word is there.
        let end = unsafe { self.position.read_volatile() };
        // SAFETY: as above.
        unsafe { self.position.write_volatile((end - 1) / BYTES * BYTES + FIRST) };
    }

    /// Gives its buffer back.
    ///
    /// # Safety
    /// The calling thread is this one, and its position is 0.
    pub unsafe fn release(self) {
        // SAFETY: passed on to the caller.
        unsafe { self.buffer.release() };
    }
}

/// Handlers' buffers that wait at once.
pub const DEFERRED_MAX: usize = 16;

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
    // SAFETY: and for its value.
    unsafe { word.byte_add(BYTES).write(value) };
    set_position(at + size_of::<Record>());
}

/// The program reads or writes `len` bytes from `address`.
pub fn range(address: u64, len: u64, store: bool) {
    if len > 0 {
        push(record::range(address, store), len);
    }
}

/// Makes room for at least one more record of the calling thread.
pub extern "C" fn drain() {
    let _errno = KeepErrno::new();
    if quiet() != 0 {
        drop_all();
        return;
    }
    let _quiet = Quiet::new();
    match Thread::current() {
        // SAFETY: a thread's own state, which nobody else changes while it is quiet.
        Some(mut thread) => engine::take(unsafe { thread.as_mut() }),
        None => engine::begin_thread(),
    }
}

/// A handler interrupted the library, which cannot be entered again now.
#[cold]
fn drop_all() {
    let at = position();
    if at != 0 {
        // Relaxed: a count, read when all is over.
        LOST.fetch_add(((BYTES - FIRST) / size_of::<Record>()) as u64, Ordering::Relaxed);
        set_position(at - BYTES + FIRST);
    } else if let Some(sink) = engine::sink() {
        set_position(sink);
    }
}
