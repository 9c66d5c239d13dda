//! Tiers that the CPU does not address: reads and writes of 4 KiB and 2 MiB through the provider.

use std::thread;
use std::time::{Duration, Instant};

use tiermem_tiers::{Bytes, Error, Extent, GRANULE, Provenance, Provider};

use super::pace::Pace;
use super::{Effort, Measurement, Progress, SmallCopies, Spread};

const SMALL: usize = 4096;
const LARGE: usize = 2 << 20;

/// Space for the measurement: enough that a device's own cache does not hold all of it, little enough to write quickly.
const SPACE: Bytes = Bytes::mib(256);

pub(super) fn measure(
    provider: &dyn Provider,
    effort: &Effort,
    progress: &mut dyn Progress,
    result: &mut Measurement,
) -> Result<(), Error> {
    progress.step(0, 5, "reserving space");
    let extent = reserve(provider, SPACE.min(effort.working_set), &mut result.notes)?;
    result.working_set_bytes = extent.len().0;
    "copies through the provider".clone_into(&mut result.writes);
    let measured = figures(provider, &extent, effort, progress, result);
    provider.release(extent)?;
    measured
}

fn figures(
    provider: &dyn Provider,
    extent: &Extent,
    effort: &Effort,
    progress: &mut dyn Progress,
    result: &mut Measurement,
) -> Result<(), Error> {
    let run = Duration::from_millis(effort.run_ms);
    let mut copier = Copier { provider, extent, random: result.measured_at | 1 };
    let mut take = |measure: &mut dyn FnMut(&mut Copier) -> Result<f64, Error>| -> Result<Spread, Error> {
        let samples: Result<Vec<f64>, Error> = (0..effort.repeats).map(|_| measure(&mut copier)).collect();
        Ok(Spread::of(&samples?))
    };
    progress.step(1, 5, "write bandwidth");
    result.write_bandwidth = Some(take(&mut |c| c.streams(effort.cpus.len(), true, run))?);
    progress.step(2, 5, "read bandwidth");
    result.read_bandwidth = Some(take(&mut |c| c.streams(effort.cpus.len(), false, run))?);
    progress.step(3, 5, "4 KiB reads");
    let reads = take(&mut |c| c.small(false, run))?;
    progress.step(4, 5, "4 KiB writes");
    let writes = take(&mut |c| c.small(true, run))?;
    result.read_latency_ns = Some(reads);
    result.write_latency_ns = Some(writes);
    result.small = Some(SmallCopies { read_bandwidth: rate(reads), write_bandwidth: rate(writes) });
    Ok(())
}

/// Bandwidth of copies of 4 KiB that follow each other, from their latency.
fn rate(latency_ns: Spread) -> Spread {
    let median = if latency_ns.median > 0.0 { SMALL as f64 * 1e9 / latency_ns.median } else { 0.0 };
    Spread { median, mad: median * latency_ns.relative(), samples: latency_ns.samples }
}

fn reserve(provider: &dyn Provider, wanted: Bytes, notes: &mut Vec<String>) -> Result<Extent, Error> {
    let mut len = wanted;
    loop {
        match provider.reserve(len, Provenance::Tool) {
            Ok(extent) => {
                if len < wanted {
                    notes.push(format!("the tier had room for {len} of the {wanted} wanted"));
                }
                return Ok(extent);
            }
            Err(error) if error.is_fallback_worthy() && len > Bytes::mib(16) => {
                len = Bytes((len.0 / 2 / GRANULE.0).max(1) * GRANULE.0);
            }
            Err(error) => return Err(error),
        }
    }
}

struct Copier<'a> {
    provider: &'a dyn Provider,
    extent: &'a Extent,
    random: u64,
}

impl Copier<'_> {
    /// Random copies of 4 KiB, one after another; nanoseconds of the median one.
    fn small(&mut self, write: bool, run: Duration) -> Result<f64, Error> {
        let mut buffer = Buffer::new(SMALL);
        let places = self.extent.len().0 / SMALL as u64;
        let mut pace = Pace::default();
        let mut outcome = Ok(());
        while outcome.is_ok() && (pace.elapsed() < run || pace.is_empty()) {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let at = self.random % places * SMALL as u64;
            pace.time(1, || outcome = copy(self.provider, self.extent, at, buffer.bytes(), write));
        }
        outcome.map(|()| 1e9 / pace.paced().per_second)
    }

    /// Copies of 2 MiB in order, by several threads in parts of their own; bytes per second.
    fn streams(&mut self, threads: usize, write: bool, run: Duration) -> Result<f64, Error> {
        let places = self.extent.len().0 / LARGE as u64;
        let threads = (threads.max(1) as u64).min(places);
        let (provider, extent) = (self.provider, self.extent);
        let mut buffers: Vec<Buffer> = (0..threads).map(|_| Buffer::new(LARGE)).collect();
        let begun = Instant::now();
        let bytes: Result<u64, Error> = thread::scope(|scope| {
            let work = |thread: u64, buffer: &mut Buffer| -> Result<u64, Error> {
                let (mut place, mut bytes) = (thread, 0);
                while begun.elapsed() < run || bytes == 0 {
                    copy(provider, extent, place * LARGE as u64, buffer.bytes(), write)?;
                    bytes += LARGE as u64;
                    place = if place + threads < places { place + threads } else { thread };
                }
                Ok(bytes)
            };
            let handles: Vec<_> = (0..threads)
                .zip(&mut buffers)
                .map(|(thread, buffer)| scope.spawn(move || work(thread, buffer)))
                .collect();
            // A thread of ours does not panic; if it did, it copied nothing.
            handles.into_iter().map(|handle| handle.join().unwrap_or(Ok(0))).sum()
        });
        Ok(bytes? as f64 / begun.elapsed().as_secs_f64())
    }
}

fn copy(provider: &dyn Provider, extent: &Extent, at: u64, buffer: &mut [u8], write: bool) -> Result<(), Error> {
    if write { provider.write(extent, at, buffer) } else { provider.read(extent, at, buffer) }
}

/// Bytes at an address that direct I/O takes as it is, so that no provider has to copy twice.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    const ALIGN: usize = 4096;

    fn new(len: usize) -> Self {
        // Not zeroes: some devices do not store those.
        let bytes: Vec<u8> = (0..len + Self::ALIGN).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as u8).collect();
        let start = bytes.as_ptr().align_offset(Self::ALIGN);
        Self { bytes, start, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}
