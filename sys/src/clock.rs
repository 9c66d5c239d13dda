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
