//! Memory that several guests share.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use crate::memory::Memory;
use crate::{Arguments, Outcome, ensure};

const COUNT: u64 = 100_000;
const PATIENCE: Duration = Duration::from_secs(240);
/// What lies where in the shared memory; each in a line of its own.
const ARRIVED: usize = 0;
const ATOMIC: usize = 64;
const CARELESS: usize = 128;
const FINISHED: usize = 192;

/// Every guest increments a shared number, atomically, and another one carelessly: of the first none is lost, of the second
/// some are, or they never ran at the same time and the first proves nothing.
pub fn increments(arguments: &Arguments<'_>) -> Outcome {
    let device = arguments.text(0)?;
    let guests: u64 = number("TIERMEM_LAB_GUESTS")?;
    let memory = Memory::of_file(device, 2 << 20)?;
    memory.word(ARRIVED).fetch_add(1, Ordering::SeqCst);
    wait_for("the other guests", guests, memory.word(ARRIVED))?;
    let (atomic, careless) = (memory.word(ATOMIC), memory.word(CARELESS));
    for _ in 0..COUNT {
        atomic.fetch_add(1, Ordering::SeqCst);
        let seen = careless.load(Ordering::Relaxed);
        (0..20).for_each(|_| std::hint::spin_loop());
        careless.store(seen + 1, Ordering::Relaxed);
    }
    fence(Ordering::SeqCst);
    memory.word(FINISHED).fetch_add(1, Ordering::SeqCst);
    wait_for("the others' end", guests, memory.word(FINISHED))?;
    let (kept, careless, made) = (atomic.load(Ordering::SeqCst), careless.load(Ordering::SeqCst), guests * COUNT);
    ensure(kept == made, || format!("{kept} of {made} atomic increments are there"))?;
    ensure(careless < made, || format!("all {made} careless increments are there: the guests did not meet"))?;
    Ok(format!("{made} atomic increments of {guests} guests, all there; {} careless ones lost", made - careless))
}

fn wait_for(what: &str, guests: u64, word: &AtomicU64) -> Result<(), String> {
    let start = Instant::now();
    while word.load(Ordering::SeqCst) < guests {
        ensure(start.elapsed() < PATIENCE, || format!("waited {PATIENCE:?} for {what}"))?;
        std::thread::yield_now();
    }
    Ok(())
}

fn number(variable: &str) -> Result<u64, String> {
    let text = std::env::var(variable).unwrap_or_default();
    text.parse().map_err(|_| format!("{variable}={text} is not a number"))
}
