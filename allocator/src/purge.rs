//! The purger: gives memory back that stayed free for a while, and publishes the last figures, also when the program
//! idles.
//!
//! A thread, because only a thread can act while the program sleeps; started when there is first something worth
//! giving back, so that a small program never has it. It sleeps for good (on a futex) while nothing is dirty.

use tiermem_sys::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tiermem_sys::sync::{Lock, futex_wait, futex_wake_all};
use tiermem_sys::thread;

use crate::control::{self, EventKind};
use crate::pool::huge;
use crate::{clock, handshake, harden, heap, tiers};

/// The thread is not worth starting for less.
const WORTHWHILE_BYTES: u64 = 1 << 20;

/// Nor is it to publish the last figures of a process that holds less: what happened since the last publication is little.
const WORTH_ATTENTION_BYTES: u64 = 8 << 20;

/// How long memory stays free before it is given back, milliseconds.
static DECAY_MS: AtomicU32 = AtomicU32::new(500);

/// Default of [`set_decay`], milliseconds.
pub const DECAY_MS_DEFAULT: u32 = 500;

const NOT_STARTED: u32 = 0;
const STARTING: u32 = 1;
/// It looks at the pools from time to time.
const AWAKE: u32 = 2;
/// It waits until somebody frees something.
const SLEEPING: u32 = 3;
/// It could not be started, or must not be: memory is given back by [`purge_now`] only.
const OFF: u32 = 4;
/// It is to end: no other thread has a heap.
const ENDING: u32 = 5;

static STATE: AtomicU32 = AtomicU32::new(NOT_STARTED);

/// Held while memory is given back, so that only one thread does it at a time: what one has seen idle, nobody else gives
/// back meanwhile.
static GIVING_BACK: Lock<()> = Lock::new(());

/// Sets how long memory stays free before it is given back.
pub fn set_decay(ms: u32) {
    DECAY_MS.store(ms, Ordering::Relaxed);
}

/// Called when units were given back to a pool: wakes the thread if it sleeps. Starting it is left to
/// [`start_if_wanted`], because the C library allocates for it.
#[inline]
pub fn note_freed() {
    // Relaxed: a wake-up that is missed here comes with the next free.
    if STATE.load(Ordering::Relaxed) == SLEEPING {
        wake();
    }
}

/// Set when something was sent to another heap's inbox: its thread may be away.
static MAIL: AtomicBool = AtomicBool::new(false);

/// Called when blocks were sent to another thread's heap: has the purger see whether that thread comes for them.
#[inline]
pub fn note_mail() {
    handshake::note(&MAIL);
    // Relaxed: a wake-up that is missed here comes with the next blocks.
    match STATE.load(Ordering::Relaxed) {
        SLEEPING => wake_up(),
        NOT_STARTED => start(),
        _ => {}
    }
}

#[cold]
fn wake() {
    if returnable_bytes() < WORTHWHILE_BYTES && idle_extents() == 0 {
        return;
    }
    wake_up();
}

#[cold]
fn wake_up() {
    if handshake::wake(&STATE, SLEEPING, AWAKE) {
        futex_wake_all(&STATE);
    }
}

/// Starts the thread if there is something for it, or wakes it to publish. Called where the allocator holds no lock and is
/// in no list.
#[inline]
pub fn start_if_wanted() {
    // What there is to do was noted before: see `control::publish_if_due`.
    match handshake::look(&STATE) {
        NOT_STARTED => start(),
        SLEEPING if control::is_owed() => wake_up(),
        _ => {}
    }
}

#[cold]
fn start() {
    let is_owed = control::is_owed() || handshake::is_noted(&MAIL);
    if returnable_bytes() < WORTHWHILE_BYTES && !(is_owed && committed_bytes() >= WORTH_ATTENTION_BYTES) {
        return;
    }
    // AcqRel: the winner's thread sees everything that came before.
    if STATE.compare_exchange(NOT_STARTED, STARTING, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return;
    }
    let state = match thread::spawn_detached(c"tiermem-purge", run) {
        Ok(()) => AWAKE,
        Err(_) => OFF,
    };
    // Only from STARTING: the new thread may have gone to sleep already.
    let _ = STATE.compare_exchange(STARTING, state, Ordering::AcqRel, Ordering::Relaxed);
}

/// Called when the last thread with a heap has given it back: the purger ends, too. Else it would keep a process alive whose
/// `main` has left with `pthread_exit` and whose other threads are done. Whoever comes back to allocating starts it anew.
pub fn end() {
    let running = |state| matches!(state, AWAKE | SLEEPING).then_some(ENDING);
    // AcqRel: as for every change of the state.
    if STATE.fetch_update(Ordering::AcqRel, Ordering::Relaxed, running) == Ok(SLEEPING) {
        futex_wake_all(&STATE);
    }
}

/// Whether the thread is to end; it is not the purger from then on.
fn has_ended() -> bool {
    STATE.compare_exchange(ENDING, NOT_STARTED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

extern "C" fn run() {
    while !has_ended() {
        let decay = DECAY_MS.load(Ordering::Relaxed);
        thread::sleep_ms((decay / 2).clamp(10, 1000));
        if has_ended() {
            return;
        }
        let now = clock::now_ms();
        purge_before(now.saturating_sub(decay), now.saturating_sub(decay.saturating_mul(huge::PATIENCE)));
        control::publish_if_due(now);
        if returnable_bytes() == 0 && idle_extents() == 0 && !control::is_owed() && !handshake::is_noted(&MAIL) {
            sleep_until_woken();
        }
    }
}

fn sleep_until_woken() {
    // Who frees after our look below takes the pool's lock after us, and so sees SLEEPING and wakes us.
    let has_work = || returnable_bytes() >= WORTHWHILE_BYTES || control::is_owed() || handshake::is_noted(&MAIL);
    if !handshake::fall_asleep(&STATE, &[AWAKE, STARTING], SLEEPING, has_work) {
        return;
    }
    while STATE.load(Ordering::Acquire) == SLEEPING {
        futex_wait(&STATE, SLEEPING);
    }
}

/// Gives everything that is free back now. Returns the number of bytes.
pub fn purge_now() -> u64 {
    if let Some(heap) = heap::attach() {
        let _busy = heap.busy();
        harden::drain(heap);
        heap.outbox().send_all();
        heap.collect();
        heap.trim();
    }
    if crate::fork::is_under_way() {
        return 0;
    }
    purge_before(u32::MAX, u32::MAX)
}

/// Gives back what has been free since before `before`, and parts of huge OS pages that have been since before `patient`.
/// Returns the number of bytes.
fn purge_before(before: u32, patient: u32) -> u64 {
    let _alone = GIVING_BACK.lock();
    heap::collect_idle();
    // Before the look: what is sent meanwhile is noted anew.
    if MAIL.swap(false, Ordering::AcqRel) && !heap::return_mail(before) {
        handshake::note(&MAIL);
    }
    let mut returned = 0;
    for (tier, slot) in tiers::all().iter().enumerate() {
        let bytes = slot.pool.purge(before, patient);
        if bytes > 0 {
            control::event(EventKind::Returned, Some(tier as u8), bytes);
        }
        returned += bytes;
    }
    returned
}

fn returnable_bytes() -> u64 {
    tiers::all().iter().map(|slot| slot.pool.returnable_bytes()).sum()
}

fn committed_bytes() -> u64 {
    tiers::all().iter().map(|slot| slot.pool.counters.committed.load(Ordering::Relaxed)).sum()
}

fn idle_extents() -> usize {
    tiers::all().iter().map(|slot| slot.pool.idle_extents()).sum()
}

/// Takes the purger's lock, to hold it across a fork.
pub fn lock_for_fork() {
    GIVING_BACK.acquire();
}

/// Lets it go, in the parent or the child.
///
/// # Safety
/// [`lock_for_fork`] came before, in this thread or in the one it was copied from.
pub unsafe fn unlock_after_fork() {
    // SAFETY: passed on to the caller.
    unsafe { GIVING_BACK.release() };
}

/// In a child of fork: the thread was not copied.
pub fn restart_in_child() {
    let _ = STATE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |s| (s != OFF).then_some(NOT_STARTED));
}
