//! Sampling from the slow path alone, for allocation paths that do not count bytes themselves.

use std::cell::Cell;

use tiermem_sys::sync::atomic::{AtomicI64, AtomicU64};

use super::{PLAIN, distance, enter, interval, weigh};
use crate::arena;
use crate::span::State;

/// Bytes until the next sample, of all threads.
static CREDIT: AtomicI64 = AtomicI64::new(0);
static RANDOM: AtomicU64 = AtomicU64::new(0);

/// Counts a block that a slow path has placed, and samples it if its turn has come. A block of a class stands for what its span
/// has ready when it becomes the current one. What the span gets back and serves again meanwhile goes uncounted, and blocks of a
/// class cannot be seen being freed: they are in the cumulative figures only.
#[inline]
pub fn sample_slow_path(block: usize, requested: usize) {
    if interval() != 0 {
        count(block, requested);
    }
}

#[cold]
fn count(block: usize, requested: usize) {
    let Some(span) = arena::span_of(block) else { return };
    let is_large = span.state() == State::Large;
    // Of a span, the blocks that it can give before the next slow path, this one included.
    let ready = || span.capacity().saturating_sub(span.used()) + 1;
    let (blocks, held) = if is_large { (1, span.size().max(1)) } else { (ready(), span.block_size()) };
    let bytes = i64::try_from(blocks.saturating_mul(held)).unwrap_or(i64::MAX);
    let before = CREDIT.fetch_sub(bytes, PLAIN);
    // Only one thread sees it fall to zero; the others' bytes meanwhile are not counted.
    if before > bytes || before < 0 {
        return;
    }
    let state = Cell::new(RANDOM.load(PLAIN));
    let next = distance(&state, interval());
    RANDOM.store(state.get(), PLAIN);
    CREDIT.store(i64::try_from(next).unwrap_or(i64::MAX), PLAIN);
    // The very first one only sets the distance.
    if before > 0 {
        let weigh = |interval| weigh(blocks as u64, held as u64, requested as u64, interval);
        enter(block, span.tier(), weigh, is_large);
    }
}

/// In a child of fork: a thread that was about to set the distance was not copied.
pub fn restart_in_child() {
    CREDIT.store(0, PLAIN);
}
