//! Caches in front of a modelled system.

use tiermem_topology::Topology;

use super::{Core, Thread};
use crate::cache::{CacheConfig, CoreIndex, Hierarchy, LINE, Lookup, Traffic};
use crate::model::{Direction, HostIndex, Request, Serve, System, TierIndex};
use crate::time::Time;

/// A host with caches, threads on cores of their own, and data in its tiers.
#[derive(Debug)]
pub struct Machine<S = System> {
    memory: S,
    host: HostIndex,
    caches: Hierarchy,
    /// Latency of each level.
    levels: Vec<Time>,
    places: Vec<Placed>,
}

/// A piece of data in a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Address of its first byte.
    pub base: u64,
    /// Bytes.
    pub len: u64,
    /// Where it lies.
    pub tier: TierIndex,
}

impl Machine<System> {
    /// A host of `topology` with empty caches of `cores` cores. `None` if it cannot be modelled or the caches are not
    /// valid.
    pub fn new(topology: &Topology, host: HostIndex, caches: &CacheConfig, cores: u32) -> Option<Self> {
        Self::over(System::new(topology).ok()?, host, caches, cores)
    }

    /// The model behind the caches.
    pub const fn system(&self) -> &System {
        &self.memory
    }
}

impl<S: Serve> Machine<S> {
    /// A host over any memory.
    pub fn over(memory: S, host: HostIndex, caches: &CacheConfig, cores: u32) -> Option<Self> {
        let levels = caches.levels().map(|level| Time::from_ns(level.latency_ns)).collect();
        let caches = Hierarchy::new(caches, cores).ok()?;
        Some(Self { memory, host, caches, levels, places: Vec::new() })
    }

    /// Puts `len` bytes into `tier`, behind what is there already.
    pub fn place(&mut self, tier: TierIndex, len: u64) -> Placed {
        // Far apart, so that pieces do not share lines or OS pages.
        let base = self.places.last().map_or(1 << 30, |last| (last.base + last.len).next_multiple_of(1 << 30));
        let placed = Placed { base, len, tier };
        self.places.push(placed);
        placed
    }

    /// A thread on core `index`.
    pub fn thread(&self, core: Core) -> Thread {
        Thread::new(self.host, core)
    }

    /// A load whose value is needed at once.
    pub fn load(&mut self, thread: &mut Thread, core: u32, address: u64) {
        if let Some(done) = self.access(thread, core, address, false, true) {
            thread.wait_until(done);
        }
    }

    /// A load or store that nothing waits for.
    pub fn touch(&mut self, thread: &mut Thread, core: u32, address: u64, store: bool) {
        self.access(thread, core, address, store, false);
    }

    /// Lines that core `core` read from memory so far.
    pub fn misses(&self, core: u32) -> u64 {
        self.caches.counts(CoreIndex(core)).misses
    }

    /// Accesses of core `core` so far.
    pub fn accesses(&self, core: u32) -> u64 {
        self.caches.counts(CoreIndex(core)).accesses()
    }

    fn access(&mut self, thread: &mut Thread, core: u32, address: u64, store: bool, needed: bool) -> Option<Time> {
        let (memory, host, places) = (&mut self.memory, self.host, &self.places);
        let now = thread.now();
        let lookup = self.caches.access(CoreIndex(core), address, store, &mut |traffic| {
            // Nobody waits for these.
            let (line, direction) = match traffic {
                Traffic::WriteBack(line) => (line, Direction::Write),
                Traffic::Prefetch(line) => (line, Direction::Read),
            };
            if let Some(request) = request(places, host, line, direction) {
                memory.serve(now, request);
            }
        });
        match lookup {
            Lookup::Hit(level) | Lookup::Prefetched(level) => {
                let latency = self.levels.get(usize::from(level) - 1).copied().unwrap_or_default();
                if needed {
                    return Some(now + latency);
                }
                thread.compute(thread.issue);
                None
            }
            Lookup::Miss => {
                let request = request(places, host, address, Direction::Read)?;
                if needed {
                    return Some(memory.serve(now, request));
                }
                thread.send(memory, request);
                None
            }
        }
    }
}

/// The request for the line of `address`; `None` where nothing was placed.
fn request(places: &[Placed], host: HostIndex, address: u64, direction: Direction) -> Option<Request> {
    let line = address & !(LINE - 1);
    let placed = places.iter().rev().find(|placed| placed.base <= line)?;
    #[expect(clippy::cast_possible_truncation, reason = "64")]
    let len = LINE as u32;
    Some(Request { host, tier: placed.tier, direction, offset: line - placed.base, len })
}
