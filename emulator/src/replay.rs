//! How long a recorded run would take elsewhere.
//!
//! A trace's accesses go through a cache model ([`cache`](crate::cache)) and, where they miss, to device models
//! ([`Serve`]), with a clock for each thread. Nothing is executed and nothing is drawn by chance: the same trace, machine and
//! placement give the same picosecond each time.
//!
//! # What a thread's clock does
//!
//! The gap before an access (instructions, or the recorded time) is work, and takes as long as [`Config`] says. Accesses
//! begin in the order of the trace; what may overlap is an assumption about the core, the same for all tiers:
//!
//! - an access whose address *depends* on the value of the last load begins when that load is done;
//! - others do not wait, but at most [`outstanding`](Config::outstanding) lines are on their way at a time, and no access
//!   runs ahead of one that is not done by more than [`window`](Config::window) accesses, for a core has only so many line
//!   fill buffers and load queue entries;
//! - hits cost their level's latency to those that depend on them (or what is left until the line comes, if it is still
//!   on its way), and nothing to others;
//! - a store that misses reads its line and is waited for only through these limits.
//!
//! What is waited for is lost to the place that was waited for: a tier and an allocation site, or the caches.
//!
//! # Several threads
//!
//! The thread that is furthest behind in virtual time goes on, so that requests reach the devices in the order of virtual
//! time, give or take a [`quantum`](Config::quantum). But allocations and frees happen in the order in which they were
//! recorded, and no thread passes one that came before: each access belongs to the block that was there when it was recorded.
//! How threads waited for one another is not in a trace; such waiting counts as work where the trace's clock is real time.

mod access;
mod batch;
mod clock;
mod extents;
mod lane;
mod placing;
mod report;
mod space;
mod table;
mod tally;
#[cfg(test)]
mod tests;
mod work;

use std::fmt;

use crate::cache::{CacheConfig, CacheConfigError, CoreIndex, Hierarchy};
use crate::model::{HostIndex, Serve};
use crate::time::Time;
use crate::trace::{Clock, Completeness, Error, Provenance, ReadAt, StreamId, Trace};

use access::Accesses;
use clock::ThreadClock;
use extents::keep_their_sets;
use lane::Lane;
use space::Space;
use table::Table;
use work::Work;

pub use placing::{NamedFrame, PlaceError, Placement, Rule, SiteNames};
pub use report::{Count, Report, SiteReport, ThreadReport, TierReport};
pub use tally::{Amount, SiteTally, Tally, tally};

/// Which accesses wait for the load before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dependence {
    /// Those that the trace marks. Of sources that cannot tell (lackey), that is none.
    #[default]
    Recorded,
    /// All: nothing overlaps. The slowest that the program can be.
    All,
    /// None: all that fits overlaps. The fastest.
    Never,
}

/// What is assumed about the machine, beside its memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The caches.
    pub caches: CacheConfig,
    /// Cores; threads beyond them share caches in turn.
    pub cores: u32,
    /// Lines that a core can wait for at once. 16: the L1 fill buffers of Golden Cove (Intel 64 and IA-32 Architectures
    /// Optimization Reference Manual).
    pub outstanding: u32,
    /// Accesses that a core can run ahead of one that is not done. 192: the load queue of Golden Cove (same source).
    pub window: u32,
    /// Which accesses wait for the load before them.
    pub dependence: Dependence,
    /// What an instruction takes where memory does not hold it up; nanoseconds. 1/6: two a cycle at 3 GHz (assumed).
    pub instruction_ns: f64,
    /// Real and virtual times of the trace are multiplied by this. They contain what the recorded machine waited for its
    /// own memory, which a value under 1 can take out.
    pub work_factor: f64,
    /// How far threads may differ in virtual time before the order of their requests counts.
    pub quantum: Time,
    /// The host whose way to the memory it is.
    pub host: HostIndex,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            caches: CacheConfig::default(),
            cores: 64,
            outstanding: 16,
            window: 192,
            dependence: Dependence::Recorded,
            instruction_ns: 1.0 / 6.0,
            work_factor: 1.0,
            quantum: Time(200_000),
            host: HostIndex(0),
        }
    }
}

impl Config {
    /// Picoseconds of a tick.
    fn tick_ps(&self, clock: Clock) -> f64 {
        match clock {
            Clock::RealNs => 1e3 * self.work_factor,
            Clock::VirtualPs => self.work_factor,
            Clock::Instructions | Clock::Order => 1e3 * self.instruction_ns,
        }
    }
}

/// Room for the levels of any caches.
const LEVELS_MAX: usize = 8;

/// Why a trace cannot be replayed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReplayError {
    /// It does not hold every access. (A [`tally`] of it can be made.)
    NotExact(Completeness),
    /// It holds no accesses, nor, for a [`tally`], allocations.
    Empty,
    /// The caches cannot be built.
    Caches(CacheConfigError),
    /// A figure is out of bounds: which, and what it may be.
    Config(&'static str),
    /// The trace cannot be read.
    Trace(Error),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotExact(Completeness::Absent) => f.write_str(
                "the trace holds no accesses, and so nothing that could wait for memory: record them with `tierctl \
                 instrument`, or import them from lackey",
            ),
            Self::NotExact(_) => f.write_str(
                "the trace holds samples or counts of accesses, from which no caches and no waiting can be computed: a \
                 replay needs every access, from `tierctl instrument` or lackey",
            ),
            Self::Empty => f.write_str("the trace holds no accesses, and no allocations"),
            Self::Caches(error) => write!(f, "caches: {error}"),
            Self::Config(what) => f.write_str(what),
            Self::Trace(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ReplayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Trace(error) => Some(error),
            Self::Caches(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for ReplayError {
    fn from(error: Error) -> Self {
        Self::Trace(error)
    }
}

/// Replays `trace` with its memory placed by `placement` on what `memory` models.
///
/// # Errors
/// If the trace does not hold every access, cannot be read, or the configuration is out of bounds.
pub fn replay<S: ReadAt, M: Serve>(
    trace: &Trace<S>,
    memory: M,
    placement: Placement,
    config: &Config,
) -> Result<Report, ReplayError> {
    let [report] = replay_side_by_side(trace, [(memory, placement)], config)?;
    Ok(report)
}

/// Replays `trace` with its memory placed in each of several ways, on a model for each; the reports are those of as many calls of
/// [`replay`].
///
/// Of a trace of one thread, decoding and the caches' work are done once for all of them, because what the caches do does not
/// depend on how long memory takes. Of several threads it does: where they meet, the faster one comes first. Such a trace is
/// replayed as often as there are placements.
///
/// ```
/// use tiermem_emulator::model::{System, TierIndex};
/// use tiermem_emulator::replay::{Config, Placement, replay_side_by_side};
/// use tiermem_emulator::trace::{Access, Completeness, Event, Provenance, StreamId, Strictness, Trace, Writer};
/// use tiermem_topology::Topology;
///
/// // A hundred loads, each of which waits for the one before.
/// let from = Provenance { accesses: Completeness::Exact, ..Provenance::default() };
/// let mut writer = Writer::new(Vec::new(), &from)?;
/// for n in 0..100 {
///     let access = Access { at: n, address: 0x7f00_0000_0000 + n * 4096, len: 8, write: false, dependent: true };
///     writer.event(StreamId(1), &Event::Access(access))?;
/// }
/// let bytes = writer.finish()?;
/// let trace = Trace::new(bytes.as_slice(), Strictness::Strict)?;
///
/// let system = System::new(&Topology::load("one-expander")?)?;
/// let capacities: Vec<u64> = system.tiers().iter().map(|tier| tier.capacity.0).collect();
/// let on = |tier: &str| (system.clone(), Placement::all(system.tier(tier).unwrap(), capacities.clone()));
/// let [near, far] = replay_side_by_side(&trace, [on("dram"), on("cxl0")], &Config::default())?;
/// assert_eq!(near.total.misses, far.total.misses);
/// assert!(far.end > near.end);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`replay`].
pub fn replay_side_by_side<S: ReadAt, M: Serve, const N: usize>(
    trace: &Trace<S>,
    placed: [(M, Placement); N],
    config: &Config,
) -> Result<[Report; N], ReplayError> {
    const { assert!(N > 0, "nothing to replay on") };
    check(trace.provenance(), config)?;
    if trace.streams().count() <= 1 {
        return Replay::new(trace, placed, config)?.run_and_report(trace, config);
    }
    let mut reports = Vec::with_capacity(N);
    for one in placed {
        reports.extend(Replay::new(trace, [one], config)?.run_and_report(trace, config)?);
    }
    Ok(reports.try_into().unwrap_or_else(|_| unreachable!("a report for each placement")))
}

fn check(from: &Provenance, config: &Config) -> Result<(), ReplayError> {
    if from.accesses != Completeness::Exact {
        return Err(ReplayError::NotExact(from.accesses));
    }
    if !(1..=1024).contains(&config.outstanding) {
        return Err(ReplayError::Config("lines on their way at once: 1 to 1024"));
    }
    if config.window == 0 || config.cores == 0 {
        return Err(ReplayError::Config("the window and the number of cores are at least 1"));
    }
    let bounded = |value: f64| (0.0..=1e6).contains(&value);
    if !bounded(config.instruction_ns) || !bounded(config.work_factor) {
        return Err(ReplayError::Config("times of instructions and factors of work are 0 to a million"));
    }
    Ok(())
}

/// What all threads share.
struct Machine<M, const N: usize> {
    caches: Hierarchy,
    /// By placement.
    memories: [M; N],
    space: Space<N>,
    host: HostIndex,
    /// Picoseconds of a hit, by level, from 1.
    hit_ps: [u64; LEVELS_MAX + 1],
    dependence: Dependence,
}

struct Replay<'t, S, M, const N: usize> {
    machine: Machine<M, N>,
    lanes: Vec<Lane<'t, S, N>>,
    quantum: u64,
    common_clock: bool,
}

impl<'t, S: ReadAt, M: Serve, const N: usize> Replay<'t, S, M, N> {
    fn new(trace: &'t Trace<S>, placed: [(M, Placement); N], config: &Config) -> Result<Self, ReplayError> {
        let streams: Vec<StreamId> = trace.streams().map(|(id, ..)| id).collect();
        let cores = config.cores.min(streams.len().max(1) as u32);
        let caches = Hierarchy::new(&config.caches, cores).map_err(ReplayError::Caches)?;
        let mut hit_ps = [0; LEVELS_MAX + 1];
        for (ps, level) in hit_ps[1..].iter_mut().zip(config.caches.levels()) {
            *ps = Time::from_ns(level.latency_ns).0;
        }
        let from = trace.provenance();
        let placements = placed.each_ref().map(|(_, placement)| placement.clone());
        let memories = placed.map(|(memory, _)| memory);
        let machine = Machine {
            caches,
            memories,
            space: Space::new(placements, keep_their_sets(&config.caches)),
            host: config.host,
            hit_ps,
            dependence: config.dependence,
        };
        let start = if from.common_clock { trace.readable().times.map_or(0, |(first, _)| first) } else { 0 };
        let several = streams.len() > 1 && from.common_clock;
        let mut lanes = Vec::new();
        for (index, stream) in streams.into_iter().enumerate() {
            let core = CoreIndex(index as u32 % cores);
            let clock = || ThreadClock::new(config.outstanding as usize, config.window.into());
            let accesses = Accesses::new(core, clock);
            let work = Work::new(start, config.tick_ps(from.clock));
            lanes.push(Lane::new(stream, trace.cursor(stream), accesses, work, several)?);
        }
        Ok(Self { machine, lanes, quantum: config.quantum.0, common_clock: from.common_clock })
    }

    fn run(&mut self) -> Result<(), ReplayError> {
        let mut order: Vec<usize> = Vec::new();
        loop {
            order.clear();
            order.extend((0..self.lanes.len()).filter(|&lane| !self.lanes[lane].is_done()));
            if order.is_empty() {
                return Ok(());
            }
            order.sort_unstable_by_key(|&lane| (self.lanes[lane].now(), lane));
            // One of them can always go on: the one whose next event was recorded first.
            let mut progress = false;
            for at in 0..order.len() {
                // Those behind the first one may go on while it cannot, but not further than they are allowed to be apart.
                let limit = order.get(at + 1).map_or(u64::MAX, |&next| self.lanes[next].now());
                if self.step(order[at], limit.saturating_add(self.quantum))? {
                    progress = true;
                    break;
                }
            }
            debug_assert!(progress, "no thread can go on");
            if !progress {
                return Ok(());
            }
        }
    }

    /// Has a thread go on until it is ahead of `limit`, or must wait for others. False if it must wait at once.
    fn step(&mut self, index: usize, limit: u64) -> Result<bool, ReplayError> {
        if let Some(event) = self.lanes[index].barrier() {
            if self.common_clock && self.earliest_of_others(index)? < event.at() {
                return Ok(false);
            }
            self.lanes[index].pass_barrier();
            self.machine.space.happen(&event);
            return Ok(true);
        }
        if self.lanes.len() == 1 {
            self.lanes[index].run_alone(&mut self.machine)?;
            return Ok(true);
        }
        let bound = if self.common_clock { self.barrier_of_others(index) } else { u64::MAX };
        self.lanes[index].run(&mut self.machine, limit, bound)
    }

    /// The time of the first event that another thread has still to do.
    fn earliest_of_others(&mut self, index: usize) -> Result<u64, ReplayError> {
        let mut earliest = u64::MAX;
        for other in (0..self.lanes.len()).filter(|&other| other != index) {
            earliest = earliest.min(self.lanes[other].next_time(&mut self.machine)?);
        }
        Ok(earliest)
    }

    /// The time up to which no other thread allocates or frees.
    fn barrier_of_others(&self, index: usize) -> u64 {
        let others = self.lanes.iter().enumerate().filter(|&(other, _)| other != index);
        others.map(|(_, lane)| lane.barrier_bound()).min().unwrap_or(u64::MAX)
    }

    fn run_and_report(mut self, trace: &Trace<S>, config: &Config) -> Result<[Report; N], ReplayError> {
        self.run()?;
        let mut damage = Vec::new();
        for lane in &mut self.lanes {
            lane.finish();
            damage.extend(lane.take_damage());
        }
        let reports: [Report; N] = std::array::from_fn(|placement| {
            let (mut all, mut threads) = (Table::default(), Vec::new());
            for lane in &self.lanes {
                let table = lane.table(placement);
                threads.push(lane.report(placement, &table, trace.catalog()));
                all.add(&table);
            }
            Report::new(placement, threads, &all, &self.machine.space, trace, config, &damage)
        });
        if reports[0].total.accesses == 0 { Err(ReplayError::Empty) } else { Ok(reports) }
    }
}
