//! How true samples are on this machine: loops whose answer is known, sampled before every run.

use std::time::{Duration, Instant};

use serde::Serialize;
use tiermem_sys::perf::registers::{Stop, Stops};
use tiermem_sys::{Errno, clock, stress};

use super::sites::Samples;
use super::verdict::{Shares, shares};

/// Between two samples, nanoseconds of a thread's time.
pub const PERIOD_NS: u64 = 200_000;
/// The band is this many times the error that was found on a mixture, and at least so wide.
const ERRORS: f64 = 2.0;
const BAND_MIN: f64 = 0.03;
/// How many samples are taken of a loop that must be refused.
const FEW: usize = 1200;
/// How long a loop may take to get its samples, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was found. Shares are of the time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Calibration {
    /// How far the share of the time that a program waits may be off.
    pub band: f64,
    /// A chase through memory beyond the caches: the share found, where all of it is waiting. What is found in programs is
    /// divided by it.
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
    TooFarOff(Shares, Shares),
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
            Self::TooFarOff(chase, mixed) => write!(
                f,
                "on this machine samples of known loops are too far off: a chase seems to wait {:.0} % of its time and to be \
                 cached {:.0} %, one with as much arithmetic {:.0} % and {:.0} %; try again when the machine is idle",
                chase.waiting * 100.0,
                chase.cached * 100.0,
                mixed.waiting * 100.0,
                mixed.cached * 100.0
            ),
        }
    }
}

/// The most that samples of a known loop may be off.
const ERROR_MAX: f64 = 0.15;
/// Of a loop that must be refused, what must be recognised at least: several times what a verdict lets pass. (Of the time
/// of a stream, a part goes to arithmetic that waits for loads further up.)
const RECOGNISED: f64 = 0.4;

/// Runs the loops; takes about five seconds, and eight times the last-level cache of memory. `caches` is its size, bytes.
///
/// # Errors
/// Where this machine's samples are no good.
pub fn calibrate(caches: u64) -> Result<Calibration, Uncalibrated> {
    let words = usize::try_from((caches * 8).clamp(64 << 20, 2 << 30) / 8).unwrap_or(1 << 26);
    let mut memory = vec![1_u64; words];
    let (stream, _) = sampled(caches, FEW, || {
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
        let (found, _) = sampled(caches, FEW, || {
            at = ring.follow(at, 4096);
            None
        })?;
        if found.cached < RECOGNISED { Err(Uncalibrated::Unrecognised(what, found)) } else { Ok(found.cached) }
    };
    let cached_small = cached(16 << 10, "a chase in the first-level cache")?;
    let cached_large = cached(caches / 4, "a chase in the last-level cache")?;
    // So many that a chase is beyond the caches beyond doubt; see `verdict::lines_at_least`.
    let many = (2.5 * (6.0 * caches as f64 / 64.0).sqrt()) as usize;
    let ring = stress::Ring::new(&mut memory, 7);
    let mut at = 0;
    let (chase, _) = sampled(caches, many, || {
        at = ring.follow(at, 2048);
        None
    })?;
    let mut value = 1;
    // Half of its samples are at the chase.
    let (mixed, mixed_truth) = sampled(caches, many * 2 + FEW, || {
        // By the thread's own clock: a busy machine may stop it anywhere.
        let start = clock::thread_cpu_ns();
        at = ring.follow(at, 2048);
        let waited = clock::thread_cpu_ns() - start;
        while clock::thread_cpu_ns() - start < waited * 2 {
            value = arithmetic(value, 20_000);
        }
        Some(waited)
    })?;
    let error = (mixed.waiting / chase.waiting.max(0.1) - mixed_truth).abs();
    if error > ERROR_MAX || chase.waiting < 1.0 - ERROR_MAX {
        return Err(Uncalibrated::TooFarOff(chase, mixed));
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

/// Runs `step` until there are `wanted` samples of it; also the share of the time that it says it waited, in nanoseconds.
fn sampled(caches: u64, wanted: usize, mut step: impl FnMut() -> Option<u64>) -> Result<(Shares, f64), Uncalibrated> {
    let mut seen: Vec<Stop> = Vec::with_capacity(wanted + 1024);
    let mut stops = Stops::of_this_thread(PERIOD_NS).map_err(Uncalibrated::NoTimer)?;
    let start = Instant::now();
    let before = clock::thread_cpu_ns();
    let (mut waited, mut drained) = (0, start);
    while seen.len() < wanted && start.elapsed() < PATIENCE {
        waited += step().unwrap_or_default();
        // Before the buffer is full; seldom, because it is sampled as well.
        if drained.elapsed() > Duration::from_millis(40) {
            stops.drain(|stop| seen.push(*stop));
            drained = Instant::now();
        }
    }
    let all = clock::thread_cpu_ns() - before;
    stops.stop().map_err(Uncalibrated::NoTimer)?;
    stops.drain(|stop| seen.push(*stop));
    let mut samples = Samples::default();
    seen.iter().for_each(|stop| samples.take(stop));
    Ok((shares(&samples, caches), waited as f64 / all as f64))
}
