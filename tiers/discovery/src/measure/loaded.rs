//! Tiers that the CPU addresses: latency by pointer chase, bandwidth by streams, and both at once.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;
use tiermem_sys::sync::atomic::{AtomicBool, Ordering};

use tiermem_sys::cpu;
use tiermem_sys::stress::{self, Ring};
use tiermem_tiers::{Bytes, Error, Provider};

use super::pace::{Pace, Paced};
use super::{Effort, LoadPoint, Measurement, Progress, Spread, hold};

/// Loads between two looks at the clock: about 0.2 ms on slow memory, so that looking costs nothing.
const STEPS: u64 = 1024;

/// Words in the pieces of 256 KiB that a bandwidth thread works on between two looks at the clock.
const PIECE: usize = 1 << 15;

/// Words in the blocks of 4 KiB between which a load thread pauses.
const BLOCK: usize = 512;

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
    let mut kept_waiting = Vec::new();
    let mut repeat = |measure: &mut dyn FnMut() -> Paced| -> Vec<Paced> {
        // The first run faults the memory in and wakes the CPUs, and does not count.
        measure();
        let runs: Vec<Paced> = (0..effort.repeats).map(|_| measure()).collect();
        kept_waiting.extend(runs.iter().map(|run| run.kept_waiting));
        runs
    };
    result.write_bandwidth = Some(rates(&repeat(&mut || write_bandwidth(words, &effort.cpus, run))));
    progress.step(2, all, "read bandwidth");
    result.read_bandwidth = Some(rates(&repeat(&mut || read_bandwidth(words, &effort.cpus, run))));
    progress.step(3, all, "idle latency");
    // The chase has one half of the memory and the load threads the other, so that neither warms the other's lines.
    let (chased, streamed) = words.split_at_mut(words.len() / 2);
    let ring = Ring::new(chased, result.measured_at);
    let idle = latencies(&repeat(&mut || chase_under_load(&ring, streamed, &effort.cpus, None, run).1));
    result.read_latency_ns = Some(idle);
    result.loaded.push(LoadPoint { pause: None, bandwidth: Spread::default(), latency_ns: idle });
    if effort.cpus.len() < 2 {
        result.notes.push("one CPU cannot load memory and measure latency at once: no latency under load".to_owned());
    }
    let pauses = effort.pauses.iter().filter(|_| effort.cpus.len() >= 2);
    for (step, &pause) in pauses.enumerate() {
        progress.step(4 + step, all, "latency under load");
        let runs = (0..effort.repeats).map(|_| chase_under_load(&ring, streamed, &effort.cpus, Some(pause), run));
        let (loads, chases): (Vec<Paced>, Vec<Paced>) = runs.unzip();
        let (bandwidth, latency_ns) = (rates(&loads), latencies(&chases));
        result.loaded.push(LoadPoint { pause: Some(pause), bandwidth, latency_ns });
    }
    note_waiting(Spread::of(&kept_waiting).median, result);
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

fn note_waiting(part: f64, result: &mut Measurement) {
    if part > 0.1 {
        let percent = part * 100.0;
        let what = "the CPUs were busy with other work";
        let so = "figures are of their undisturbed pieces, and bandwidth, added up over threads, may be too high";
        result.notes.push(format!("{what}: threads waited {percent:.0} % of the time; {so}"));
    }
}

fn rates(runs: &[Paced]) -> Spread {
    Spread::of(&runs.iter().map(|run| run.per_second).collect::<Vec<_>>())
}

fn latencies(runs: &[Paced]) -> Spread {
    Spread::of(&runs.iter().map(|run| 1e9 / run.per_second.max(1.0)).collect::<Vec<_>>())
}

/// Lets one thread a CPU work on its own part of the memory for `run`; bytes per second of all of them together.
fn bandwidth(parts: Vec<&mut [u64]>, cpus: &[u32], run: Duration, work: fn(&mut [u64])) -> Paced {
    let start = Barrier::new(parts.len());
    thread::scope(|scope| {
        let threads: Vec<_> = parts
            .into_iter()
            .enumerate()
            .map(|(index, part)| {
                let start = &start;
                scope.spawn(move || {
                    pin_to(cpus.get(index));
                    start.wait();
                    let mut pace = Pace::default();
                    // A whole pass can take long on a slow tier, so the clock is looked at more often.
                    while pace.elapsed() < run {
                        for piece in part.chunks_exact_mut(PIECE.min(part.len().max(1))) {
                            pace.time(size_of_val(piece), || work(piece));
                            if pace.elapsed() >= run {
                                break;
                            }
                        }
                    }
                    pace.paced()
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).fold(Paced::default(), Paced::together)
    })
}

fn read_bandwidth(words: &mut [u64], cpus: &[u32], run: Duration) -> Paced {
    bandwidth(parts(words, cpus.len()), cpus, run, |piece| {
        stress::read(piece);
    })
}

fn write_bandwidth(words: &mut [u64], cpus: &[u32], run: Duration) -> Paced {
    bandwidth(parts(words, cpus.len()), cpus, run, |piece| stress::write(piece, 0x5a5a))
}

fn parts(words: &mut [u64], count: usize) -> Vec<&mut [u64]> {
    let size = words.len().div_ceil(count.max(1)).max(1);
    words.chunks_mut(size).collect()
}

/// Follows the ring on the first CPU while the others read `streamed` with pauses; returns their pace and that of the
/// chase. Without a pause there are no others.
fn chase_under_load(
    ring: &Ring<'_>,
    streamed: &[u64],
    cpus: &[u32],
    pause: Option<u32>,
    run: Duration,
) -> (Paced, Paced) {
    let loaders = if pause.is_some() { cpus.len().saturating_sub(1) } else { 0 };
    let (start, stop) = (Barrier::new(loaders + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        let threads: Vec<_> = (0..loaders)
            .map(|index| {
                let size = streamed.len().div_ceil(loaders).max(1);
                let part = streamed.chunks(size).nth(index).unwrap_or(&[]);
                let (start, stop) = (&start, &stop);
                scope.spawn(move || {
                    pin_to(cpus.get(index + 1));
                    start.wait();
                    stream_until(part, pause.unwrap_or(0), stop)
                })
            })
            .collect();
        let chase = scope.spawn(|| {
            pin_to(cpus.first());
            start.wait();
            let (mut pace, mut at) = (Pace::default(), 0);
            while pace.elapsed() < run {
                pace.time(STEPS as usize, || at = ring.follow(at, STEPS));
            }
            // Relaxed: the threads only need to see it soon.
            stop.store(true, Ordering::Relaxed);
            pace.paced()
        });
        let chase = chase.join().unwrap_or_default();
        (threads.into_iter().filter_map(|thread| thread.join().ok()).fold(Paced::default(), Paced::together), chase)
    })
}

/// Reads in blocks of 4 KiB, resting after each, until told to stop.
fn stream_until(part: &[u64], pause: u32, stop: &AtomicBool) -> Paced {
    let mut pace = Pace::default();
    // Long pauses are timed one by one, short ones together, so that timing costs little either way.
    let together = if pause < 1000 { BLOCK * 16 } else { BLOCK };
    // Relaxed: as above.
    while !part.is_empty() && !stop.load(Ordering::Relaxed) {
        for blocks in part.chunks(together) {
            pace.time(size_of_val(blocks), || {
                for block in blocks.chunks(BLOCK) {
                    stress::read(block);
                    (0..pause).for_each(|_| std::hint::spin_loop());
                }
            });
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    pace.paced()
}

fn pin_to(cpu: Option<&u32>) {
    if let Some(&cpu) = cpu {
        // A thread that may not be pinned still measures; the scheduler keeps it where it is most of the time.
        let _ = cpu::pin(&[cpu]);
    }
}
