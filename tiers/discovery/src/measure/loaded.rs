//! Tiers that the CPU addresses: latency by pointer chase, bandwidth by streams, and both at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tiermem_sys::cpu;
use tiermem_sys::stress::{self, Ring};
use tiermem_tiers::{Bytes, Error, Provider};

use super::{Effort, LoadPoint, Measurement, Progress, Spread, hold};

/// Loads between two looks at the clock: about 0.2 ms on slow memory, so that looking costs nothing.
const STEPS: u64 = 1024;

pub(super) fn measure(
    provider: &dyn Provider,
    effort: &Effort,
    progress: &mut dyn Progress,
    result: &mut Measurement,
) -> Result<(), Error> {
    let all = 4 + effort.pauses.len();
    stress::WRITES.clone_into(&mut result.writes);
    progress.step(0, all, "reserving memory");
    let mut held = hold(provider, effort.working_set, &mut result.notes)?;
    result.huge_bytes = held.want_huge_pages().map(|bytes| bytes.0);
    let words = held.words();
    result.working_set_bytes = size_of_val(words) as u64;
    note_pages(result);
    progress.step(1, all, "write bandwidth");
    let run = Duration::from_millis(effort.run_ms);
    let repeat = |measure: &mut dyn FnMut() -> f64| -> Spread {
        // The first run faults the memory in and wakes the CPUs, and does not count.
        measure();
        Spread::of(&(0..effort.repeats).map(|_| measure()).collect::<Vec<_>>())
    };
    result.write_bandwidth = Some(repeat(&mut || write_bandwidth(words, &effort.cpus, run)));
    progress.step(2, all, "read bandwidth");
    result.read_bandwidth = Some(repeat(&mut || read_bandwidth(words, &effort.cpus, run)));
    progress.step(3, all, "idle latency");
    // The chase has one half of the memory and the load threads the other, so that neither warms the other's lines.
    let (chased, streamed) = words.split_at_mut(words.len() / 2);
    let ring = Ring::new(chased, result.measured_at);
    let idle = repeat(&mut || chase_under_load(&ring, streamed, &effort.cpus, None, run).1);
    result.read_latency_ns = Some(idle);
    result.loaded.push(LoadPoint { pause: None, bandwidth: Spread::default(), latency_ns: idle });
    for (step, &pause) in effort.pauses.iter().enumerate() {
        progress.step(4 + step, all, "latency under load");
        let (mut bandwidths, mut latencies) = (Vec::new(), Vec::new());
        for _ in 0..effort.repeats {
            let (bandwidth, latency) = chase_under_load(&ring, streamed, &effort.cpus, Some(pause), run);
            bandwidths.push(bandwidth);
            latencies.push(latency);
        }
        let (bandwidth, latency_ns) = (Spread::of(&bandwidths), Spread::of(&latencies));
        result.loaded.push(LoadPoint { pause: Some(pause), bandwidth, latency_ns });
    }
    Ok(())
}

fn note_pages(result: &mut Measurement) {
    let working_set = Bytes(result.working_set_bytes);
    match result.huge_bytes.map(Bytes) {
        Some(huge) if huge >= working_set => {}
        Some(Bytes::ZERO) => result.notes.push("no huge pages: latency includes misses of the TLB".to_owned()),
        Some(huge) => {
            result.notes.push(format!("{huge} of {working_set} in huge pages: latency includes some TLB misses"))
        }
        None => result.notes.push("the kernel does not tell whether huge pages were used".to_owned()),
    }
}

/// Lets one thread a CPU work on its own part of the memory for `run`; bytes per second of all of them together.
fn bandwidth(parts: Vec<&mut [u64]>, cpus: &[u32], run: Duration, work: fn(&mut [u64])) -> f64 {
    let start = Barrier::new(parts.len());
    let (bytes, longest_ns) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for (index, part) in parts.into_iter().enumerate() {
            let (start, bytes, longest_ns) = (&start, &bytes, &longest_ns);
            scope.spawn(move || {
                pin_to(cpus.get(index));
                start.wait();
                let begun = Instant::now();
                let mut done = 0;
                // A whole pass can take long on a slow tier, so the clock is looked at more often.
                'run: loop {
                    for piece in part.chunks_mut(1 << 15) {
                        work(piece);
                        done += size_of_val(piece) as u64;
                        if begun.elapsed() >= run {
                            break 'run;
                        }
                    }
                }
                // Relaxed: the end of the scope makes both visible.
                bytes.fetch_add(done, Ordering::Relaxed);
                longest_ns.fetch_max(nanoseconds(begun.elapsed()), Ordering::Relaxed);
            });
        }
    });
    per_second(bytes.into_inner(), longest_ns.into_inner())
}

fn read_bandwidth(words: &mut [u64], cpus: &[u32], run: Duration) -> f64 {
    bandwidth(parts(words, cpus.len()), cpus, run, |piece| {
        stress::read(piece);
    })
}

fn write_bandwidth(words: &mut [u64], cpus: &[u32], run: Duration) -> f64 {
    bandwidth(parts(words, cpus.len()), cpus, run, |piece| stress::write(piece, 0x5a5a))
}

fn parts(words: &mut [u64], count: usize) -> Vec<&mut [u64]> {
    let size = words.len().div_ceil(count.max(1)).max(1);
    words.chunks_mut(size).collect()
}

/// Follows the ring on the first CPU while the others read `streamed` with pauses; returns their bandwidth in bytes
/// per second and the latency of the chase in nanoseconds. Without a pause there are no others.
fn chase_under_load(ring: &Ring<'_>, streamed: &[u64], cpus: &[u32], pause: Option<u32>, run: Duration) -> (f64, f64) {
    let loaders = if pause.is_some() { cpus.len().saturating_sub(1).max(1) } else { 0 };
    let (start, stop) = (Barrier::new(loaders + 1), AtomicBool::new(false));
    let bytes = AtomicU64::new(0);
    let (elapsed, steps) = thread::scope(|scope| {
        for index in 0..loaders {
            let size = streamed.len().div_ceil(loaders);
            let part = streamed.chunks(size).nth(index).unwrap_or(&[]);
            let (start, stop, bytes) = (&start, &stop, &bytes);
            scope.spawn(move || {
                pin_to(cpus.get(index + 1));
                start.wait();
                bytes.fetch_add(stream_until(part, pause.unwrap_or(0), stop), Ordering::Relaxed);
            });
        }
        let chase = scope.spawn(|| {
            pin_to(cpus.first());
            start.wait();
            let begun = Instant::now();
            let (mut at, mut steps) = (0, 0);
            while begun.elapsed() < run {
                at = ring.follow(at, STEPS);
                steps += STEPS;
            }
            let elapsed = begun.elapsed();
            // Relaxed: the threads only need to see it soon.
            stop.store(true, Ordering::Relaxed);
            (elapsed, steps)
        });
        chase.join().unwrap_or((run, 1))
    });
    #[expect(clippy::cast_precision_loss, reason = "run times are far below 2^53 ns")]
    let latency = nanoseconds(elapsed) as f64 / steps as f64;
    (per_second(bytes.into_inner(), nanoseconds(elapsed)), latency)
}

/// Reads in blocks of 4 KiB, resting after each, until told to stop; bytes read.
fn stream_until(part: &[u64], pause: u32, stop: &AtomicBool) -> u64 {
    let mut bytes = 0;
    while !part.is_empty() {
        for block in part.chunks(512) {
            stress::read(block);
            bytes += size_of_val(block) as u64;
            for _ in 0..pause {
                std::hint::spin_loop();
            }
            // Relaxed: as above.
            if stop.load(Ordering::Relaxed) {
                return bytes;
            }
        }
    }
    bytes
}

fn pin_to(cpu: Option<&u32>) {
    if let Some(&cpu) = cpu {
        // A thread that may not be pinned still measures; the scheduler keeps it where it is most of the time.
        let _ = cpu::pin(&[cpu]);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn per_second(bytes: u64, nanoseconds: u64) -> f64 {
    bytes as f64 * 1e9 / nanoseconds.max(1) as f64
}
