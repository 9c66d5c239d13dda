//! The engine's thread: it takes what waits, from the program's threads in turn.

use std::time::{Duration, Instant};

use tiermem_emulator::instrumented::ThreadIndex;
use tiermem_emulator::instrumented::turns::Credit;
use tiermem_sys::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use tiermem_sys::{cpu, process, thread};

use crate::queue::{wait_while, wake};
use crate::state::{Quiet, starting};
use crate::taking::{Next, give_up, take_turn};

/// Whether there is one in this process.
static HELPER: AtomicU32 = AtomicU32::new(UNKNOWN);
const UNKNOWN: u32 = 0;
const STARTING: u32 = 1;
const THERE: u32 = 2;
const NONE: u32 = 3;

/// Buffers of all threads that wait.
static WAITING: AtomicUsize = AtomicUsize::new(0);
/// 1 while the engine's thread sleeps because there are none.
static ASLEEP: AtomicU32 = AtomicU32::new(0);
/// How often something was passed, or may have changed whose turn it is.
static NEWS: AtomicUsize = AtomicUsize::new(0);

/// Set to `off` to have threads take their buffers themselves: figures of a single thread are the same, and it is slower where another
/// processor is free.
const VARIABLE: &[u8] = b"TIERMEM_INSTRUMENT_THREAD";

/// Something waits.
pub fn call() {
    WAITING.fetch_add(1, Ordering::SeqCst);
    news();
    wake(&ASLEEP);
}

/// Something that waited was taken.
pub fn taken() {
    WAITING.fetch_sub(1, Ordering::SeqCst);
}

/// Whose turn it is may have changed.
pub fn news() {
    // Relaxed: a hint to look again.
    NEWS.fetch_add(1, Ordering::Relaxed);
}

/// Whether the engine has a thread; it is started when this is first asked.
pub fn is_there() -> bool {
    // Relaxed: a state, which orders nothing.
    match HELPER.load(Ordering::Relaxed) {
        THERE => true,
        UNKNOWN => start(),
        _ => false,
    }
}

#[cold]
fn start() -> bool {
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

/// What it does, for ever.
extern "C" fn work() {
    // It is none of the program's threads.
    let _quiet = Quiet::new();
    let (mut patience, mut credit, mut room) = (Patience::default(), Credit::default(), Room::default());
    loop {
        wait_while(&ASLEEP, || WAITING.load(Ordering::SeqCst) == 0);
        // Relaxed: as in `news`.
        let news = NEWS.load(Ordering::Relaxed);
        let begun = Instant::now();
        match take_turn(credit.is_spent()) {
            Next::GoOn(cpu) => {
                credit.earn(begun.elapsed());
                if let Some(cpu) = cpu {
                    room.keep_off(cpu);
                }
            }
            Next::WaitFor(index, task) => {
                patience.wait_for(index, task, news);
                credit.spend(begun.elapsed());
            }
        }
    }
}

/// How long a thread is waited for that is behind the others.
#[derive(Default)]
struct Patience {
    /// For whom, since when, and how often the system said that it does not run.
    waiting: Option<(ThreadIndex, Instant, u32)>,
}

/// So long it is taken for granted that a thread works.
const BELIEVED: Duration = Duration::from_micros(50);
/// Once it may wait for a lock of this library's.
const IDLE_MAX: u32 = 3;
/// Who has not come after so long may be in an endless loop that loads and stores nothing.
const LONGEST: Duration = Credit::MOST;

impl Patience {
    /// Waits a little for a thread, unless there was other `news` since. If the system says again and again that it does not
    /// run, nobody waits for it any more, until there is something of it.
    fn wait_for(&mut self, index: ThreadIndex, task: u32, news: usize) {
        let (now, known) = (Instant::now(), self.waiting.filter(|(who, ..)| *who == index));
        let (_, begun, mut idle) = known.unwrap_or((index, now, 0));
        let until = now + BELIEVED;
        // Relaxed: as in `news`.
        while NEWS.load(Ordering::Relaxed) == news && Instant::now() < until {
            // It may need this processor.
            std::thread::yield_now();
        }
        if NEWS.load(Ordering::Relaxed) == news {
            idle += u32::from(!thread::is_running(task));
        }
        self.waiting = Some((index, begun, idle));
        if idle >= IDLE_MAX || begun.elapsed() > LONGEST {
            give_up(index);
            self.waiting = None;
        }
    }
}

/// Where the engine's thread runs. A system that wakes threads where they slept can have it share a processor with a
/// thread of the program for long, while another one is idle.
struct Room {
    /// Turns one after another in which it was where the thread was.
    together: u32,
    /// When it moved last.
    moved: Instant,
}

/// So often in turn is no chance.
const TOGETHER_MAX: u32 = 4;
/// Moving costs some ten microseconds; so often they do not matter.
const MOVES_APART: Duration = Duration::from_millis(5);

impl Default for Room {
    fn default() -> Self {
        Self { together: 0, moved: Instant::now() }
    }
}

impl Room {
    /// Goes elsewhere, if this was the CPU of the program's thread for some time.
    fn keep_off(&mut self, cpu: u32) {
        self.together = if cpu::current() == cpu { self.together + 1 } else { 0 };
        if self.together >= TOGETHER_MAX && self.moved.elapsed() > MOVES_APART {
            // Where it cannot, it stays.
            let _moved = cpu::leave(cpu);
            *self = Self::default();
        }
    }
}

/// In a child of fork, whose only thread this is, and which has taken all that it had passed.
pub fn forked() {
    // Relaxed, all: see above. A start that another thread had begun is not this process's.
    if HELPER.load(Ordering::Relaxed) != NONE {
        HELPER.store(UNKNOWN, Ordering::Relaxed);
    }
    WAITING.store(0, Ordering::Relaxed);
    ASLEEP.store(0, Ordering::Relaxed);
}
