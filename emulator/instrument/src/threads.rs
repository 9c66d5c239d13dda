//! Threads: their beginning and end, and what they wait for.
//!
//! A thread that waits for another one goes on, in virtual time, when that one came by: at its end, where it woke the
//! waiter, or where it let go of the lock. That holds for what really waited. A lock that was free when it was asked
//! for costs nothing, even if it would have been taken in virtual time.

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};

use tiermem_emulator::instrumented::ThreadIndex;
use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicU32, Ordering};
use tiermem_sys::thread::ExitHook;

use crate::engine;
use crate::real::Real;
use crate::state::{Quiet, is_captive, is_quiet, is_starting};
use crate::thread::Thread;

thread_local! {
    static PARENT: Cell<Option<ThreadIndex>> = const { Cell::new(None) };
}

/// The thread that made the calling one, if it is known.
pub fn parent() -> Option<ThreadIndex> {
    PARENT.get()
}

/// Tells when a thread ends, after its destructors.
static END: ExitHook = ExitHook::new(thread_ends);

/// Rounds of destructors that a thread goes through before its end counts: the C library makes four
/// (`PTHREAD_DESTRUCTOR_ITERATIONS`), and those of the program come in any of them.
const ROUNDS: u32 = 3;

pub fn arm_end() {
    END.arm();
}

extern "C" fn thread_ends() {
    let _quiet = Quiet::new();
    let Some(thread) = Thread::current() else { return };
    // SAFETY: the calling thread's own.
    let ends = unsafe { &mut (*thread.as_ptr()).ends };
    *ends += 1;
    if *ends < ROUNDS {
        END.arm();
    } else {
        engine::end_thread(thread);
    }
}

type Start = extern "C-unwind" fn(*mut c_void) -> *mut c_void;
type Pthread = usize;

/// What a new thread is told.
struct Birth {
    start: Start,
    argument: *mut c_void,
    parent: Option<ThreadIndex>,
}

/// Threads that were made and not joined yet, by the C library's name.
static KNOWN: Lock<Vec<(Pthread, ThreadIndex)>> = Lock::new(Vec::new());

extern "C-unwind" fn run(birth: *mut c_void) -> *mut c_void {
    let quiet = Quiet::new();
    // SAFETY: made by `pthread_create` below, for this thread alone.
    let birth = unsafe { Box::from_raw(birth.cast::<Birth>()) };
    let Birth { start, argument, parent } = *birth;
    PARENT.set(parent);
    engine::begin_thread();
    // SAFETY: the calling thread's own.
    if let Some(index) = Thread::current().and_then(|thread| unsafe { thread.as_ref() }.index) {
        KNOWN.lock().push((tiermem_sys::thread::current(), index));
    }
    drop(quiet);
    start(argument)
}

type Create = unsafe extern "C" fn(*mut Pthread, *const c_void, Start, *mut c_void) -> c_int;
static CREATE: Real<Create> = Real::new(c"pthread_create");

/// # Safety
/// As pthread_create(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create(
    name: *mut Pthread,
    attributes: *const c_void,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    if is_starting() {
        // SAFETY: passed on to the caller.
        return unsafe { CREATE.get()(name, attributes, start, argument) };
    }
    let parent = engine::with(|_, index| index);
    let birth = {
        let _quiet = Quiet::new();
        Box::into_raw(Box::new(Birth { start, argument, parent }))
    };
    // SAFETY: passed on to the caller, with another body.
    let made = unsafe { CREATE.get()(name, attributes, run, birth.cast()) };
    if made != 0 {
        let _quiet = Quiet::new();
        // SAFETY: made above, and no thread took it.
        drop(unsafe { Box::from_raw(birth) });
    }
    made
}

static JOIN: Real<unsafe extern "C" fn(Pthread, *mut *mut c_void) -> c_int> = Real::new(c"pthread_join");

/// # Safety
/// As pthread_join(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_join(name: Pthread, result: *mut *mut c_void) -> c_int {
    // SAFETY: passed on to the caller.
    let join = || unsafe { JOIN.get()(name, result) };
    if is_quiet() || is_captive() {
        return join();
    }
    waiting_for_others(|| {
        let joined = join();
        if joined == 0 {
            let ended = {
                let _quiet = Quiet::new();
                let mut known = KNOWN.lock();
                known.iter().position(|(other, _)| *other == name).map(|at| known.swap_remove(at).1)
            };
            if let Some(ended) = ended {
                engine::with(|engine, waiter| engine.join(waiter, ended));
            }
        }
        joined
    })
}

/// How many threads wait for something, by a hash of its address: whoever lets go looks here first.
static WAITING: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];

fn waiting(key: usize) -> &'static AtomicU32 {
    &WAITING[(key >> 3) % WAITING.len()]
}

/// Does what the calling thread waits in; meanwhile the engine goes on without what it might do.
fn waiting_for_others<R>(wait: impl FnOnce() -> R) -> R {
    engine::set_waits(true);
    let answer = wait();
    engine::set_waits(false);
    answer
}

/// Waits by `wait` for somebody who tells of `key`; the clock shows that time then.
fn wait_for<R>(key: usize, wait: impl FnOnce() -> R) -> R {
    if is_quiet() || is_captive() {
        return wait();
    }
    // SeqCst: whoever lets go after this sees it, because the wait itself goes through the kernel.
    waiting(key).fetch_add(1, Ordering::SeqCst);
    waiting_for_others(|| {
        let answer = wait();
        waiting(key).fetch_sub(1, Ordering::SeqCst);
        engine::with(|engine, index| engine.catch_up(index, key as u64));
        answer
    })
}

/// Before something is let go: who waits for it goes on no earlier than now.
fn let_go(key: usize) {
    if waiting(key).load(Ordering::SeqCst) > 0 && !is_quiet() && !is_captive() {
        engine::with(|engine, index| engine.tell(index, key as u64));
    }
}

type Syscall = unsafe extern "C" fn(c_long, usize, usize, usize, usize, usize, usize) -> c_long;
static SYSCALL: Real<Syscall> = Real::new(c"syscall");

/// What Rust's standard library waits with. (Arguments that the caller did not pass are passed on as they happen to be, as
/// the C library's own does.)
///
/// # Safety
/// As syscall(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long {
    const FUTEX: c_long = 202;
    const COMMAND: usize = 0x7f;
    // SAFETY: passed on to the caller.
    let call = || unsafe { SYSCALL.get()(number, a, b, c, d, e, f) };
    match (number, b & COMMAND) {
        // FUTEX_WAIT and FUTEX_WAIT_BITSET, FUTEX_WAKE and FUTEX_WAKE_BITSET.
        (FUTEX, 0 | 9) => wait_for(a, call),
        (FUTEX, 1 | 10) => {
            let_go(a);
            call()
        }
        _ => call(),
    }
}

type OfOne = unsafe extern "C" fn(*mut c_void) -> c_int;
type OfTwo = unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int;
type OfThree = unsafe extern "C" fn(*mut c_void, *mut c_void, *const c_void) -> c_int;

static MUTEX_LOCK: Real<OfOne> = Real::new(c"pthread_mutex_lock");
static MUTEX_TRYLOCK: Real<OfOne> = Real::new(c"pthread_mutex_trylock");
static MUTEX_UNLOCK: Real<OfOne> = Real::new(c"pthread_mutex_unlock");
static COND_WAIT: Real<OfTwo> = Real::new(c"pthread_cond_wait");
static COND_TIMEDWAIT: Real<OfThree> = Real::new(c"pthread_cond_timedwait");
static COND_SIGNAL: Real<OfOne> = Real::new(c"pthread_cond_signal");
static COND_BROADCAST: Real<OfOne> = Real::new(c"pthread_cond_broadcast");
static BARRIER_WAIT: Real<OfOne> = Real::new(c"pthread_barrier_wait");

/// # Safety
/// As pthread_mutex_lock(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_mutex_lock(mutex: *mut c_void) -> c_int {
    const EBUSY: c_int = 16;
    // SAFETY: passed on to the caller.
    let tried = unsafe { MUTEX_TRYLOCK.get()(mutex) };
    if tried != EBUSY {
        return tried;
    }
    // SAFETY: passed on to the caller.
    wait_for(mutex.addr(), || unsafe { MUTEX_LOCK.get()(mutex) })
}

/// # Safety
/// As pthread_mutex_unlock(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_mutex_unlock(mutex: *mut c_void) -> c_int {
    let_go(mutex.addr());
    // SAFETY: passed on to the caller.
    unsafe { MUTEX_UNLOCK.get()(mutex) }
}

/// # Safety
/// As pthread_cond_wait(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_cond_wait(condition: *mut c_void, mutex: *mut c_void) -> c_int {
    let_go(mutex.addr());
    // SAFETY: passed on to the caller.
    wait_for(condition.addr(), || unsafe { COND_WAIT.get()(condition, mutex) })
}

/// # Safety
/// As pthread_cond_timedwait(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_cond_timedwait(condition: *mut c_void, mutex: *mut c_void, until: *const c_void) -> c_int {
    let_go(mutex.addr());
    // SAFETY: passed on to the caller.
    wait_for(condition.addr(), || unsafe { COND_TIMEDWAIT.get()(condition, mutex, until) })
}

/// # Safety
/// As pthread_cond_signal(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_cond_signal(condition: *mut c_void) -> c_int {
    let_go(condition.addr());
    // SAFETY: passed on to the caller.
    unsafe { COND_SIGNAL.get()(condition) }
}

/// # Safety
/// As pthread_cond_broadcast(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_cond_broadcast(condition: *mut c_void) -> c_int {
    let_go(condition.addr());
    // SAFETY: passed on to the caller.
    unsafe { COND_BROADCAST.get()(condition) }
}

/// # Safety
/// As pthread_barrier_wait(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_barrier_wait(barrier: *mut c_void) -> c_int {
    if !is_quiet() {
        engine::with(|engine, index| engine.tell(index, barrier.addr() as u64));
    }
    // SAFETY: passed on to the caller.
    wait_for(barrier.addr(), || unsafe { BARRIER_WAIT.get()(barrier) })
}
