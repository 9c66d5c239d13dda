//! How true samples are on this machine: loops whose answer is known, sampled before every run.

use std::time::{Duration, Instant};

use serde::Serialize;
use tiermem_sys::perf::registers::{Stop, Stops};
use tiermem_sys::{Errno, stress};

use super::sites::Samples;
use super::verdict::{Shares, shares};

/// Between two samples, nanoseconds of a thread's time.
pub const PERIOD_NS: u64 = 200_000;
/// The band is this many times the largest error that was found, and at least so wide.
const ERRORS: f64 = 1.5;
const BAND_MIN: f64 = 0.02;
/// How long the loops that need an answer run.
const LONG: Duration = Duration::from_millis(1200);
/// How long those run that must be refused.
const SHORT: Duration = Duration::from_millis(300);

/// What was found. Shares are of the time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Calibration {
    /// How far the share of the time that a program waits may be off.
    pub band: f64,
    /// A chase through memory beyond the caches: the share found, where all of it is waiting.
    pub chase: f64,
    /// A chase half of the time and arithmetic the other half: the share found,
    pub mixed: f64,
    /// and what it was by the clock.
    pub mixed_truth: f64,
    /// Reading memory in order: the share found to be that.
    pub stream: f64,
    /// A chase that the first-level cache holds: the share found to be perhaps cached,
    pub cached_small: f64,
    /// and one that a quarter of the last-level cache holds.
    pub cached_large: f64,
}

/// Why this machine's samples cannot be trusted.
#[derive(Debug)]
pub enum Uncalibrated {
    /// The timer is not there or not allowed.
    NoTimer(Errno),
    /// A loop that must be recognised was not: which, and what was found instead.
    Unrecognised(&'static str, Shares),
    /// The shares of a loop that is known are too far off.
    TooFarOff(f64),
}

impl std::fmt::Display for Uncalibrated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoTimer(errno @ (Errno::EACCES | Errno::EPERM)) => write!(
                f,
                "the software timer of perf_event_open is not allowed ({}): set kernel.perf_event_paranoid to 2 or less, or \
                 run as root",
                errno.desc()
            ),
            Self::NoTimer(Errno::ENOSYS) => f.write_str("samples are taken on x86-64 with perf_event_open only"),
            Self::NoTimer(errno) => write!(f, "the software timer of perf_event_open does not work: {}", errno.desc()),
            Self::Unrecognised(what, shares) => write!(
                f,
                "on this machine {what} is not recognised ({:.0} % waiting, {:.0} % in order, {:.0} % perhaps cached), so \
                 nothing that samples say can be trusted; try again when the machine is idle",
                shares.waiting * 100.0,
                shares.streaming * 100.0,
                shares.cached * 100.0
            ),
            Self::TooFarOff(error) => write!(
                f,
                "on this machine samples of known loops are {:.0} % of the time off: try again when it is idle",
                error * 100.0
            ),
        }
    }
}

/// The most that samples of a known loop may be off.
const ERROR_MAX: f64 = 0.15;
/// What must be recognised at least.
const RECOGNISED: f64 = 0.85;

/// Runs the loops; takes about five seconds, and eight times the last-level cache of memory. `caches` is its size, bytes.
///
/// # Errors
/// Where this machine's samples are no good.
pub fn calibrate(caches: u64) -> Result<Calibration, Uncalibrated> {
    let words = usize::try_from((caches * 8).clamp(64 << 20, 2 << 30) / 8).unwrap_or(1 << 26);
    let mut memory = vec![1_u64; words];
    let (stream, _) = sampled(caches, SHORT, || {
        stress::read(&memory);
        None
    })?;
    if stream.streaming < RECOGNISED {
        return Err(Uncalibrated::Unrecognised("reading memory in order", stream));
    }
    let mut cached = |bytes: u64, what| {
        let words = usize::try_from(bytes / 8).unwrap_or(words).clamp(1024, words);
        let ring = stress::Ring::new(&mut memory[..words], 7);
        let mut at = 0;
        let (found, _) = sampled(caches, SHORT, || {
            at = ring.follow(at, 4096);
            None
        })?;
        if found.cached < RECOGNISED { Err(Uncalibrated::Unrecognised(what, found)) } else { Ok(found.cached) }
    };
    let cached_small = cached(16 << 10, "a chase in the first-level cache")?;
    let cached_large = cached(caches / 4, "a chase in the last-level cache")?;
    let ring = stress::Ring::new(&mut memory, 7);
    let mut at = 0;
    let (chase, _) = sampled(caches, LONG, || {
        at = ring.follow(at, 2048);
        None
    })?;
    let mut value = 1;
    let (mixed, mixed_truth) = sampled(caches, LONG, || {
        let start = Instant::now();
        at = ring.follow(at, 2048);
        let waited = start.elapsed();
        while start.elapsed() < waited * 2 {
            value = arithmetic(value, 2000);
        }
        Some(waited)
    })?;
    let error = (1.0 - chase.waiting).abs().max((mixed.waiting - mixed_truth).abs());
    if error > ERROR_MAX {
        return Err(Uncalibrated::TooFarOff(error));
    }
    Ok(Calibration {
        band: (error * ERRORS).max(BAND_MIN),
        chase: chase.waiting,
        mixed: mixed.waiting,
        mixed_truth,
        stream: stream.streaming,
        cached_small,
        cached_large,
    })
}

/// Work that touches no memory.
#[inline(never)]
fn arithmetic(mut value: u64, steps: u32) -> u64 {
    for _ in 0..steps {
        value ^= value << 13;
        value ^= value >> 7;
        value ^= value << 17;
    }
    std::hint::black_box(value)
}

/// Runs `step` for a while and samples it; also the share of the time that it says it waited.
fn sampled(
    caches: u64,
    time: Duration,
    mut step: impl FnMut() -> Option<Duration>,
) -> Result<(Shares, f64), Uncalibrated> {
    let mut seen: Vec<Stop> = Vec::with_capacity(1 << 15);
    let mut stops = Stops::of_this_thread(PERIOD_NS).map_err(Uncalibrated::NoTimer)?;
    let start = Instant::now();
    let (mut waited, mut drained) = (Duration::ZERO, start);
    while start.elapsed() < time {
        waited += step().unwrap_or_default();
        // Before the buffer is full; seldom, because it is sampled as well.
        if drained.elapsed() > Duration::from_millis(40) {
            stops.drain(|stop| seen.push(*stop));
            drained = Instant::now();
        }
    }
    let all = start.elapsed();
    stops.stop().map_err(Uncalibrated::NoTimer)?;
    stops.drain(|stop| seen.push(*stop));
    let mut samples = Samples::default();
    seen.iter().for_each(|stop| samples.take(stop));
    Ok((shares(&samples, caches), waited.as_secs_f64() / all.as_secs_f64()))
}
