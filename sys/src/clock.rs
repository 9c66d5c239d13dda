//! Clocks that need no allocation and, but for a thread's own time, no system call.

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the answer. The clocks used here always exist.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now
}

/// Milliseconds of the monotonic clock, as of the last timer tick (1 to 10 ms ago). A few nanoseconds' work.
pub fn monotonic_coarse_ms() -> u64 {
    let now = read(libc::CLOCK_MONOTONIC_COARSE);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Nanoseconds of the monotonic clock.
pub fn monotonic_ns() -> u64 {
    let now = read(libc::CLOCK_MONOTONIC);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Nanoseconds that the calling thread has spent on a CPU. A system call.
pub fn thread_cpu_ns() -> u64 {
    let now = read(libc::CLOCK_THREAD_CPUTIME_ID);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Seconds since 1970.
pub fn unix_s() -> u64 {
    read(libc::CLOCK_REALTIME).tv_sec as u64
}

/// Nanoseconds since 1970.
pub fn unix_ns() -> u64 {
    let now = read(libc::CLOCK_REALTIME);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The processor's own counter of time (x86-64: TSC); `None` where there is none that programs may read.
fn counter() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: reading the counter has no preconditions; a kernel that forbids it is no kernel that this runs on.
        Some(unsafe { std::arch::x86_64::_rdtsc() })
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

/// How often the processor's own counter of time counts in a second, found within some 20 ms by the monotonic clock, to about one
/// part in ten thousand; `None` on processors without one.
pub fn counter_hz() -> Option<u64> {
    const APART_MS: u32 = 20;
    let first = both()?;
    crate::thread::sleep_ms(APART_MS);
    let second = both()?;
    let (ns, counts) = (second.0.checked_sub(first.0)?, second.1.checked_sub(first.1)?);
    u64::try_from(u128::from(counts) * 1_000_000_000 / u128::from(ns.max(1))).ok()
}

/// Both clocks at one moment: of some tries the one in which least time passed between.
fn both() -> Option<(u64, u64)> {
    const TRIES: u32 = 20;
    let tries = (0..TRIES).filter_map(|_| {
        let before = monotonic_ns();
        let count = counter()?;
        let passed = monotonic_ns() - before;
        Some((passed, before + passed / 2, count))
    });
    tries.min_by_key(|&(passed, ..)| passed).map(|(_, ns, count)| (ns, count))
}

#[cfg(test)]
mod tests {
    use super::counter_hz;

    #[test]
    fn the_counters_rate_is_the_same_each_time() {
        let Some(first) = counter_hz() else { return };
        for _ in 0..5 {
            let again = counter_hz().unwrap();
            assert!(again.abs_diff(first) < first / 1000, "{first} and {again}");
        }
    }
}
