//! A batch of accesses, through the caches into memory.
//!
//! Nearly all accesses go to the line that was used last in its set of the first level. Those change nothing but counts
//! and the clock, and take a few instructions each: [`tally`] adds up a whole batch, and what does not go to such a line
//! is found by one comparison with [`Recent`](super::recent::Recent).

use super::clock::Waits;
use super::engine::{Engine, Thread, ThreadIndex};
use super::filter::{Kind, Passed, number};
use super::placing::Blocks;
use super::record::{self, EVENT, LOAD_OF_WORD, RANGE, Record, STORE};
use super::space::{Label, OS_PAGE};
use crate::cache::{LINE, Lookup, Traffic};
use crate::model::{Direction, Request, Serve, TierIndex};
use crate::time::Time;

/// Most records of a batch, so that sums of their upper halves cannot overflow.
pub const BATCH_MAX: usize = 511;

/// Records after which a thread's clock is looked at, where it must not run ahead of others'.
const PART: usize = 32;

/// So many records are looked at before their turn.
const LOOK_AHEAD: usize = 12;
/// Records whose places are remembered meanwhile.
const AHEAD: usize = LOOK_AHEAD.next_power_of_two();
/// No place.
const UNKNOWN: u64 = u64::MAX;

/// Sums over the records of a batch, ranges and events included.
#[derive(Clone, Copy, Default)]
struct Tally {
    /// Of the upper sixteen bits.
    all: u64,
    /// Of the upper sixteen bits of stores.
    stores: u64,
    /// Whether an access lies in two lines.
    crossing: bool,
}

/// Written so that the compiler makes vector code of it.
#[inline]
fn tally(records: &[Record]) -> Tally {
    let mut sums = [0_u64; 3];
    for &packed in records {
        let upper = packed >> record::ADDRESS_BITS;
        sums[0] += upper;
        sums[1] += upper & 0_u64.wrapping_sub(packed >> 63);
        sums[2] |= (packed % LINE) + (upper & 0x1f) + (LINE - 1);
    }
    // Each sum is at most 63 + 16 + 63, and has bit 7 if first byte and size are over 64 together.
    Tally { all: sums[0], stores: sums[1], crossing: sums[2] & 0x80 != 0 }
}

/// What a thread did since its last batch, in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch<'a> {
    /// What became a record.
    pub records: &'a [Record],
    /// `values[i]` belongs to `records[i]`.
    pub values: &'a [u64],
    /// `before[i]` is what [`Passed::counts`] was before `records[i]`. May be empty if nothing passed.
    pub before: &'a [u64],
    /// What had passed at the begin,
    pub start: Passed,
    /// and at the end.
    pub end: Passed,
}

/// How much of a batch was taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Part {
    /// Records.
    taken: usize,
    /// Accesses without a record that the clock has; `None` before the first record.
    passed: Option<u64>,
}

impl Part {
    /// Whether anything was taken.
    pub const fn is_begun(&self) -> bool {
        self.passed.is_some()
    }
}

/// Counts waiting where it belongs.
pub struct Waiting<'a> {
    pub blocks: &'a mut [Blocks],
    pub total_ps: &'a mut u64,
}

impl Waits for Waiting<'_> {
    fn waited(&mut self, label: Label, ps: u64) {
        self.blocks[usize::from(label)].waited_ps += ps;
        *self.total_ps += ps;
    }
}

impl<S: Serve> Engine<S> {
    /// What a thread did, in order.
    ///
    /// # Panics
    /// If there are fewer values than records.
    pub fn batch(&mut self, index: ThreadIndex, batch: &Batch<'_>) {
        self.part(index, batch, &mut Part::default(), u64::MAX);
    }

    /// A part of what a thread did: from where `part` stands until the thread's clock is beyond `until_ps`. Whether that was
    /// the rest; if not, the next call goes on, and nothing else of that thread comes before.
    ///
    /// # Panics
    /// If there are fewer values than records.
    pub fn part(&mut self, index: ThreadIndex, batch: &Batch<'_>, part: &mut Part, until_ps: u64) -> bool {
        let Batch { records, values, .. } = *batch;
        let values = &values[..records.len()];
        let Some(mut thread) = self.threads.get_mut(index.0 as usize).and_then(Option::take) else { return true };
        if self.last != Some(index) {
            // Others may have taken lines meanwhile.
            thread.recent.forget();
            self.last = Some(index);
        }
        let before = batch.before.get(part.taken..).unwrap_or_default();
        let mut issued = Issued { passed: part.passed.unwrap_or(number(batch.start.counts)), before };
        let at_once = if until_ps == u64::MAX { BATCH_MAX } else { PART };
        while part.taken < records.len() && thread.clock.now_ps() <= until_ps {
            let these = part.taken..records.len().min(part.taken + at_once);
            part.taken = these.end;
            let (records, values) = (&records[these.clone()], &values[these]);
            let mut sums = tally(records);
            if sums.crossing {
                self.walk::<true>(&mut thread, (records, values), &mut sums, &mut issued);
            } else {
                self.walk::<false>(&mut thread, (records, values), &mut sums, &mut issued);
            }
            thread.count(&sums, records.len());
        }
        let is_rest = part.taken == records.len();
        if is_rest {
            thread.clock.issue(number(batch.end.counts).saturating_sub(issued.passed));
            thread.count_passed(batch.end.since(&batch.start));
        }
        part.passed = Some(issued.passed);
        self.threads[index.0 as usize] = Some(thread);
        is_rest
    }

    /// Takes what is no plain access out of `sums`.
    fn walk<const CROSSING: bool>(
        &mut self,
        thread: &mut Thread,
        (records, values): (&[Record], &[u64]),
        sums: &mut Tally,
        passed: &mut Issued<'_>,
    ) {
        let mut issued = 0;
        let mut ahead = [UNKNOWN; AHEAD];
        for (place, &packed) in ahead.iter_mut().zip(records).take(LOOK_AHEAD) {
            *place = self.look_ahead(thread, packed);
        }
        for (at, &packed) in records.iter().enumerate() {
            let known = ahead[at % AHEAD];
            if let Some(&next) = records.get(at + LOOK_AHEAD) {
                ahead[(at + LOOK_AHEAD) % AHEAD] = self.look_ahead(thread, next);
            }
            let crosses = CROSSING && packed % LINE + record::size(packed) > LINE;
            if thread.recent.has(packed) && !crosses {
                continue;
            }
            let passed = passed.up_to(at);
            if packed & (RANGE | EVENT) != 0 {
                thread.clock.issue((at - issued) as u64 + passed);
                issued = at + 1;
                let upper = packed >> record::ADDRESS_BITS;
                sums.all -= upper;
                sums.stores -= if packed & STORE != 0 { upper } else { 0 };
                thread.others += 1;
                self.range_or_event(thread, packed, values[at]);
                continue;
            }
            thread.clock.issue((at + 1 - issued) as u64 + passed);
            issued = at + 1;
            thread.looked_up += 1;
            let (address, store) = (record::address(packed), packed & STORE != 0);
            let in_frame = if known == UNKNOWN { self.translate(thread, address) } else { known };
            let lookup = self.access(thread, address, in_frame, store);
            if lookup != Lookup::Hit(1) || crosses {
                let value = if packed >> record::ADDRESS_BITS == LOAD_OF_WORD { values[at] } else { 0 };
                self.beyond(thread, address, in_frame, lookup, (store, value));
                if crosses {
                    self.access_line(thread, address / LINE + 1, (store, value));
                }
            }
        }
        thread.clock.issue((records.len() - issued) as u64);
        passed.before = passed.before.get(records.len()..).unwrap_or_default();
    }

    /// Where an access will go in its frame, if that is known, before its turn: has the host's caches bring what it will need of the
    /// model, which is larger than they are.
    #[inline(always)]
    fn look_ahead(&self, thread: &mut Thread, packed: Record) -> u64 {
        if packed & (RANGE | EVENT) != 0 {
            return UNKNOWN;
        }
        let address = record::address(packed);
        let os_page = address / OS_PAGE;
        let Some(frame) = thread.frames.of(os_page, || self.space.known_frame(os_page)) else { return UNKNOWN };
        let in_frame = u64::from(frame) * OS_PAGE + address % OS_PAGE;
        if thread.looked_at.is_new(in_frame) {
            self.caches.expect(thread.core, in_frame);
        }
        in_frame
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
            if thread.recent.has(record::access(line * LINE, 0, store)) {
                thread.counts.hits[0] += 1;
            } else {
                self.access_line(thread, line, (store, 0));
            }
        }
    }

    /// An access to the line of this number that was not looked at ahead.
    fn access_line(&mut self, thread: &mut Thread, line: u64, (store, value): (bool, u64)) {
        let address = line * LINE;
        let in_frame = self.translate(thread, address);
        let lookup = self.access(thread, address, in_frame, store);
        self.beyond(thread, address, in_frame, lookup, (store, value));
    }

    /// Where an address lies in its frame, counted through all frames; it gets one if it had none.
    fn translate(&mut self, thread: &mut Thread, address: u64) -> u64 {
        let os_page = address / OS_PAGE;
        let frame = thread.frames.of(os_page, || Some(self.space.frame(os_page)));
        u64::from(frame.unwrap_or(u32::MAX)) * OS_PAGE + address % OS_PAGE
    }

    /// One access to one line, that of `at` among the frames.
    #[inline(always)]
    fn access(&mut self, thread: &mut Thread, address: u64, at: u64, store: bool) -> Lookup {
        let Self { caches, traffic, .. } = self;
        let lookup = caches.access(thread.core, at, store, &mut |t| traffic.push(t));
        if self.recent_is_exact {
            thread.recent.remember(address, store);
        }
        if lookup == Lookup::Hit(1) {
            thread.counts.hits[0] += 1;
        }
        lookup
    }

    /// The rest of an access, where the first level did not have the line.
    fn beyond(&mut self, thread: &mut Thread, address: u64, at: u64, lookup: Lookup, (store, value): (bool, u64)) {
        if lookup == Lookup::Hit(1) {
            return;
        }
        let label = self.space.label((at / OS_PAGE) as u32, at % OS_PAGE);
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

/// What of the accesses without a record the clock has.
struct Issued<'a> {
    passed: u64,
    before: &'a [u64],
}

impl Issued<'_> {
    /// Those before record `at` that the clock does not have yet.
    #[inline]
    fn up_to(&mut self, at: usize) -> u64 {
        let Some(&counts) = self.before.get(at) else { return 0 };
        let before = std::mem::replace(&mut self.passed, number(counts));
        self.passed.saturating_sub(before)
    }
}

impl Thread {
    /// Counts what had no record. Each found its line most recent in the first level.
    fn count_passed(&mut self, [loaded, stored]: [Kind; 2]) {
        let counts = &mut self.counts;
        // Wrapping: see `Passed::since`.
        counts.loads = counts.loads.wrapping_add(loaded.accesses);
        counts.stores = counts.stores.wrapping_add(stored.accesses);
        counts.hits[0] += loaded.lines + stored.lines;
        counts.bytes_loaded += loaded.bytes;
        counts.bytes_stored += stored.bytes;
        counts.ranges_loaded += loaded.ranges;
        counts.ranges_stored += stored.ranges;
        counts.range_bytes_loaded += loaded.range_bytes;
        counts.range_bytes_stored += stored.range_bytes;
    }

    /// Counts the plain accesses of a batch of `len` records.
    fn count(&mut self, sums: &Tally, len: usize) {
        const ONE_STORE: u64 = STORE >> record::ADDRESS_BITS;
        let accesses = len as u64 - std::mem::take(&mut self.others);
        let stores = sums.all / ONE_STORE;
        let bytes_stored = sums.stores % ONE_STORE;
        self.counts.loads += accesses - stores;
        self.counts.stores += stores;
        self.counts.bytes_loaded += sums.all % ONE_STORE - bytes_stored;
        self.counts.bytes_stored += bytes_stored;
        // Each found its line most recent in the first level, except those that `walk` looked up.
        self.counts.hits[0] += accesses - std::mem::take(&mut self.looked_up);
    }
}
