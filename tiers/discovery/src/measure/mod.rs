//! Measuring tiers: what `tierctl probe` does. The answers are plain serde types, which the [cache](crate::cache)
//! keeps.

mod copied;
mod loaded;
mod pace;
mod spread;

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tiermem_tiers::provider::Held;
use tiermem_tiers::{Access, Bytes, Error, GRANULE, Provider};

pub use spread::Spread;

/// How thoroughly to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Effort {
    /// Memory for the pointer chase; well beyond the last-level cache, or the cache is measured.
    pub working_set: Bytes,
    /// Times that each figure is taken; the median counts.
    pub repeats: usize,
    /// Length of one run, milliseconds.
    pub run_ms: u64,
    /// Pauses between the blocks that the load threads read, in iterations of a spin loop, from light load to full.
    pub pauses: Vec<u32>,
    /// CPUs to measure from, one thread each; the first one chases.
    pub cpus: Vec<u32>,
}

impl Effort {
    /// A working set of four times the last-level cache, between 64 MiB and 1 GiB.
    pub fn thorough(last_level_cache: Option<u64>, cpus: Vec<u32>) -> Self {
        let wanted = last_level_cache.unwrap_or(64 << 20).saturating_mul(4).clamp(64 << 20, 1 << 30);
        let working_set = Bytes(wanted / GRANULE.0 * GRANULE.0);
        let pauses = vec![2000, 500, 200, 100, 50, 20, 10, 5, 2, 0];
        Self { working_set, repeats: 7, run_ms: 150, pauses, cpus }
    }

    /// Rough figures in a few seconds.
    pub fn quick(last_level_cache: Option<u64>, cpus: Vec<u32>) -> Self {
        let thorough = Self::thorough(last_level_cache, cpus);
        let working_set = thorough.working_set.min(Bytes::mib(256));
        Self { working_set, repeats: 3, run_ms: 40, pauses: vec![200, 20, 0], ..thorough }
    }
}

/// What was measured of one tier.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Kind word of the tier.
    pub kind: String,
    /// Node, path or device.
    pub location: String,
    /// When, in seconds since 1970.
    pub measured_at: u64,
    /// Memory used for it, bytes.
    pub working_set_bytes: u64,
    /// How much of that was in huge pages, bytes; `null` if the kernel does not tell.
    pub huge_bytes: Option<u64>,
    /// Threads used for bandwidth.
    pub threads: u64,
    /// How writes were done.
    pub writes: String,
    /// Idle latency of a dependent load, nanoseconds; for tiers that are copied, of a random 4 KiB read.
    pub read_latency_ns: Option<Spread>,
    /// For tiers that are copied: latency of a random 4 KiB write, nanoseconds.
    pub write_latency_ns: Option<Spread>,
    /// Read bandwidth, bytes per second; for tiers that are copied, in pieces of 2 MiB.
    pub read_bandwidth: Option<Spread>,
    /// Write bandwidth, bytes per second, likewise.
    pub write_bandwidth: Option<Spread>,
    /// Latency of dependent loads while other threads read, from light load to full; empty for copied tiers.
    pub loaded: Vec<LoadPoint>,
    /// For tiers that are copied: bandwidth of random 4 KiB reads and writes of one thread.
    pub small: Option<SmallCopies>,
    /// What makes the figures rough, or otherwise concerns them.
    pub notes: Vec<String>,
}

impl Measurement {
    /// What names the tier across runs; equal to [`TierReport::identity`](crate::report::TierReport::identity).
    pub fn identity(&self) -> String {
        format!("{}:{}", self.kind, self.location)
    }
}

/// One point of the loaded-latency curve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadPoint {
    /// Pause of the load threads between blocks, spin iterations; `null` without load threads.
    pub pause: Option<u32>,
    /// Bandwidth that they read with, bytes per second.
    pub bandwidth: Spread,
    /// Latency of a dependent load meanwhile, nanoseconds.
    pub latency_ns: Spread,
}

/// Random copies of 4 KiB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SmallCopies {
    /// Bytes per second.
    pub read_bandwidth: Spread,
    /// Bytes per second.
    pub write_bandwidth: Spread,
}

/// Hears how far a measurement is.
pub trait Progress {
    /// Step `done` of `all` begins.
    fn step(&mut self, done: usize, all: usize, what: &str);
}

impl<F: FnMut(usize, usize, &str)> Progress for F {
    fn step(&mut self, done: usize, all: usize, what: &str) {
        self(done, all, what);
    }
}

/// Measures a tier. Reserves space in it, and gives it back.
///
/// # Errors
/// As the tier says; `Full` if it has not even 16 MiB free.
pub fn tier(
    provider: &dyn Provider,
    location: &str,
    effort: &Effort,
    progress: &mut dyn Progress,
) -> Result<Measurement, Error> {
    let mut result = Measurement {
        kind: provider.tier().kind.as_str().to_owned(),
        location: location.to_owned(),
        measured_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        threads: effort.cpus.len().max(1) as u64,
        ..Measurement::default()
    };
    result.notes.extend(provider.notice().map(str::to_owned));
    match provider.access() {
        Access::Load => loaded::measure(provider, effort, progress, &mut result)?,
        _ => copied::measure(provider, effort, progress, &mut result)?,
    }
    if effort.cpus.len() < 4 {
        result.notes.push(format!(
            "{} CPUs cannot load a memory controller fully: more of them would reach further",
            effort.cpus.len()
        ));
    }
    if cfg!(debug_assertions) {
        result.notes.push("measured by an unoptimised build".to_owned());
    }
    Ok(result)
}

/// Reserves the working set, or as large a part of it as the tier has room for.
fn hold<'p>(provider: &'p dyn Provider, wanted: Bytes, notes: &mut Vec<String>) -> Result<Held<'p>, Error> {
    let mut len = wanted;
    loop {
        match Held::reserve(provider, len) {
            Ok(held) if len == wanted => return Ok(held),
            Ok(held) => {
                notes.push(format!("the tier had room for {len} of the {wanted} wanted"));
                return Ok(held);
            }
            Err(error) if error.is_fallback_worthy() && len > Bytes::mib(16) => {
                len = Bytes((len.0 / 2 / GRANULE.0).max(1) * GRANULE.0);
            }
            Err(error) => return Err(error),
        }
    }
}

impl fmt::Display for LoadPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} GB/s: {:.0} ns", self.bandwidth.median / 1e9, self.latency_ns.median)
    }
}
