//! The allocator's clock: milliseconds since it first looked.

use tiermem_sys::clock;
use tiermem_sys::sync::atomic::{AtomicU64, Ordering};

static START_MS: AtomicU64 = AtomicU64::new(0);

/// Milliseconds since the allocator's first look at the clock, plus one (so never 0). Coarse: a few milliseconds.
/// Wraps after 49 days, where it only delays a purge.
pub fn now_ms() -> u32 {
    let now = clock::monotonic_coarse_ms();
    // Relaxed: whoever comes first sets the zero; a lost race shifts it by less than the clock's grain.
    let start = match START_MS.load(Ordering::Relaxed) {
        0 => {
            START_MS.store(now, Ordering::Relaxed);
            now
        }
        start => start,
    };
    (now.saturating_sub(start) as u32).wrapping_add(1)
}
