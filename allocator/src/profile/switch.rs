//! Whether and how densely the process samples.

use tiermem_sys::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::PLAIN;
use crate::clock;
use crate::control;
use crate::control::layout::Segment;

/// Mean bytes between two samples of a watched run, as in tcmalloc, jemalloc and Go.
pub const INTERVAL_DEFAULT: u64 = 512 << 10;
/// Densest sampling: every few pages of small blocks.
pub const INTERVAL_MIN: u64 = 4 << 10;
/// Sparsest sampling.
pub const INTERVAL_MAX: u64 = 1 << 30;

/// In force: 0, or within the bounds, and then there is a segment to enter samples in.
static INTERVAL: AtomicU64 = AtomicU64::new(0);
/// Asked for; in force as soon as there is a segment.
static WANTED: AtomicU64 = AtomicU64::new(0);
/// When sampling was last switched off after it had begun, milliseconds of [`clock::now_ms`]; 0 while it is on.
static OFF_SINCE_MS: AtomicU32 = AtomicU32::new(0);
/// Grows with each fork: samples of another generation are not this process's.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Mean bytes between two samples; 0 while nothing is sampled.
#[inline]
pub fn interval() -> u64 {
    // Relaxed: a setting; whoever sees the old one samples a little longer.
    INTERVAL.load(Ordering::Relaxed)
}

/// Which process of a family of forks this is.
pub fn generation() -> u32 {
    GENERATION.load(PLAIN)
}

/// The nearest interval that is served: 0 for off, or within the bounds.
pub const fn clamp(interval: u64) -> u64 {
    match interval {
        0 => 0,
        INTERVAL_MIN..=INTERVAL_MAX => interval,
        1..INTERVAL_MIN => INTERVAL_MIN,
        _ => INTERVAL_MAX,
    }
}

/// Asks for sampling at this interval, bytes; 0 for none. Sampling begins with the control segment: without one nobody could
/// see the profile.
pub fn begin(interval: u64) {
    WANTED.store(clamp(interval), PLAIN);
    if let Some(segment) = control::segment() {
        attach(segment);
    }
}

/// A fresh segment is there: samples go into it from now on.
pub fn attach(segment: &Segment) {
    let interval = WANTED.load(PLAIN);
    segment.header.profile_wanted.store(interval, PLAIN);
    set(segment, interval);
}

/// Puts an interval in force and says so in the segment.
fn set(segment: &Segment, interval: u64) {
    let header = &segment.header;
    let before = header.profile_interval.swap(interval, PLAIN);
    let now = clock::now_ms();
    if before == 0 && interval != 0 {
        let off_since = OFF_SINCE_MS.swap(0, PLAIN);
        if header.profile_since_ms.load(PLAIN) == 0 {
            header.profile_since_ms.store(u64::from(now), PLAIN);
        } else {
            header.profile_off_ms.fetch_add(u64::from(now.saturating_sub(off_since)), PLAIN);
        }
    } else if before != 0 && interval == 0 {
        OFF_SINCE_MS.store(now, PLAIN);
    }
    INTERVAL.store(interval, PLAIN);
}

/// Does what `tierctl` wrote into the segment: anything may stand there, so it is brought within bounds. Called with each
/// publication.
pub fn obey_wish(segment: &Segment) {
    let wanted = clamp(segment.header.profile_wanted.load(PLAIN));
    if wanted != interval() {
        WANTED.store(wanted, PLAIN);
        set(segment, wanted);
    }
}

/// In a child of fork: the segment was the parent's, and so were the samples. Sampling goes on with a segment of its own.
pub fn restart_in_child() {
    INTERVAL.store(0, PLAIN);
    OFF_SINCE_MS.store(0, PLAIN);
    GENERATION.fetch_add(1, PLAIN);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_stands_in_a_segment_becomes_an_interval() {
        for (wish, expected) in [
            (0, 0),
            (1, INTERVAL_MIN),
            (INTERVAL_MIN, INTERVAL_MIN),
            (77_777, 77_777),
            (INTERVAL_MAX + 1, INTERVAL_MAX),
            (u64::MAX, INTERVAL_MAX),
        ] {
            assert_eq!(clamp(wish), expected, "{wish}");
        }
    }
}
