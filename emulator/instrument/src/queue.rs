//! Full buffers on their way to the engine, which has a thread of its own.
//!
//! ```text
//!  a thread of the program      its Queue                   who holds the engine
//!  full buffer ─── pass ──► │▒▒▒▒▒▒▒▒     │ ── take_part ──► taken, in the order in which they came
//!  empty one  ◄── prepare ─── SPARE ◄───────────────────────
//! ```
//! The engine's thread is a helper only: whoever needs to know what became of a thread locks the engine and takes what waits of that
//! thread ([`engine`]). So nothing depends on that thread being there: a child of fork has none until it passes a buffer
//! of its own, and a process that may not have one takes its buffers itself.

use std::cell::Cell;

use tiermem_emulator::instrumented::filter::Company;
use tiermem_emulator::instrumented::{Batch, Part, ThreadIndex};
use tiermem_sys::cpu;
use tiermem_sys::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use tiermem_sys::sync::{Lock, futex_wait, futex_wake_all, spin_hint};

use crate::buffer::Buffer;
use crate::helper;

/// Buffers of a thread that wait at once. The more there are, the seldomer threads sleep, and
const MOST: usize = 32;
/// among others, the fewer there are, the less far it is ahead in what it does out of turn.
const MOST_AMONG_OTHERS: usize = 8;

/// Buffers of one thread that wait. The thread itself adds to them; who has locked the engine takes them.
pub struct Queue {
    /// From `first` on, each at the remainder of its place.
    waiting: Lock<[Option<Buffer>; MOST]>,
    first: Cell<usize>,
    /// How many. Changed by both sides, and looked at without a lock.
    len: AtomicUsize,
    /// How much of the first one was taken.
    part: Cell<Part>,
    /// 1 while the thread sleeps because it has too many,
    crowded: AtomicU32,
    /// until there are so few.
    enough: AtomicUsize,
    /// The CPU that the thread was on when it passed the last one.
    cpu: AtomicU32,
}

/// Empty buffers, of nobody.
static SPARE: Lock<Spare> = Lock::new(Spare { buffers: [None; SPARE_MAX], len: 0 });
const SPARE_MAX: usize = 32;

struct Spare {
    buffers: [Option<Buffer>; SPARE_MAX],
    len: usize,
}

/// Rounds of waiting before a thread sleeps: about as long as it takes to wake one.
const ROUNDS: u32 = 400;

/// Waits while `is_needed`, first awake and then asleep on `word`, which who ends it sets to 0.
pub fn wait_while(word: &AtomicU32, is_needed: impl Fn() -> bool) {
    for _ in 0..ROUNDS {
        if !is_needed() {
            return;
        }
        spin_hint();
    }
    while is_needed() {
        // SeqCst, here and in `wake`: who ends the need changes a count and then looks at the word; this thread sets
        // the word and then looks at the count. One of both sees the other's.
        word.store(1, Ordering::SeqCst);
        if is_needed() {
            futex_wait(word, 1);
        }
    }
}

/// Wakes who sleeps in [`wait_while`].
pub fn wake(word: &AtomicU32) {
    if word.load(Ordering::SeqCst) != 0 && word.swap(0, Ordering::SeqCst) != 0 {
        futex_wake_all(word);
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            waiting: Lock::new([None; MOST]),
            first: Cell::new(0),
            len: AtomicUsize::new(0),
            part: Cell::new(Part::default()),
            crowded: AtomicU32::new(0),
            enough: AtomicUsize::new(MOST),
            cpu: AtomicU32::new(0),
        }
    }
}

impl Queue {
    /// Whether anything waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The CPU that the thread was on lately.
    pub fn cpu(&self) -> u32 {
        // Relaxed: as in `prepare`.
        self.cpu.load(Ordering::Relaxed)
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::SeqCst)
    }

    /// An empty buffer for a thread that is about to [`pass`](Self::pass) its own, when there is room for that; `None` where the
    /// engine has no thread. The thread is the calling one.
    pub fn prepare(&self, company: Company) -> Option<Buffer> {
        if !helper::is_there() {
            return None;
        }
        let most = if company.is_alone() { MOST } else { MOST_AMONG_OTHERS };
        if self.len() >= most {
            // Where half of them are gone, it is worth going on.
            self.enough.store(most / 2, Ordering::SeqCst);
            wait_while(&self.crowded, || self.len() > most / 2);
        }
        // Relaxed: a hint.
        self.cpu.store(cpu::current(), Ordering::Relaxed);
        let spare = SPARE.lock().take();
        spare.or_else(Buffer::new)
    }

    /// The engine is to take this buffer of the calling thread's, which has [prepared](Self::prepare).
    pub fn pass(&self, full: Buffer) {
        {
            let mut waiting = self.waiting.lock();
            let at = (self.first.get() + self.len()) % MOST;
            waiting[at] = Some(full);
            self.len.fetch_add(1, Ordering::SeqCst);
        }
        helper::call();
    }

    /// Gives the buffer that waits longest to `take`, which says whether it took all of it. Whether there was one. The engine
    /// is locked.
    pub fn take_part(&self, take: impl FnOnce(Option<ThreadIndex>, &Batch<'_>, &mut Part) -> bool) -> bool {
        let Some(first) = self.waiting.lock()[self.first.get()] else { return false };
        let (mut part, mut is_rest) = (self.part.take(), false);
        // SAFETY: it was passed, and waits as long as it stands here.
        unsafe { first.take(|index, batch| is_rest = take(index, batch, &mut part)) };
        if !is_rest {
            self.part.set(part);
            return true;
        }
        {
            let mut waiting = self.waiting.lock();
            waiting[self.first.get()] = None;
            self.first.set((self.first.get() + 1) % MOST);
            self.len.fetch_sub(1, Ordering::SeqCst);
        }
        helper::taken();
        give_back(first);
        if self.len() <= self.enough.load(Ordering::SeqCst) {
            wake(&self.crowded);
        }
        true
    }
}

/// A buffer that was taken.
fn give_back(taken: Buffer) {
    if !SPARE.lock().keep(taken) {
        // SAFETY: it has been taken, and its thread fills another one. This thread works in this library.
        unsafe { taken.release() };
    }
}

impl Spare {
    fn take(&mut self) -> Option<Buffer> {
        self.len = self.len.checked_sub(1)?;
        self.buffers[self.len].take()
    }

    /// Whether there is room for one more, which is kept then.
    fn keep(&mut self, empty: Buffer) -> bool {
        let Some(place) = self.buffers.get_mut(self.len) else { return false };
        *place = Some(empty);
        self.len += 1;
        true
    }
}

/// Before a fork: no other thread is within [`SPARE`] then.
pub fn before_fork() {
    SPARE.acquire();
}

/// # Safety
/// [`before_fork`] came before, in this thread or in the one that it was copied from.
pub unsafe fn after_fork() {
    // SAFETY: passed on to the caller.
    unsafe { SPARE.release() };
}
