//! All of it together.

use std::collections::HashMap;

use super::Overlap;
use super::clock::{Clock, Waits};
use super::placing::{Blocks, Placing, Rules};
use super::record::{self, EVENT, LOAD_OF_WORD, RANGE, Record, STORE};
use super::space::{Label, OS_PAGE, Space};
use crate::cache::{CacheConfig, CacheConfigError, CoreIndex, Hierarchy, LINE, Lookup, Traffic};
use crate::model::{Direction, HostIndex, Request, Serve, TierIndex};
use crate::time::Time;

/// Number of a thread, in the order of their beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadIndex(pub u32);

/// Lines that a thread remembers as the most recent of their sets.
const RECENT: usize = 64;
/// OS pages whose frames a thread remembers.
const REMEMBERED: usize = 256;
const NOTHING: u64 = u64::MAX;

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
    core: CoreIndex,
    pub(super) clock: Clock,
    pub(super) start_ps: u64,
    pub(super) counts: Counts,
    pub(super) ended: bool,
    /// By the low six bits of a line's number: the line that was used last in the set of the first level that these
    /// bits stand for, times two, plus one if a store may go there. Looking at it is the same as finding the line most
    /// recent in its set, so that such accesses need no more.
    recent: Box<[u64; RECENT]>,
    /// OS page numbers and their frames.
    frames: Box<[(u64, u32); REMEMBERED]>,
}

/// Puts the accesses of a program's threads through caches into memory.
///
/// Threads bring their accesses in batches, whole ones at a time: inside a batch a thread sees the others' lines and
/// queues as they were when it began. Each thread has a core of its own while it lives.
#[derive(Debug)]
pub struct Engine<S> {
    host: HostIndex,
    caches: Hierarchy,
    pub(super) serve: S,
    space: Space,
    pub(super) placing: Placing,
    pub(super) threads: Vec<Option<Box<Thread>>>,
    idle_cores: Vec<CoreIndex>,
    cores: u32,
    overlap: Overlap,
    latencies_ps: Vec<u64>,
    /// Whether `Thread::recent` can be used: its slots are sets of the first level.
    recent_is_exact: bool,
    last: Option<ThreadIndex>,
    traffic: Vec<Traffic>,
    /// When prefetched lines arrive.
    arrivals: HashMap<u64, u64>,
    /// When threads let go of things that others waited for.
    told: HashMap<u64, u64>,
    /// The furthest that two running threads' clocks were apart at a batch's end.
    pub(super) skew_ps: u64,
}

/// Counts waiting where it belongs.
struct Waiting<'a> {
    blocks: &'a mut [Blocks],
    total_ps: &'a mut u64,
}

impl Waits for Waiting<'_> {
    fn waited(&mut self, label: Label, ps: u64) {
        self.blocks[usize::from(label)].waited_ps += ps;
        *self.total_ps += ps;
    }
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
            latencies_ps: cache.levels().map(|level| Time::from_ns(level.latency_ns).0).collect(),
            recent_is_exact: sets.is_power_of_two() && sets >= RECENT as u64 && fills_first_only_on_demand,
            last: None,
            traffic: Vec::new(),
            arrivals: HashMap::new(),
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
            recent: Box::new([NOTHING; RECENT]),
            frames: Box::new([(NOTHING, 0); REMEMBERED]),
        };
        self.threads.push(Some(Box::new(thread)));
        ThreadIndex(u32::try_from(self.threads.len() - 1).unwrap_or(u32::MAX))
    }

    /// A thread ends; its core is free for the next one.
    pub fn end_thread(&mut self, thread: ThreadIndex) {
        self.drain(thread);
        if let Some(Some(thread)) = self.threads.get_mut(thread.0 as usize)
            && !thread.ended
        {
            thread.ended = true;
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
    pub fn drain(&mut self, thread: ThreadIndex) {
        let Some(Some(thread)) = self.threads.get_mut(thread.0 as usize) else { return };
        let Thread { clock, counts, .. } = thread.as_mut();
        clock.drain(&mut Waiting { blocks: &mut self.placing.blocks, total_ps: &mut counts.waited_ps });
    }

    fn now_ps(&self, thread: ThreadIndex) -> u64 {
        self.threads.get(thread.0 as usize).and_then(Option::as_ref).map_or(0, |t| t.clock.now_ps())
    }

    /// The number of the site with these return addresses.
    pub fn site(&mut self, frames: &[u64]) -> u32 {
        self.placing.site(frames)
    }

    /// A block of `size` bytes at `address`, asked for by a site.
    pub fn allocate(&mut self, address: u64, size: u64, site: u32) {
        let Some(label) = self.placing.allocate(address, size, site) else { return };
        self.space.set_label(address, size.max(1), label);
    }

    /// The block at `address` is free.
    pub fn free(&mut self, address: u64) {
        if let Some(size) = self.placing.free(address) {
            self.space.set_label(address, size.max(1), 0);
        }
    }

    /// Nothing is mapped any more from `address` on, `len` bytes.
    pub fn unmap(&mut self, address: u64, len: u64) {
        self.space.forget(address, len);
        for thread in self.threads.iter_mut().flatten() {
            thread.frames.fill((NOTHING, 0));
            thread.recent.fill(NOTHING);
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

    /// What a thread did, in order; `values[i]` belongs to `records[i]`.
    ///
    /// # Panics
    /// If `values` is shorter than `records`.
    pub fn batch(&mut self, index: ThreadIndex, records: &[Record], values: &[u64]) {
        let Some(mut thread) = self.threads.get_mut(index.0 as usize).and_then(Option::take) else { return };
        if self.last != Some(index) {
            // Others may have taken lines meanwhile.
            thread.recent.fill(NOTHING);
            self.last = Some(index);
        }
        let values = &values[..records.len()];
        let mut pending = 0;
        let mut counts = [0_u64; 4];
        for (at, &packed) in records.iter().enumerate() {
            let store = packed >> 63;
            let size = record::size(packed);
            let address = record::address(packed);
            if packed & (RANGE | EVENT) != 0 {
                thread.clock.issue(std::mem::take(&mut pending));
                self.range_or_event(&mut thread, packed, values[at]);
                continue;
            }
            counts[0] += store;
            counts[1] += 1;
            counts[2] += size;
            counts[3] += size & store.wrapping_neg();
            pending += 1;
            let line = address / LINE;
            let known = thread.recent[line as usize % RECENT];
            if known | (store ^ 1) == line * 2 + 1 && address % LINE + size <= LINE {
                continue;
            }
            thread.clock.issue(std::mem::take(&mut pending));
            thread.counts.hits[0] = thread.counts.hits[0].wrapping_sub(1);
            let value = if packed >> record::ADDRESS_BITS == LOAD_OF_WORD { values[at] } else { 0 };
            self.access(&mut thread, address, packed & STORE != 0, value);
            if address % LINE + size > LINE {
                self.access(&mut thread, (line + 1) * LINE, packed & STORE != 0, value);
            }
        }
        thread.clock.issue(pending);
        let [stores, all, bytes, bytes_stored] = counts;
        thread.counts.loads += all - stores;
        thread.counts.stores += stores;
        thread.counts.bytes_loaded += bytes - bytes_stored;
        thread.counts.bytes_stored += bytes_stored;
        // Each access found its line most recent in the first level, except those that were taken off above.
        thread.counts.hits[0] = thread.counts.hits[0].wrapping_add(all);
        self.threads[index.0 as usize] = Some(thread);
        self.note_skew();
    }

    fn note_skew(&mut self) {
        if self.threads.len() > 1 {
            let running = self.threads.iter().flatten().filter(|t| !t.ended).map(|t| t.clock.now_ps());
            let (least, most) = running.fold((u64::MAX, 0), |(least, most), ps| (least.min(ps), most.max(ps)));
            self.skew_ps = self.skew_ps.max(most.saturating_sub(least));
        }
    }

    fn range_or_event(&mut self, thread: &mut Thread, packed: Record, value: u64) {
        let address = record::address(packed);
        let store = packed & STORE != 0;
        if packed & RANGE != 0 {
            self.range(thread, address, value, store);
        } else if store {
            let (size, site) = record::block(value);
            self.allocate(address, size, site);
        } else {
            self.free(address);
        }
    }

    fn range(&mut self, thread: &mut Thread, address: u64, len: u64, store: bool) {
        let counts = &mut thread.counts;
        let (ranges, bytes) = if store {
            (&mut counts.ranges_stored, &mut counts.range_bytes_stored)
        } else {
            (&mut counts.ranges_loaded, &mut counts.range_bytes_loaded)
        };
        *ranges += 1;
        *bytes += len;
        if len == 0 {
            return;
        }
        for line in address / LINE..=(address + len - 1) / LINE {
            thread.clock.issue(1);
            self.access(thread, line * LINE, store, 0);
        }
    }

    /// One access to one line.
    fn access(&mut self, thread: &mut Thread, address: u64, store: bool, value: u64) {
        let os_page = address / OS_PAGE;
        let remembered = &mut thread.frames[os_page as usize % REMEMBERED];
        if remembered.0 != os_page {
            *remembered = (os_page, self.space.frame(os_page));
        }
        let frame = remembered.1;
        let offset = address % OS_PAGE;
        let at = u64::from(frame) * OS_PAGE + offset;
        let Self { caches, traffic, .. } = self;
        let lookup = caches.access(thread.core, at, store, &mut |t| traffic.push(t));
        if self.recent_is_exact {
            let line = address / LINE;
            let slot = &mut thread.recent[line as usize % RECENT];
            *slot = line * 2 + u64::from(store);
        }
        if lookup == Lookup::Hit(1) {
            thread.counts.hits[0] += 1;
            return;
        }
        self.beyond(thread, address, (frame, offset), lookup, (store, value));
    }

    /// The rest of an access that the first level did not have.
    fn beyond(
        &mut self,
        thread: &mut Thread,
        address: u64,
        (frame, offset): (u32, u64),
        lookup: Lookup,
        (store, value): (bool, u64),
    ) {
        let label = self.space.label(frame, offset);
        let at = u64::from(frame) * OS_PAGE + offset;
        let Thread { clock, counts, .. } = thread;
        clock.begin(address, &mut Waiting { blocks: &mut self.placing.blocks, total_ps: &mut counts.waited_ps });
        let now = clock.now_ps();
        let done = match lookup {
            Lookup::Hit(level) => {
                counts.hits[usize::from(level) - 1] += 1;
                now + self.latencies_ps[usize::from(level) - 1]
            }
            Lookup::Prefetched(level) => {
                counts.hits[usize::from(level) - 1] += 1;
                let arrival = self.arrivals.remove(&(at / LINE)).unwrap_or(0);
                arrival.max(now + self.latencies_ps[usize::from(level) - 1])
            }
            Lookup::Miss => {
                counts.misses += 1;
                let blocks = &mut self.placing.blocks[usize::from(label)];
                *if store { &mut blocks.store_misses } else { &mut blocks.load_misses } += 1;
                let tier = TierIndex(blocks.tier);
                self.serve(now, tier, Direction::Read, at)
            }
        };
        clock.fly(done, !store, value, label);
        if !self.traffic.is_empty() {
            self.carry_traffic(now);
        }
    }

    fn serve(&mut self, now: u64, tier: TierIndex, direction: Direction, at: u64) -> u64 {
        let offset = at / LINE * LINE;
        let request = Request { host: self.host, tier, direction, offset, len: 64 };
        self.serve.serve(Time(now), request).0
    }

    /// What the caches sent to memory beside.
    fn carry_traffic(&mut self, now: u64) {
        let mut traffic = std::mem::take(&mut self.traffic);
        for sent in traffic.drain(..) {
            let (Traffic::WriteBack(line) | Traffic::Prefetch(line)) = sent;
            let frame = u32::try_from(line / OS_PAGE).unwrap_or(u32::MAX);
            let label = self.space.label_of_line(frame, line % OS_PAGE);
            let blocks = &mut self.placing.blocks[usize::from(label)];
            let tier = TierIndex(blocks.tier);
            if matches!(sent, Traffic::WriteBack(_)) {
                blocks.written_back += 1;
                self.serve(now, tier, Direction::Write, line);
            } else {
                blocks.prefetched += 1;
                let arrival = self.serve(now, tier, Direction::Read, line);
                self.arrivals.insert(line / LINE, arrival);
            }
        }
        self.traffic = traffic;
    }
}
