//! The algorithms of the predictions. Each really runs: its data structure is built, its addresses come from following
//! it, and every access goes through the caches of a [`Machine`]. One thread on core 0, unless it says otherwise.
//!
//! A load whose value decides what comes next is waited for. All others overlap, as an out-of-order core would have it.

mod btree;
mod graph;
mod store;

use tiermem_topology::Topology;

use super::{Core, Machine, Thread};
use crate::cache::{CacheConfig, LINE};
use crate::model::{HostIndex, System, TierIndex};
use crate::random::Random;
use crate::time::{Elapsed, Time, Virtual};

pub use btree::{btree, line_uses};
pub use graph::bfs;
pub use store::{Zipf, zipf_store};

/// Where and how a kernel runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Who runs it.
    pub host: HostIndex,
    /// The tier that holds the data.
    pub tier: TierIndex,
    /// The caches of the host.
    pub caches: CacheConfig,
    /// Its cores.
    pub core: Core,
}

/// What a kernel took, after a warm-up that fills the caches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// How long.
    pub elapsed: Elapsed<Virtual>,
    /// Operations: steps, lines, updates, lookups, edges.
    pub operations: u64,
    /// Lines read from memory.
    pub misses: u64,
}

impl Outcome {
    /// Nanoseconds an operation.
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    pub fn ns_each(&self) -> f64 {
        self.elapsed.time().as_ns() / self.operations.max(1) as f64
    }

    /// Lines read from memory by an operation.
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    pub fn misses_each(&self) -> f64 {
        self.misses as f64 / self.operations.max(1) as f64
    }
}

/// A machine and one thread on it.
pub(super) struct Run {
    pub(super) machine: Machine<System>,
    pub(super) thread: Thread,
    begun: Time,
    misses_before: u64,
}

impl Run {
    /// `None` if the topology or the caches cannot be modelled.
    pub(super) fn new(topology: &Topology, setting: &Setting) -> Option<Self> {
        let machine = Machine::new(topology, setting.host, &setting.caches, 1)?;
        let thread = machine.thread(setting.core);
        Some(Self { machine, thread, begun: Time::ZERO, misses_before: 0 })
    }

    pub(super) fn load(&mut self, address: u64) {
        self.machine.load(&mut self.thread, 0, address);
    }

    pub(super) fn touch(&mut self, address: u64, store: bool) {
        self.machine.touch(&mut self.thread, 0, address, store);
    }

    /// The warm-up is over.
    pub(super) fn begin(&mut self) {
        self.thread.drain();
        self.begun = self.thread.now();
        self.misses_before = self.machine.misses(0);
    }

    pub(super) fn end(mut self, operations: u64) -> Outcome {
        self.thread.drain();
        let elapsed = Elapsed::new(self.thread.now().since(self.begun));
        Outcome { elapsed, operations, misses: self.machine.misses(0) - self.misses_before }
    }
}

/// Follows pointers through `lines` lines in one random cycle (Sattolo's algorithm) for `steps` steps. An operation is a
/// step. `None` if the setting cannot be modelled.
pub fn chase(topology: &Topology, setting: &Setting, lines: usize, steps: u64) -> Option<Outcome> {
    let mut next: Vec<u32> = (0..u32::try_from(lines).ok()?).collect();
    let mut random = Random::new(1);
    for at in (1..lines).rev() {
        #[expect(clippy::cast_possible_truncation, reason = "below `lines`")]
        next.swap(at, random.below(at as u64) as usize);
    }
    let mut run = Run::new(topology, setting)?;
    let base = run.machine.place(setting.tier, lines as u64 * LINE).base;
    let mut at = 0_u32;
    for step in 0..lines as u64 + steps {
        if step == lines as u64 {
            run.begin();
        }
        run.load(base + u64::from(at) * LINE);
        at = next[at as usize];
    }
    Some(run.end(steps))
}

/// Reads `bytes` word by word, on `threads` cores, each its own part. An operation is a line. `None` if the setting cannot
/// be modelled.
pub fn stream(topology: &Topology, setting: &Setting, threads: u32, bytes: u64) -> Option<Outcome> {
    let mut machine = Machine::new(topology, setting.host, &setting.caches, threads)?;
    let placed = machine.place(setting.tier, bytes);
    let part = bytes / u64::from(threads) / LINE * LINE;
    let mut workers: Vec<(Thread, u64)> = (0..threads).map(|_| (machine.thread(setting.core), 0)).collect();
    // Half of it warms up: by then the model has seen a steady load.
    let mut begun = vec![Time::ZERO; threads as usize];
    super::run(&mut workers, |index, thread, done| {
        if *done == part / 2 / LINE * LINE {
            begun[index] = thread.now();
        }
        #[expect(clippy::cast_possible_truncation, reason = "below `threads`")]
        let core = index as u32;
        for word in 0..LINE / 8 {
            machine.touch(thread, core, placed.base + u64::from(core) * part + *done + word * 8, false);
        }
        *done += LINE;
        *done < part
    });
    let lines = (part - part / 2 / LINE * LINE) / LINE;
    // What each thread did in a second of its own counts, so that it does not matter who ends first.
    let took = workers.iter().zip(begun).map(|((thread, _), begun)| thread.now().since(begun));
    #[expect(clippy::cast_precision_loss, reason = "lines, for a rate")]
    let rate: f64 = took.map(|time| lines as f64 / time.as_ns()).sum();
    let all = lines * u64::from(threads);
    #[expect(clippy::cast_precision_loss, reason = "lines, for a length of time")]
    let elapsed = Time::from_ns(all as f64 / rate);
    Some(Outcome { elapsed: Elapsed::new(elapsed), operations: all, misses: all })
}

/// Random updates (GUPS): reads a word somewhere in `bytes`, changes it, writes it back; none waits for another. An
/// operation is an update. `None` if the setting cannot be modelled.
pub fn updates(topology: &Topology, setting: &Setting, bytes: u64, updates: u64) -> Option<Outcome> {
    let mut run = Run::new(topology, setting)?;
    let base = run.machine.place(setting.tier, bytes).base;
    let mut random = Random::new(2);
    let warm_up = updates.max(4 * total_cache_lines(&setting.caches));
    for update in 0..warm_up + updates {
        if update == warm_up {
            run.begin();
        }
        let word = base + random.below(bytes / 8) * 8;
        run.touch(word, false);
        run.touch(word, true);
    }
    Some(run.end(updates))
}

/// Lines of all levels together.
pub(super) fn total_cache_lines(caches: &CacheConfig) -> u64 {
    caches.levels().map(|level| level.size / LINE).sum()
}

/// What a kernel takes, on two tiers of the same topology: how many times as long on the second.
pub fn slowdown(mut kernel: impl FnMut(TierIndex) -> Option<Outcome>, near: TierIndex, far: TierIndex) -> Option<f64> {
    let (near, far) = (kernel(near)?, kernel(far)?);
    far.elapsed.over(near.elapsed)
}
