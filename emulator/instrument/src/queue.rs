//! Full buffers on their way to the engine, which has a thread of its own.
//!
//! ```text
//!  program's threads            QUEUE                       who holds the engine
//!  full buffer ─── pass ──► │▒▒▒▒▒▒▒▒     │ ─── next ──► taken, in the order in which they came
//!  empty one  ◄── prepare ──│ spare  ◄────│ ◄── give_back
//! ```
//! The engine's thread is a helper only: whoever needs the engine locks it and takes what waits himself ([`engine`]). So nothing
//! depends on that thread being there: a child of fork has none until it passes a buffer of its own, and a process that may not
//! have one takes its buffers itself.

use tiermem_sys::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use tiermem_sys::sync::{Lock, futex_wait, futex_wake_all, spin_hint};
use tiermem_sys::{cpu, process, thread};

use crate::buffer::Buffer;
use crate::engine;
use crate::state::{Quiet, starting};

/// Buffers that wait at once: as many as the processor's second-level cache has room for, beside the rest.
const WAITING_MAX: usize = 16;

/// Buffers, and places for those that are about to come.
struct Queue {
    /// From `first` on, each at the remainder of its place.
    waiting: [Option<Buffer>; WAITING_MAX],
    first: usize,
    /// Promised to those who have prepared.
    reserved: usize,
    /// Empty ones.
    spare: [Option<Buffer>; WAITING_MAX],
    spares: usize,
}

static QUEUE: Lock<Queue> =
    Lock::new(Queue { waiting: [None; WAITING_MAX], first: 0, reserved: 0, spare: [None; WAITING_MAX], spares: 0 });

/// How many wait. Changed under the lock, and looked at without it.
static LEN: AtomicUsize = AtomicUsize::new(0);

/// 1 while the engine's thread sleeps because nothing waits.
static ASLEEP: AtomicU32 = AtomicU32::new(0);
/// 1 while somebody sleeps because too much does.
static CROWDED: AtomicU32 = AtomicU32::new(0);

/// Whether the engine has a thread of its own in this process.
static HELPER: AtomicU32 = AtomicU32::new(UNKNOWN);
const UNKNOWN: u32 = 0;
const STARTING: u32 = 1;
const THERE: u32 = 2;
const NONE: u32 = 3;

/// Set to `off` to have threads take their buffers themselves: figures are the same, and it is slower where another processor is
/// free.
const VARIABLE: &[u8] = b"TIERMEM_INSTRUMENT_THREAD";

/// Rounds of waiting before a thread sleeps: about as long as it takes to wake one.
const ROUNDS: u32 = 400;

/// Waits while `is_needed`, first awake and then asleep on `word`, which who ends it sets to 0.
fn wait_while(word: &AtomicU32, is_needed: impl Fn() -> bool) {
    for _ in 0..ROUNDS {
        if !is_needed() {
            return;
        }
        spin_hint();
    }
    while is_needed() {
        // SeqCst, here and in `wake`: who ends the need changes the queue and then looks at the word; this thread sets
        // the word and then looks at the queue. One of both sees the other's.
        word.store(1, Ordering::SeqCst);
        if is_needed() {
            futex_wait(word, 1);
        }
    }
}

fn wake(word: &AtomicU32) {
    if word.load(Ordering::SeqCst) != 0 && word.swap(0, Ordering::SeqCst) != 0 {
        futex_wake_all(word);
    }
}

/// An empty buffer for a thread that is about to [`pass`] its own, when there is room for that; `None` where the engine has no thread.
pub fn prepare() -> Option<Buffer> {
    // Relaxed: a state, which orders nothing.
    match HELPER.load(Ordering::Relaxed) {
        THERE => {}
        UNKNOWN if begin() => {}
        _ => return None,
    }
    loop {
        let mut queue = QUEUE.lock();
        if len() + queue.reserved < WAITING_MAX {
            queue.reserved += 1;
            let spare = queue.take_spare();
            drop(queue);
            return spare.or_else(Buffer::new).or_else(|| {
                QUEUE.lock().reserved -= 1;
                None
            });
        }
        drop(queue);
        // Where half of it is empty again, it is worth going on.
        wait_while(&CROWDED, || len() > WAITING_MAX / 2);
    }
}

/// The engine is to take this buffer; [`prepare`] came before.
pub fn pass(full: Buffer) {
    {
        let mut queue = QUEUE.lock();
        queue.reserved -= 1;
        let at = (queue.first + len()) % WAITING_MAX;
        queue.waiting[at] = Some(full);
        LEN.fetch_add(1, Ordering::SeqCst);
    }
    wake(&ASLEEP);
}

/// How many wait.
pub fn len() -> usize {
    LEN.load(Ordering::SeqCst)
}

/// The buffer that waits longest. Who calls this has locked the engine, so that they are taken in order.
pub fn next() -> Option<Buffer> {
    let next = QUEUE.lock().take_first()?;
    if len() <= WAITING_MAX / 2 {
        wake(&CROWDED);
    }
    Some(next)
}

/// A buffer that was taken.
pub fn give_back(taken: Buffer) {
    if !QUEUE.lock().keep(taken) {
        // SAFETY: it has been taken, and its thread fills another one. This thread works in this library.
        unsafe { taken.release() };
    }
}

impl Queue {
    fn take_first(&mut self) -> Option<Buffer> {
        let first = self.waiting[self.first].take()?;
        self.first = (self.first + 1) % WAITING_MAX;
        LEN.fetch_sub(1, Ordering::SeqCst);
        Some(first)
    }

    /// Whether there is room for one more empty one, which is kept then.
    fn keep(&mut self, empty: Buffer) -> bool {
        let Some(place) = self.spare.get_mut(self.spares) else { return false };
        *place = Some(empty);
        self.spares += 1;
        true
    }

    fn take_spare(&mut self) -> Option<Buffer> {
        self.spares = self.spares.checked_sub(1)?;
        self.spare[self.spares].take()
    }
}

/// Starts the engine's thread; whether it is there now.
#[cold]
fn begin() -> bool {
    if HELPER.compare_exchange(UNKNOWN, STARTING, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return false;
    }
    let is_wanted = process::early_variable(VARIABLE).is_none_or(|value| value != b"off")
        && cpu::allowed().is_ok_and(|cpus| cpus.len() > 1);
    let started = is_wanted && starting(|| thread::spawn_detached(c"tiermem-engine", work).is_ok());
    if is_wanted && !started {
        process::say(b"libtiermem_instrument: no thread for the engine: the program's own do its work\n");
    }
    HELPER.store(if started { THERE } else { NONE }, Ordering::Relaxed);
    started
}

/// What the engine's thread does, for ever.
extern "C" fn work() {
    // It is none of the program's threads.
    let _quiet = Quiet::new();
    loop {
        wait_while(&ASLEEP, || len() == 0);
        engine::take_next();
    }
}

/// Before a fork: no other thread is within it then. The engine is locked.
pub fn before_fork() {
    QUEUE.acquire();
}

/// # Safety
/// [`before_fork`] came before, in this thread.
pub unsafe fn after_fork() {
    // SAFETY: passed on to the caller.
    unsafe { QUEUE.release() };
}

/// In a child, whose only thread this is: what waits is the parent's to take.
///
/// # Safety
/// [`before_fork`] came before, in the thread that this one was copied from.
pub unsafe fn forked() {
    {
        let mut queue = QUEUE.lock();
        while let Some(theirs) = queue.take_first() {
            // What there is no room for is lost: 12 KiB of address space.
            queue.keep(theirs);
        }
        queue.reserved = 0;
    }
    // Relaxed: the only thread.
    ASLEEP.store(0, Ordering::Relaxed);
    CROWDED.store(0, Ordering::Relaxed);
    // A start that another thread had begun is not this process's.
    if HELPER.load(Ordering::Relaxed) != NONE {
        HELPER.store(UNKNOWN, Ordering::Relaxed);
    }
    // SAFETY: passed on to the caller.
    unsafe { QUEUE.release() };
}
