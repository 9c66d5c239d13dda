//! The thread of a recorded process: it writes what the others have entered and do not write by themselves, because they
//! enter nothing more, and it looks at memory, for accesses and for moves.
//!
//! So a process that is killed, by whatever signal, loses what was entered in its last moments, and no more ([`AGE_MAX_NS`]).
//!
//! What a look costs, this thread and the program, grows with the memory. So that it does not grow with it for ever, the two pay
//! at most a twentieth of a CPU, and there are fewer looks instead.

use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tiermem_sys::{clock, thread};

use super::{Lane, SPARE, accesses, moves};
use crate::heap;

/// The thread sleeps this many times as long as the CPU time that its last look costs.
const REST: u64 = 19;
/// It looks whether it is to end, and writes what has become old, this often, milliseconds.
const NAP_MS: u64 = 50;
/// What was entered so long ago is written.
const AGE_MAX_NS: u64 = 100_000_000;
/// Once the end of the file is written, the thread writes nothing for so long: the process is ending, and the end would be
/// overwritten. One whose exec fails goes on.
const QUIET_NS: u64 = 1_000_000_000;
/// How long the end of a process waits for the thread, milliseconds.
const PATIENCE_MS: u32 = 100;
/// A child of fork is looked at when it has lived this long, so that short ones cost nothing.
const CHILD_AGE_NS: u64 = 100_000_000;

/// Where what is seen is entered.
pub static LANE: Lane = Lane::new();

/// There is no thread, and none is wanted.
const OFF: u32 = 0;
/// A thread is to be started by whoever comes by, once it is time.
const WANTED: u32 = 1;
const RUNNING: u32 = 2;
/// It is to end: no other thread has a heap.
const ENDING: u32 = 3;
static STATE: AtomicU32 = AtomicU32::new(OFF);
static NOT_BEFORE_NS: AtomicU64 = AtomicU64::new(0);

/// Held by the thread while it writes. What it guards is until when it writes nothing.
static WRITING: Lock<u64> = Lock::new(0);

/// Has the thread started at the next occasion, unless there is one.
pub fn want() {
    // Relaxed: no data hangs on it.
    let _ = STATE.compare_exchange(OFF, WANTED, Ordering::Relaxed, Ordering::Relaxed);
}

/// Starts the thread if it is time. Called where the allocator holds no lock and is in no list.
#[inline]
pub fn start_if_wanted() {
    // Relaxed: who misses it here comes by again.
    if STATE.load(Ordering::Relaxed) == WANTED {
        start();
    }
}

#[cold]
fn start() {
    if clock::monotonic_ns() < NOT_BEFORE_NS.load(Ordering::Relaxed) {
        return;
    }
    // AcqRel: the winner's thread sees everything that came before.
    if STATE.compare_exchange(WANTED, RUNNING, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        && thread::spawn_detached(c"tiermem-look", run).is_err()
    {
        STATE.store(OFF, Ordering::Relaxed);
    }
}

extern "C" fn run() {
    let mut rest_ms = u64::from(accesses::every_ms());
    loop {
        while rest_ms > 0 {
            let nap = rest_ms.min(NAP_MS);
            thread::sleep_ms(nap as u32);
            rest_ms -= nap;
            write_old();
            // Who comes back to allocating has another one started.
            if STATE.compare_exchange(ENDING, WANTED, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return;
            }
        }
        let begun = clock::thread_cpu_ns();
        moves::look();
        let cost_ns = accesses::look() + clock::thread_cpu_ns() - begun;
        rest_ms = (cost_ns * REST / 1_000_000).max(accesses::every_ms().into());
    }
}

/// Writes what has waited long enough.
fn write_old() {
    let quiet_until = WRITING.lock();
    let now = clock::monotonic_ns();
    if now >= *quiet_until {
        let before = now.saturating_sub(AGE_MAX_NS);
        heap::for_each(|heap| heap.lane.flush_older(before));
        [&SPARE, &LANE].into_iter().for_each(|lane| lane.flush_older(before));
    }
}

/// Called when the last thread with a heap has given it back: this one ends, too, else it would keep the process alive.
pub fn end() {
    // AcqRel: as for every change of the state.
    let _ = STATE.compare_exchange(RUNNING, ENDING, Ordering::AcqRel, Ordering::Relaxed);
}

/// Keeps the thread from writing behind the end of the file, looks a last time if the process was being looked at, and writes
/// what was seen.
pub fn conclude() {
    for _ in 0..PATIENCE_MS {
        if let Some(mut quiet_until) = WRITING.try_lock() {
            *quiet_until = clock::monotonic_ns() + QUIET_NS;
            break;
        }
        thread::sleep_ms(1);
    }
    // Relaxed: whoever ends the process has started the thread, or is ordered after who did.
    if STATE.load(Ordering::Relaxed) >= RUNNING {
        moves::look();
        accesses::look();
    }
    LANE.try_flush();
}

/// Takes the lock of the thread's writing, to hold it across a fork: before all others, as the thread does.
pub fn lock_for_fork() {
    WRITING.acquire();
}

/// Lets it go, in the parent or the child.
///
/// # Safety
/// [`lock_for_fork`] came before, in this thread or in the one it was copied from.
pub unsafe fn unlock_after_fork() {
    // SAFETY: passed on to the caller.
    unsafe { WRITING.release() };
}

/// In a child of fork: the thread was not copied, and what the parent had entered is the parent's to write.
pub fn restart_in_child() {
    LANE.restart_in_child();
    moves::restart_in_child();
    accesses::restart_in_child();
    NOT_BEFORE_NS.store(clock::monotonic_ns() + CHILD_AGE_NS, Ordering::Relaxed);
    STATE.store(WANTED, Ordering::Relaxed);
}
