//! Measuring a tier of a modelled system.

use tiermem_topology::DeviceKind;

use crate::cache::LINE;
use crate::model::{Direction, HostIndex, Request, System, TierIndex};
use crate::time::{Mode, Time};
use crate::workload::{Core, Thread, run};

/// Lines that a load thread reads between two pauses. Few, because the curve is steep near its end: bursts would make
/// the load waver around what it is meant to be, and the mean of the latencies is then not the latency at the mean.
const BLOCK: u64 = 4;

/// Lines that a load thread has on their way at once: an assumption about a core with prefetchers. It decides only how
/// many threads are needed.
const IN_FLIGHT: usize = 32;

/// Most threads that load a tier.
const THREADS_MAX: u64 = 256;

/// How long a measurement runs, in idle latencies. The model looks at the load of the last 126 to 252 of them, so after
/// the warm-up what it sees is steady.
const WARM_UP: f64 = 1000.0;
const MEASURED: f64 = 600.0;

/// Loads of the curve that is taken where none are asked for, as shares of the read bandwidth.
const LOADS: [f64; 11] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98];

/// What a tier looks like from one host.
#[derive(Clone, Debug, PartialEq)]
pub struct Probed {
    /// How time was told.
    pub mode: Mode,
    /// Latency without load, of a line or, for tiers that are copied, of a copy of 4 KiB; nanoseconds.
    pub read_latency_ns: f64,
    /// The same for writes.
    pub write_latency_ns: f64,
    /// Bytes per second.
    pub read_bandwidth: f64,
    /// Bytes per second.
    pub write_bandwidth: f64,
    /// Threads that it took to reach the read bandwidth.
    pub threads: u64,
    /// For memory: latency under load, from light load to full.
    pub loaded: Vec<LoadedPoint>,
    /// For tiers that are copied.
    pub copied: Option<Copied>,
}

/// A point of the loaded-latency curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadedPoint {
    /// What passes, that of the measuring thread included; bytes per second.
    pub bandwidth: f64,
    /// Latency of a dependent load meanwhile, nanoseconds.
    pub latency_ns: f64,
}

/// What small copies get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Copied {
    /// 4 KiB reads a second with full queues.
    pub read_iops: f64,
    /// 4 KiB writes a second with full queues.
    pub write_iops: f64,
}

/// How the load threads are driven.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loaded {
    /// So many bytes per second, by blocks that begin at fixed times.
    Paced(f64),
    /// So many lines on their way at any time, the one that is measured included.
    InFlight(u64),
}

/// Measures `tier` as `host` sees it, on a model that starts out idle.
///
/// # Panics
/// If `host` has no way to `tier`.
pub fn probe(system: &System, host: HostIndex, tier: TierIndex) -> Probed {
    let bench = Bench { system, host, tier };
    match system.tiers().get(usize::from(tier.0)).and_then(|info| info.kind) {
        None | Some(DeviceKind::Cxl) => bench.memory(&LOADS),
        Some(_) => bench.copied(),
    }
}

/// Measures the latency under one load.
///
/// # Panics
/// If `host` has no way to `tier`.
pub fn probe_at(system: &System, host: HostIndex, tier: TierIndex, load: Loaded) -> LoadedPoint {
    let bench = Bench { system, host, tier };
    let idle = bench.idle(Direction::Read, 64);
    match load {
        Loaded::Paced(bandwidth) => bench.paced(bandwidth, idle),
        Loaded::InFlight(lines) => bench.in_flight(lines, idle),
    }
}

/// What is measured.
pub(super) struct Bench<'s> {
    pub(super) system: &'s System,
    pub(super) host: HostIndex,
    pub(super) tier: TierIndex,
}

/// A thread's part of the work.
struct Worker {
    /// Its next line.
    line: u64,
    /// Where its part ends, if it does not begin again before.
    last: u64,
    /// When its next block begins, and how far the blocks are apart; zero for no pauses.
    next: Time,
    period: Time,
    /// Reads of a hundred accesses; the others write.
    reads: u64,
    /// Accesses made, and those of them in the time that counts, with the sum of their latencies.
    made: u64,
    counted: u64,
    latency: Time,
}

impl Bench<'_> {
    fn memory(&self, loads: &[f64]) -> Probed {
        let [read_latency_ns, write_latency_ns] =
            [Direction::Read, Direction::Write].map(|direction| self.idle(direction, 64));
        let (threads, read_bandwidth) = self.most(100, read_latency_ns);
        let (_, write_bandwidth) = self.most(0, write_latency_ns);
        let idle = LoadedPoint { bandwidth: 64e9 / read_latency_ns, latency_ns: read_latency_ns };
        let points = loads.iter().map(|load| self.paced(load * read_bandwidth, read_latency_ns));
        Probed {
            mode: Mode::Virtual,
            read_latency_ns,
            write_latency_ns,
            read_bandwidth,
            write_bandwidth,
            threads,
            loaded: std::iter::once(idle).chain(points).collect(),
            copied: None,
        }
    }

    fn copied(&self) -> Probed {
        const SMALL: u32 = 4096;
        const LARGE: u32 = 2 << 20;
        let both = [Direction::Read, Direction::Write];
        let [read_latency_ns, write_latency_ns] = both.map(|direction| self.idle(direction, SMALL));
        let [read_bandwidth, write_bandwidth] =
            both.map(|direction| self.copies(direction, LARGE, 64) * f64::from(LARGE));
        let [read_iops, write_iops] = both.map(|direction| self.copies(direction, SMALL, 4096));
        Probed {
            mode: Mode::Virtual,
            read_latency_ns,
            write_latency_ns,
            read_bandwidth,
            write_bandwidth,
            threads: 1,
            loaded: Vec::new(),
            copied: Some(Copied { read_iops, write_iops }),
        }
    }

    /// Nanoseconds of accesses that wait for each other.
    pub(super) fn idle(&self, direction: Direction, len: u32) -> f64 {
        const STEPS: u32 = 1000;
        let mut system = self.system.clone();
        let mut thread = Thread::new(self.host, Core::default());
        for step in 0..STEPS {
            // All over the place, as a chase is.
            let offset = u64::from(step.wrapping_mul(2_654_435_761) >> 8) * 4096 % (256 << 20);
            thread.send_and_wait(&mut system, self.request(direction, offset, len));
        }
        thread.now().as_ns() / f64::from(STEPS)
    }

    /// Copies a second with `in_flight` of them at a time.
    #[expect(clippy::cast_precision_loss, reason = "counts of a few thousand")]
    fn copies(&self, direction: Direction, len: u32, in_flight: usize) -> f64 {
        let mut system = self.system.clone();
        let mut thread = Thread::new(self.host, Core { lines_in_flight: in_flight, issue_ns: 0.001 });
        let (warm_up, counted) = (4 * in_flight as u64, 16 * in_flight as u64);
        let mut begun = Time::ZERO;
        for n in 0..warm_up + counted {
            if n == warm_up {
                begun = thread.now();
            }
            let offset = n * u64::from(len) % (256 << 20);
            thread.send(&mut system, self.request(direction, offset, len));
        }
        counted as f64 * 1e9 / thread.now().since(begun).as_ns()
    }

    /// Bandwidth of `reads` of a hundred accesses with as many threads as it takes, and their number.
    pub(super) fn most(&self, reads: u64, idle_ns: f64) -> (u64, f64) {
        let mut best = (1, self.streams(1, reads, idle_ns));
        while best.0 < THREADS_MAX {
            let threads = best.0 * 2;
            let bandwidth = self.streams(threads, reads, idle_ns);
            if bandwidth < best.1 * 1.001 {
                break;
            }
            best = (threads, bandwidth);
        }
        best
    }

    /// Bytes per second of `threads` that pause never.
    fn streams(&self, threads: u64, reads: u64, idle_ns: f64) -> f64 {
        let workers = (0..threads).map(|index| Worker::new(index, Time::ZERO, Time::ZERO, reads)).collect();
        let core = Core { lines_in_flight: IN_FLIGHT, issue_ns: 0.1 };
        self.run(workers, core, false, idle_ns).bandwidth
    }

    /// A chase while others read `bandwidth` bytes a second, less what the chase itself takes.
    pub(super) fn paced(&self, bandwidth: f64, idle_ns: f64) -> LoadedPoint {
        let threads = self.threads_for(bandwidth, idle_ns);
        let load = (bandwidth - 64e9 / idle_ns).max(bandwidth * 0.01);
        #[expect(clippy::cast_precision_loss, reason = "at most 256")]
        let period = Time::from_ns((BLOCK * LINE) as f64 * threads as f64 / load * 1e9);
        // One after the other, not all at once.
        let workers = (0..threads).map(|index| Worker::new(index, Time(period.0 / threads * index), period, 100));
        let core = Core { lines_in_flight: IN_FLIGHT, issue_ns: 0.1 };
        self.run(workers.collect(), core, true, idle_ns)
    }

    /// A chase while others have one line less than `lines` on their way at any time.
    pub(super) fn in_flight(&self, lines: u64, idle_ns: f64) -> LoadedPoint {
        let workers = (1..lines.max(2)).map(|index| Worker::new(index, Time::ZERO, Time::ZERO, 100)).collect();
        self.run(workers, Core { lines_in_flight: 1, issue_ns: 0.0 }, true, idle_ns)
    }

    /// Threads that can carry a load even if every line takes four times as long as when idle.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
    fn threads_for(&self, bandwidth: f64, idle_ns: f64) -> u64 {
        #[expect(clippy::cast_precision_loss, reason = "32")]
        let each = IN_FLIGHT as f64 * 64e9 / (4.0 * idle_ns);
        ((bandwidth / each).ceil() as u64).clamp(1, THREADS_MAX)
    }

    /// Lets `workers` go on, beside a chase if there is to be one, and counts what happens after the warm-up.
    #[expect(clippy::cast_precision_loss, reason = "counts, for a ratio")]
    fn run(&self, workers: Vec<Worker>, core: Core, chase: bool, idle_ns: f64) -> LoadedPoint {
        let mut system = self.system.clone();
        let warm = Time::from_ns(WARM_UP * idle_ns);
        let end = warm + Time::from_ns(MEASURED * idle_ns);
        let chaser = chase.then(|| (Thread::new(self.host, core), Worker::new(0, Time::ZERO, Time::ZERO, 100)));
        let mut threads: Vec<(Thread, Worker)> = chaser
            .into_iter()
            .chain(workers.into_iter().map(|worker| (Thread::new(self.host, core), worker)))
            .collect();
        run(&mut threads, |index, thread, worker| {
            let chasing = chase && index == 0;
            if !chasing && worker.made.is_multiple_of(BLOCK) && worker.period > Time::ZERO && thread.now() < worker.next
            {
                // The turn goes on when its time has come.
                thread.wait_until(worker.next);
                return true;
            }
            if worker.made.is_multiple_of(BLOCK) {
                worker.next += worker.period;
            }
            let begun = thread.now();
            let direction = if worker.made % 100 < worker.reads { Direction::Read } else { Direction::Write };
            let request = self.request(direction, worker.step(chasing) * LINE, 64);
            if chasing || core.lines_in_flight == 1 {
                thread.send_and_wait(&mut system, request);
            } else {
                thread.send(&mut system, request);
            }
            if begun >= warm && begun < end {
                worker.counted += 1;
                worker.latency += thread.now().since(begun);
            }
            thread.now() < end
        });
        let lines: u64 = threads.iter().map(|(_, worker)| worker.counted).sum();
        let bandwidth = (lines * LINE) as f64 * 1e9 / end.since(warm).as_ns();
        let latency_ns = threads.first().map_or(0.0, |(_, chase)| chase.latency.as_ns() / chase.counted.max(1) as f64);
        LoadedPoint { bandwidth, latency_ns }
    }

    const fn request(&self, direction: Direction, offset: u64, len: u32) -> Request {
        Request { host: self.host, tier: self.tier, direction, offset, len }
    }
}

impl Worker {
    fn new(index: u64, next: Time, period: Time, reads: u64) -> Self {
        // A megabyte each, and none aligned with another, so that they meet on every device of a set.
        let line = index * (1 << 14) + index * 5;
        Self { line, last: line + (1 << 14), next, period, reads, made: 0, counted: 0, latency: Time::ZERO }
    }

    /// The line of the next access.
    fn step(&mut self, chasing: bool) -> u64 {
        self.made += 1;
        if chasing {
            return self.made.wrapping_mul(2_654_435_761) % (1 << 22);
        }
        let line = self.line;
        self.line = if line + 1 < self.last { line + 1 } else { self.last - (1 << 14) };
        line
    }
}
