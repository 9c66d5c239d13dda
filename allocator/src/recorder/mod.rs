//! The recorder: every allocation, resize and free of the process, in a [trace](tiermem_trace).
//!
//! Chosen by the environment when the process makes its first heap. Like hardening, it costs nothing where it is off: a recorded
//! process has its fast paths closed, and the slow paths come here.
//!
//! - Each thread writes events into a buffer of its own (`lane`), which goes to the file as one checksummed block when it is full
//!   or a tenth of a second old (`output`).
//! - Times are those of one clock and all different (`now`): a block is entered after it was got and before it is given up, so
//!   that in the order of times no address is in use twice, whichever threads used it.
//! - A thread of the recorder's own (`watch`) writes what has become old, and looks now and then how much of each extent was
//!   accessed, if asked to (`accesses`), and after a fork what has moved (`moves`).
//! - A child of fork records into a file of its own, and so does every program that the first one starts.
//!
//! What was not written yet is written at exit, at `_exit`, at `abort` and a failed assertion, and before an exec. What a signal kills
//! keeps what was written.

pub mod accesses;
mod lane;
mod lines;
mod modules;
mod moves;
mod output;
mod sites;
mod watch;
mod words;
mod writer;

use tiermem_sys::clock;
use tiermem_sys::sync::atomic::{AtomicU64, Ordering};
use tiermem_sys::thread::{KeepErrno, Uncancelled};
use tiermem_trace::{Allocate, Event, Free, Place, Reallocate, SiteId, TierTag};

use crate::harden::is_recorded;
use crate::heap::{self, Heap, tls};
use crate::{arena, tiers};

pub(crate) use lane::Lane;
use lane::SPARE;
use output::OUTPUT;

pub use sites::FRAMES_VARIABLE;

/// The file to record into.
pub const TRACE_VARIABLE: &str = "TIERMEM_TRACE";
/// Set by the process that records into that very file, so that those that it starts take others.
const TAKEN_VARIABLE: &str = "TIERMEM_TRACE_TAKEN";

/// The time of the last event.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds of the monotonic clock, but later than every answer before.
fn now() -> u64 {
    let now = clock::monotonic_ns();
    let later = |last: u64| Some(now.max(last + 1));
    // Relaxed: the number alone counts. Whoever gets a block that another thread has freed is ordered after it by the block's
    // way from one to the other, and so finds that thread's time or a later one here.
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later).unwrap_or_default();
    now.max(last + 1)
}

fn enter(event: impl FnOnce(u64) -> Event) {
    let _errno = KeepErrno::new();
    match tls::attached() {
        Some(heap) => heap.lane.push(event),
        // A thread that ends, or that never had a heap.
        None => SPARE.push(event),
    }
}

fn tier_of(block: *mut u8) -> TierTag {
    arena::span_of(block.addr()).map_or(TierTag::UNKNOWN, |span| TierTag(span.tier()))
}

/// Enters a block that the code at `caller` has got; null is none. Gives it back.
#[inline]
pub fn allocated(block: *mut u8, size: usize, caller: usize) -> *mut u8 {
    if is_recorded() && !block.is_null() {
        let (site, tier) = (SiteId(sites::number(caller)), tier_of(block));
        enter(|at| Event::Allocate(Allocate { at, site, address: block.addr() as u64, size: size as u64, tier }));
        tell_of_moves(block, size);
        watch::start_if_wanted();
    }
    block
}

/// Enters that the block at `address` is about to be freed.
#[inline]
pub fn freed(address: usize) {
    if is_recorded() {
        enter(|at| Event::Free(Free { at, address: address as u64 }));
    }
}

/// Enters that what is in the block at `old` is now at `block`, before `old` is freed if that is another.
#[inline]
pub fn reallocated(old: usize, block: *mut u8, size: usize, caller: usize) {
    if is_recorded() {
        let (site, tier) = (SiteId(sites::number(caller)), tier_of(block));
        let (address, size) = (block.addr() as u64, size as u64);
        enter(|at| Event::Reallocate(Reallocate { at, site, old: old as u64, address, size, tier }));
        tell_of_moves(block, size as usize);
    }
}

/// Enters which parts of a new block lie elsewhere than on its tier.
fn tell_of_moves(block: *mut u8, size: usize) {
    moves::tell_of(block, size, |address, len, tier| {
        enter(|at| Event::Place(Place { at, address: address as u64, len: len as u64, tier }));
    });
}

/// A fork has made memory copy-on-write: what is written from now on moves to DRAM.
pub fn made_copy_on_write() {
    if is_recorded() {
        moves::begin();
    }
}

/// The last thread with a heap has given it back.
pub fn nobody_has_a_heap() {
    watch::end();
}

/// Whether this process is recorded.
pub fn is_on() -> bool {
    is_recorded()
}

/// Makes the file, if one is asked for. At start-up: sets the environment.
pub fn begin() {
    if !is_recorded() {
        return;
    }
    let _errno = KeepErrno::new();
    let takes = output::may_take();
    let is_open = OUTPUT.lock().open();
    if takes {
        // SAFETY: start-up runs before `main`, or as the first thing in it: no other thread reads the environment.
        unsafe { std::env::set_var(TAKEN_VARIABLE, "1") };
    }
    if is_open {
        if accesses::source().is_some() {
            accesses::look();
        }
        watch::want();
        watch::start_if_wanted();
    }
}

/// Writes what the heap's thread, which ends, has entered.
pub fn thread_ends(heap: &Heap) {
    if is_recorded() {
        heap.lane.end();
    }
}

/// Writes what has been entered so far, and the end of the file. What comes later takes the end's place, so that a process whose
/// exec fails goes on recording. Never waits long: it may run in a signal handler that has interrupted the recorder itself.
///
/// The C library's functions that end a process or its program without exit handlers call this (`libtiermem.so` has them).
pub fn conclude() {
    if !is_recorded() || !output::is_own() {
        return;
    }
    let _errno = KeepErrno::new();
    let _uncancelled = Uncancelled::new();
    watch::conclude();
    heap::for_each(|heap| heap.lane.try_flush());
    SPARE.try_flush();
    output::conclude();
}

/// Keeps the recorder's own thread still across a fork. Before all other locks.
pub fn hold_thread_for_fork() {
    watch::lock_for_fork();
}

/// Lets it go on, in the parent; in a child there is none.
///
/// # Safety
/// [`hold_thread_for_fork`] came before, in this thread or in the one it was copied from.
pub unsafe fn let_thread_go_on() {
    // SAFETY: passed on to the caller.
    unsafe { watch::unlock_after_fork() };
}

/// Takes the file's lock, to hold it across a fork.
pub fn lock_for_fork() {
    OUTPUT.acquire();
}

/// Lets it go, in the parent or the child.
///
/// # Safety
/// [`lock_for_fork`] came before, in this thread or in the one it was copied from.
pub unsafe fn unlock_after_fork() {
    // SAFETY: passed on to the caller.
    unsafe { OUTPUT.release() };
}

/// In a child of fork: forgets what is the parent's to write, and takes another file when there is something to write.
pub fn restart_in_child() {
    if !is_recorded() {
        return;
    }
    heap::for_each(|heap| heap.lane.restart_in_child());
    SPARE.restart_in_child();
    watch::restart_in_child();
    sites::restart_in_child();
    OUTPUT.lock().restart_in_child();
}

/// The tiers of this process, for the file.
fn tier_name(tier: usize) -> Option<tiermem_tiers::TierName> {
    tiers::all().get(tier).map(|slot| slot.identity().0)
}
