//! What threads have passed, and whose turn it is.

use tiermem_emulator::instrumented::ThreadIndex;
use tiermem_emulator::instrumented::turns::{self, Runner, Turn};
use tiermem_sys::sync::atomic::Ordering;

use crate::engine::{ENGINE, Running, WANTED, lock};
use crate::thread::{GIVEN_UP, Thread};

/// What the engine's own thread is to do next.
pub enum Next {
    /// What comes; if something of a thread was taken, the CPU that this was on.
    GoOn(Option<u32>),
    /// There is something, but this thread is behind; and its number in the system.
    WaitFor(ThreadIndex, u32),
}

/// What the engine's own thread does when something waits. In haste nobody is waited for.
pub fn take_turn(in_haste: bool) -> Next {
    while WANTED.load(Ordering::Relaxed) > 0 {
        std::thread::yield_now();
    }
    let mut running = ENGINE.lock();
    let Some(running) = running.as_mut() else { return Next::GoOn(None) };
    let runners = running.runners().map(|runner| Runner { waits: runner.waits || in_haste, ..runner });
    match turns::turn(runners) {
        Turn::Take(index, until_ps) => {
            let thread = running.thread(index);
            if let Some(thread) = thread {
                running.take_part(thread, until_ps);
                running.note_skew();
            }
            Next::GoOn(thread.map(|thread| thread.queue.cpu()))
        }
        Turn::WaitFor(index) => {
            running.thread(index).map_or(Next::GoOn(None), |thread| Next::WaitFor(index, thread.task))
        }
        Turn::Nothing => Next::GoOn(None),
    }
}

/// Nobody waits for a thread any more that has nothing to be taken.
pub fn give_up(index: ThreadIndex) {
    if let Some(thread) = lock().as_ref().and_then(|running| running.thread(index)) {
        thread.set_waits(GIVEN_UP, true);
    }
}

impl Running {
    /// Threads of the program that have not ended.
    fn alive(&self) -> impl Iterator<Item = &'static Thread> {
        // SAFETY: threads end, and leave the list, while the engine is locked; so these are there as long as it is.
        self.threads.iter().map(|thread| unsafe { thread.as_ref() })
    }

    fn thread(&self, index: ThreadIndex) -> Option<&'static Thread> {
        self.alive().find(|thread| thread.index == Some(index))
    }

    fn runners(&self) -> impl Iterator<Item = Runner> {
        self.alive().filter_map(|thread| {
            let index = thread.index?;
            let (has_work, waits) = (!thread.queue.is_empty(), thread.waits());
            Some(Runner { index, now_ps: self.engine.now_ps(index), has_work, waits })
        })
    }

    pub fn note_skew(&mut self) {
        if self.threads.len() > 1 {
            let skew = turns::skew_ps(self.runners());
            self.engine.note_skew(skew);
        }
    }

    /// Takes a part of what waits longest of a thread. Whether there was anything.
    pub fn take_part(&mut self, thread: &Thread, until_ps: u64) -> bool {
        thread.queue.take_part(|index, batch, part| match index {
            Some(index) => self.part(index, batch, part, until_ps),
            None => true,
        })
    }

    /// Takes all that all threads have passed, in turn.
    pub fn take_all_passed(&mut self) {
        let there = |runner| Runner { waits: true, ..runner };
        while let Turn::Take(index, until_ps) = turns::turn(self.runners().map(there)) {
            let Some(thread) = self.thread(index) else { return };
            self.take_part(thread, until_ps);
        }
    }
}
