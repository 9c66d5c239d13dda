//! Sampling from the slow path alone, for allocation paths that do not count bytes themselves.

use std::cell::Cell;

use tiermem_sys::sync::atomic::{AtomicI64, AtomicU64};

use super::{PLAIN, distance, enter, interval};
use crate::api;
use crate::size_class::CLASS_MAX;

/// What one slow path stands for at least: the run of blocks that it makes ready, bytes.
const RUN_BYTES: usize = 4096;

/// Bytes until the next sample, of all threads.
static CREDIT: AtomicI64 = AtomicI64::new(0);
static RANDOM: AtomicU64 = AtomicU64::new(0);

/// Counts a block that a slow path has placed, and samples it if its turn has come. A small block stands for the run that
/// was made ready with it. What is taken from freed blocks goes uncounted, and small blocks cannot be seen being freed: they
/// are in the cumulative figures only.
#[inline]
pub fn sample_slow_path(block: usize, requested: usize) {
    if interval() != 0 {
        count(block, requested);
    }
}

#[cold]
fn count(block: usize, requested: usize) {
    let held = api::usable_size(std::ptr::with_exposed_provenance(block));
    let bytes = i64::try_from(held.max(RUN_BYTES)).unwrap_or(i64::MAX);
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
    if before > 0
        && let Some(tier) = api::tier_of(std::ptr::with_exposed_provenance(block))
    {
        enter(block, requested, tier, held > CLASS_MAX);
    }
}

/// In a child of fork: a thread that was about to set the distance was not copied.
pub fn restart_in_child() {
    CREDIT.store(0, PLAIN);
}
