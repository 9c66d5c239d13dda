//! All of it together.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::Overlap;
use super::clock::{Clock, LANES};
use super::filter::Known;
use super::placing::{Placing, Rules};
use super::recent::{RECENT, Recent};
use super::space::{PageHasher, Space};
use crate::cache::{CacheConfig, CacheConfigError, CoreIndex, Hierarchy, LINE, Traffic};
use crate::model::{HostIndex, Serve};
use crate::time::Time;

/// Number of a thread, in the order of their beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadIndex(pub u32);

/// What a thread did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Loads of 1 to 16 bytes.
    pub loads: u64,
    /// Stores, likewise; an atomic read-modify-write is one.
    pub stores: u64,
    /// Bytes of the loads.
    pub bytes_loaded: u64,
    /// Bytes of the stores.
    pub bytes_stored: u64,
    /// Ranges that were read: by `memcpy` and its kin, or wider than 16 bytes.
    pub ranges_loaded: u64,
    /// Ranges that were written.
    pub ranges_stored: u64,
    /// Bytes of the ranges that were read.
    pub range_bytes_loaded: u64,
    /// Bytes of the ranges that were written.
    pub range_bytes_stored: u64,
    /// Lines found, by level.
    pub hits: [u64; 4],
    /// Lines read from memory.
    pub misses: u64,
    /// Picoseconds waited for lines that the first level did not have.
    pub waited_ps: u64,
}

/// A thread of the program.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) core: CoreIndex,
    pub(super) clock: Clock,
    pub(super) start_ps: u64,
    pub(super) counts: Counts,
    pub(super) ended: bool,
    pub(super) recent: Recent,
    /// Ranges and events of the batch that is going on.
    pub(super) others: u64,
    /// Lines of its ranges, and second lines of its accesses.
    pub(super) more_lines: u64,
    /// Lines that the first level did not have, or that were prefetched into it.
    pub(super) beyond: u64,
}

/// Puts the accesses of a program's threads through caches into memory.
///
/// Threads bring their accesses in batches, whole ones at a time: inside a batch a thread sees the others' lines and
/// queues as they were when it began. Each thread has a core of its own while it lives.
#[derive(Debug)]
pub struct Engine<S> {
    pub(super) host: HostIndex,
    pub(super) caches: Hierarchy,
    pub(super) serve: S,
    pub(super) space: Space,
    pub(super) placing: Placing,
    pub(super) threads: Vec<Option<Box<Thread>>>,
    idle_cores: Vec<CoreIndex>,
    cores: u32,
    overlap: Overlap,
    pub(super) latencies_ps: [u64; LANES],
    /// Whether `Thread::recent` can be used: its slots are sets of the first level.
    pub(super) recent_is_exact: bool,
    /// Threads that have not ended.
    running: u32,
    pub(super) last: Option<ThreadIndex>,
    pub(super) traffic: Vec<Traffic>,
    /// When prefetched lines arrive.
    pub(super) arrivals: HashMap<u64, u64, BuildHasherDefault<PageHasher>>,
    /// When threads let go of things that others waited for.
    told: HashMap<u64, u64>,
    /// The furthest that two running threads' clocks were apart at a batch's end.
    pub(super) skew_ps: u64,
}

impl<S: Serve> Engine<S> {
    /// An engine for a program that has not begun, on tiers of these capacities (bytes).
    ///
    /// # Errors
    /// Where the caches cannot be built.
    pub fn new(
        cache: &CacheConfig,
        overlap: Overlap,
        rules: Rules,
        capacities: Vec<u64>,
        serve: S,
    ) -> Result<Self, CacheConfigError> {
        let caches = Hierarchy::new(cache, 0)?;
        let first = &cache.private[0];
        let sets = first.size / (u64::from(first.ways) * LINE);
        let mut latencies_ps = [0; LANES];
        for (ps, level) in latencies_ps.iter_mut().zip(cache.levels()) {
            *ps = Time::from_ns(level.latency_ns).0;
        }
        let fills_first_only_on_demand = cache.prefetch.is_none() || cache.private.len() > 1;
        Ok(Self {
            host: HostIndex(0),
            caches,
            serve,
            space: Space::default(),
            placing: Placing::new(rules, capacities),
            threads: Vec::new(),
            idle_cores: Vec::new(),
            cores: 0,
            overlap,
            latencies_ps,
            recent_is_exact: sets.is_power_of_two() && sets >= RECENT as u64 && fills_first_only_on_demand,
            running: 0,
            last: None,
            traffic: Vec::new(),
            arrivals: HashMap::default(),
            told: HashMap::new(),
            skew_ps: 0,
        })
    }

    /// A thread begins, when `parent`'s clock says.
    pub fn begin_thread(&mut self, parent: Option<ThreadIndex>) -> ThreadIndex {
        let start_ps = parent.map_or(0, |parent| self.now_ps(parent));
        let core = self.idle_cores.pop().unwrap_or_else(|| {
            self.cores += 1;
            self.caches.add_core()
        });
        let thread = Thread {
            core,
            clock: Clock::new(&self.overlap, start_ps),
            start_ps,
            counts: Counts::default(),
            ended: false,
            recent: Recent::new(),
            others: 0,
            more_lines: 0,
            beyond: 0,
        };
        self.threads.push(Some(Box::new(thread)));
        self.running += 1;
        ThreadIndex(u32::try_from(self.threads.len() - 1).unwrap_or(u32::MAX))
    }

    /// What checks may leave out in the thread's next batch.
    pub fn known(&self, index: ThreadIndex) -> Known<'_> {
        let thread = self.threads.get(index.0 as usize).and_then(Option::as_ref);
        let recent = thread.filter(|_| self.recent_is_exact).map(|thread| &thread.recent);
        Known { recent, alone: self.is_alone() }
    }

    /// Whether one thread runs only, so that nobody takes lines from it.
    pub const fn is_alone(&self) -> bool {
        self.running == 1
    }

    /// A thread ends; its core is free for the next one.
    pub fn end_thread(&mut self, thread: ThreadIndex) {
        self.drain(thread);
        if let Some(Some(thread)) = self.threads.get_mut(thread.0 as usize)
            && !thread.ended
        {
            thread.ended = true;
            self.running -= 1;
            self.idle_cores.push(thread.core);
        }
    }

    /// `waiter` goes on when `ended` has ended.
    pub fn join(&mut self, waiter: ThreadIndex, ended: ThreadIndex) {
        let ps = self.now_ps(ended);
        if let Some(Some(thread)) = self.threads.get_mut(waiter.0 as usize) {
            thread.clock.no_earlier_than(ps);
        }
    }

    /// The thread is about to let go of something that others wait for, under this key.
    pub fn tell(&mut self, index: ThreadIndex, key: u64) {
        let now = self.now_ps(index);
        let told = self.told.entry(key).or_default();
        *told = now.max(*told);
    }

    /// The thread waited for what others tell of under this key, and goes on no earlier than they did.
    pub fn catch_up(&mut self, index: ThreadIndex, key: u64) {
        let told = self.told.get(&key).copied().unwrap_or(0);
        if let Some(Some(thread)) = self.threads.get_mut(index.0 as usize) {
            thread.clock.no_earlier_than(told);
        }
    }

    /// Waits until all that the thread has in flight is there.
    pub fn drain(&mut self, index: ThreadIndex) {
        let Some(mut thread) = self.threads.get_mut(index.0 as usize).and_then(Option::take) else { return };
        thread.clock.drain();
        self.count_waits(&mut thread);
        self.threads[index.0 as usize] = Some(thread);
    }

    /// A thread's clock, picoseconds; 0 if there is no such thread.
    pub fn now_ps(&self, thread: ThreadIndex) -> u64 {
        self.threads.get(thread.0 as usize).and_then(Option::as_ref).map_or(0, |t| t.clock.now_ps())
    }

    /// The number of the site with these return addresses.
    pub fn site(&mut self, frames: &[u64]) -> u32 {
        self.placing.site(frames)
    }

    /// The return addresses of a site.
    pub fn frames(&self, site: u32) -> &[u64] {
        self.placing.frames.get(site as usize).map_or(&[], Vec::as_slice)
    }

    /// A block of `size` bytes at `address`, asked for by a site.
    pub fn allocate(&mut self, address: u64, size: u64, site: u32) {
        let Some(label) = self.placing.allocate(address, size, site) else { return };
        self.space.set_label(address, size.max(1), label);
    }

    /// The block at `address` is free.
    pub fn free(&mut self, address: u64) {
        // Its lines stay in the caches and its memory where it is, until another block takes its place.
        self.placing.free(address);
    }

    /// Nothing is mapped any more from `address` on, `len` bytes.
    pub fn unmap(&mut self, address: u64, len: u64) {
        self.space.forget(address, len);
        for thread in self.threads.iter_mut().flatten() {
            thread.recent.forget();
        }
    }

    /// In a child of fork: only this thread is left, and nothing was counted yet.
    pub fn forked(&mut self, survivor: ThreadIndex) {
        for at in 0..self.threads.len() {
            let index = ThreadIndex(u32::try_from(at).unwrap_or(u32::MAX));
            if index != survivor {
                self.end_thread(index);
                self.threads[at] = None;
            }
        }
        self.placing.reset();
        if let Some(Some(thread)) = self.threads.get_mut(survivor.0 as usize) {
            thread.counts = Counts::default();
            thread.start_ps = thread.clock.now_ps();
        }
    }

    /// The clocks of running threads were so far apart.
    pub fn note_skew(&mut self, ps: u64) {
        self.skew_ps = self.skew_ps.max(ps);
    }
}
