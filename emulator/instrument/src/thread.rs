//! A thread of the program, as this library knows it: what it gathers, has passed on, and waits for.

use std::cell::Cell;
use std::ptr::NonNull;

use tiermem_emulator::instrumented::filter::{Company, Passed, ThreadState};
use tiermem_emulator::instrumented::{Batch, ThreadIndex};
use tiermem_sys::sync::atomic::{AtomicUsize, Ordering};
use tiermem_sys::sync::spin_hint;

use crate::buffer::Buffer;
use crate::deferred::Deferred;
use crate::queue::Queue;
use crate::stack::SiteCache;
use crate::state::{position, state};
use crate::{helper, stack};

/// It waits for what another thread does.
pub const FOR_OTHERS: usize = 1;
/// The system does not run it. Until it comes back.
pub const GIVEN_UP: usize = 2;

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
    /// What it has passed to the engine.
    pub queue: Queue,
    /// What its handlers left behind.
    pub deferred: Deferred,
    /// Why it waits: [`FOR_OTHERS`], [`GIVEN_UP`]; 0 if it does not, as far as is known.
    waits: AtomicUsize,
    /// Its number in the system.
    pub task: u32,
    /// Its state, for others.
    state: *const ThreadState,
    pub stack: stack::Bounds,
    pub sites: SiteCache,
    /// How often its end was announced.
    pub ends: u32,
}

impl Thread {
    /// One without a buffer in use.
    pub fn new(index: Option<ThreadIndex>) -> Option<NonNull<Self>> {
        let buffer = Buffer::new()?;
        let thread = NonNull::from(Box::leak(Box::new(Self {
            index,
            buffer: Cell::new(buffer),
            moves: AtomicUsize::new(0),
            company: Cell::new(Company::default()),
            queue: Queue::default(),
            deferred: Deferred::default(),
            waits: AtomicUsize::new(0),
            task: tiermem_sys::thread::id(),
            state: state(),
            stack: stack::Bounds::of_this_thread(),
            sites: SiteCache::default(),
            ends: 0,
        })));
        // SAFETY: new.
        unsafe { buffer.give_to(thread.as_ptr(), Passed::default()) };
        Some(thread)
    }

    /// The calling thread's, if it has begun.
    pub fn current() -> Option<NonNull<Self>> {
        // SAFETY: a buffer that is in use is a thread's, or nobody's.
        unsafe { Buffer::at(position())?.thread() }
    }

    /// Begins to fill its buffer.
    pub fn begin(&self) {
        self.buffer.get().put_in_use();
    }

    /// Whether others need not wait for it to come up with them.
    pub fn waits(&self) -> bool {
        // Relaxed, all: it is a hint, and who is not known to wait is waited for a little.
        self.waits.load(Ordering::Relaxed) != 0
    }

    /// From now on it waits, or waits no more, as `why` says.
    pub fn set_waits(&self, why: usize, waits: bool) {
        if waits {
            self.waits.fetch_or(why, Ordering::Relaxed);
        } else {
            self.waits.fetch_and(!why, Ordering::Relaxed);
        }
        helper::news();
    }

    /// Whether its buffer can be passed on: handlers have others, and what they left behind comes after it.
    pub fn can_pass(&self) -> bool {
        Buffer::at(position()) == Some(self.buffer.get()) && self.deferred.is_empty()
    }

    /// Fills `empty` from now on, and gives back the buffer that it filled until now. The thread is the calling one, and
    /// [can](Self::can_pass).
    pub fn go_on_in(&self, empty: Buffer, company: Company) -> Buffer {
        let full = self.buffer.replace(empty);
        let state = state();
        // SAFETY: the thread's own, and not passed on yet.
        unsafe { full.fill(position(), state.passed()) };
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
        let Some(buffer) = Buffer::at(end) else { return };
        // SAFETY: it is its position.
        take(&unsafe { buffer.gathered(end, passed) });
        // SAFETY: the thread's, and the engine is locked.
        unsafe { buffer.taken(end, passed) };
    }

    /// Begins its buffer anew when all was taken, and its counts by `restart`. The thread is the calling one.
    pub fn restart(&self, company: Company, restart: impl FnOnce(&ThreadState)) {
        self.company.set(company);
        let Some(buffer) = Buffer::at(position()) else { return };
        let state = state();
        restart(state);
        // SAFETY: the thread's, and the engine is locked.
        unsafe { buffer.taken(buffer.first(), state.passed()) };
        buffer.put_in_use();
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
