//! A batch of accesses, through the caches into memory.
//!
//! Nearly all accesses go to the line that was used last in its set of the first level. Those change nothing but counts
//! and the clock: [`tally`] adds up a whole batch. Where checks pass them over, nearly all records go to other lines; where
//! they do not, one comparison with [`Recent`](super::recent::Recent) finds them. The rest go some at a time: places of the next
//! ones are looked up, and the host is told what they will need, before these have their turn.

use super::clock::{LANES, Whose};
use super::engine::{Engine, Thread, ThreadIndex};
use super::filter::{Passed, number};
use super::record::{self, EVENT, LOAD_OF_WORD, RANGE, Record, STORE};
use super::space::OS_PAGE;
use super::tally::{Tally, tally};
use crate::cache::{CoreIndex, LINE, Lookup, Traffic};
use crate::model::{Direction, Request, Serve, TierIndex};
use crate::time::Time;

/// Most records of a batch, so that sums of their upper halves cannot overflow.
pub const BATCH_MAX: usize = 511;

/// Records after which a thread's clock is looked at, where it must not run ahead of others'.
const PART: usize = 32;

/// So many records are looked at together, while those before them have their turn.
const TOGETHER: usize = 16;
/// No place.
const UNKNOWN: u64 = u64::MAX;

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
        let mut issued = Issued { records: 0, passed: part.passed.unwrap_or(number(batch.start.counts)), before };
        let at_once = if until_ps == u64::MAX { BATCH_MAX } else { PART };
        while part.taken < records.len() && thread.clock.now_ps() <= until_ps {
            let these = part.taken..records.len().min(part.taken + at_once);
            part.taken = these.end;
            let (records, values) = (&records[these.clone()], &values[these]);
            let mut sums = tally(records);
            let walk = match (sums.crossing, batch.before.is_empty()) {
                (false, false) => Self::walk::<false, true>,
                (false, true) => Self::walk::<false, false>,
                (true, false) => Self::walk::<true, true>,
                (true, true) => Self::walk::<true, false>,
            };
            walk(self, &mut thread, (records, values), &mut sums, &mut issued);
            thread.count(&sums, records.len());
        }
        let is_rest = part.taken == records.len();
        if is_rest {
            thread.clock.issue(number(batch.end.counts).saturating_sub(issued.passed));
            thread.count_passed(batch.end.since(&batch.start));
        }
        part.passed = Some(issued.passed);
        // Before it goes on others may place blocks where its flights are.
        self.settle(&mut thread);
        self.threads[index.0 as usize] = Some(thread);
        is_rest
    }

    /// Takes what is no plain access out of `sums`. Of `CHECKED` records hardly any is one of a recent line, so that they are not
    /// compared.
    fn walk<const CROSSING: bool, const CHECKED: bool>(
        &mut self,
        thread: &mut Thread,
        (records, values): (&[Record], &[u64]),
        sums: &mut Tally,
        issued: &mut Issued<'_>,
    ) {
        let mut places = [[UNKNOWN; TOGETHER]; 2];
        self.look_ahead(thread.core, records, &mut places[0]);
        for first in (0..records.len()).step_by(TOGETHER) {
            let [now, next] = &mut places;
            if let Some(records) = records.get(first + TOGETHER..) {
                self.look_ahead(thread.core, records, next);
            }
            for ((&packed, &known), at) in records[first..].iter().zip(&*now).zip(first..) {
                let crosses = CROSSING && packed % LINE + record::size(packed) > LINE;
                if !CHECKED && thread.recent.has(packed) && !crosses {
                    continue;
                }
                if packed & (RANGE | EVENT) != 0 {
                    thread.clock.issue(issued.up_to(at, at));
                    issued.records = at + 1;
                    let upper = packed >> record::ADDRESS_BITS;
                    sums.all -= upper;
                    sums.stores -= if packed & STORE != 0 { upper } else { 0 };
                    thread.others += 1;
                    self.range_or_event(thread, packed, known, values[at]);
                    continue;
                }
                let (address, store) = (record::address(packed), packed & STORE != 0);
                let place = if known == UNKNOWN { self.translate(address) } else { known };
                let first = self.access(thread, address, place, store);
                if first == Some(Lookup::Hit(1)) && !crosses {
                    continue;
                }
                thread.clock.issue(issued.up_to(at, at + 1));
                let value = if packed >> record::ADDRESS_BITS == LOAD_OF_WORD { values[at] } else { 0 };
                self.beyond(thread, (address, place), first, (store, value));
                if crosses {
                    thread.more_lines += 1;
                    self.access_line(thread, (address / LINE + 1) * LINE, UNKNOWN, (store, value));
                }
            }
            places.swap(0, 1);
        }
        thread.clock.issue((records.len() - issued.records) as u64);
        issued.records = 0;
        issued.before = issued.before.get(records.len()..).unwrap_or_default();
    }

    /// Where the next records will go among the frames, as far as that is known, before their turn: has the host's caches bring what
    /// they will need of the model, which is larger than they are.
    #[inline(always)]
    fn look_ahead(&mut self, core: CoreIndex, records: &[Record], places: &mut [u64; TOGETHER]) {
        let Self { caches, space, .. } = self;
        let outlook = caches.outlook(core);
        for (&packed, place) in records.iter().zip(places) {
            *place = UNKNOWN;
            let address = record::address(packed);
            if packed & EVENT != 0 {
                continue;
            }
            let Some(frame) = space.known_frame(address / OS_PAGE) else { continue };
            *place = u64::from(frame) * OS_PAGE + address % OS_PAGE;
            outlook.expect(*place);
        }
    }

    fn range_or_event(&mut self, thread: &mut Thread, packed: Record, place: u64, value: u64) {
        let address = record::address(packed);
        let store = packed & STORE != 0;
        if packed & RANGE != 0 {
            self.range(thread, (address, place), value, store);
        } else if store {
            let (size, site) = record::block(value);
            self.settle(thread);
            self.allocate(address, size, site);
        } else {
            self.free(address);
        }
    }

    /// A range that begins at this address, which has this place among the frames, if that is known.
    fn range(&mut self, thread: &mut Thread, (address, place): (u64, u64), len: u64, store: bool) {
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
        let lines = address / LINE..=(address + len - 1) / LINE;
        thread.more_lines += lines.end() + 1 - lines.start();
        for line in lines {
            thread.clock.issue(1);
            if !thread.recent.has(record::access(line * LINE, 0, store)) {
                let at = line * LINE;
                let is_near = place != UNKNOWN && at / OS_PAGE == address / OS_PAGE;
                let place = if is_near { place - address % OS_PAGE + at % OS_PAGE } else { UNKNOWN };
                self.access_line(thread, at, place, (store, 0));
            }
        }
    }

    /// An access to the line at this address, which has this place, if that is known.
    fn access_line(&mut self, thread: &mut Thread, address: u64, place: u64, (store, value): (bool, u64)) {
        let place = if place == UNKNOWN { self.translate(address) } else { place };
        let first = self.access(thread, address, place, store);
        self.beyond(thread, (address, place), first, (store, value));
    }

    /// Where an address lies in its frame, counted through all frames; it gets one if it had none.
    fn translate(&mut self, address: u64) -> u64 {
        let os_page = address / OS_PAGE;
        u64::from(self.space.frame(os_page)) * OS_PAGE + address % OS_PAGE
    }

    /// One access to one line, that of `place` among the frames, as far as the first level.
    #[inline(always)]
    fn access(&mut self, thread: &mut Thread, address: u64, place: u64, store: bool) -> Option<Lookup> {
        if self.recent_is_exact {
            thread.recent.remember(address, store);
        }
        self.caches.in_first(thread.core, place, store)
    }

    /// The rest of an access, after what was found in the first level.
    #[inline(never)]
    fn beyond(
        &mut self,
        thread: &mut Thread,
        (address, place): (u64, u64),
        first: Option<Lookup>,
        (store, value): (bool, u64),
    ) {
        let lookup = match first {
            Some(Lookup::Hit(1)) => return,
            Some(lookup) => lookup,
            None => {
                let Self { caches, traffic, .. } = self;
                caches.behind_first(thread.core, place, store, &mut |t| traffic.push(t))
            }
        };
        thread.beyond += 1;
        if thread.clock.has_many_waits() {
            self.count_waits(thread);
        }
        let Thread { clock, counts, .. } = thread;
        clock.begin(address);
        let now = clock.now_ps();
        match lookup {
            Lookup::Hit(level) => {
                let level = usize::from(level - 1) % LANES;
                counts.hits[level] += 1;
                let done = now + self.latencies_ps[level];
                clock.fly(level, done, (!store, value), Whose::of_place(place));
            }
            Lookup::Prefetched(level) => {
                let level = usize::from(level - 1) % LANES;
                counts.hits[level] += 1;
                let arrival = self.arrivals.remove(&(place / LINE)).unwrap_or(0);
                let done = arrival.max(now + self.latencies_ps[level]);
                clock.fly(0, done, (!store, value), Whose::of_place(place));
            }
            Lookup::Miss => {
                counts.misses += 1;
                let label = self.space.label_at(place);
                let blocks = &mut self.placing.blocks[usize::from(label)];
                *if store { &mut blocks.store_misses } else { &mut blocks.load_misses } += 1;
                let tier = TierIndex(blocks.tier);
                let done = self.serve(now, tier, Direction::Read, place);
                thread.clock.fly(0, done, (!store, value), Whose::of_label(label));
            }
        }
        if !self.traffic.is_empty() {
            self.carry_traffic(now);
        }
    }

    /// Counts waiting where it belongs.
    #[inline(never)]
    pub(super) fn count_waits(&mut self, thread: &mut Thread) {
        for (whose, ps) in thread.clock.waits() {
            let label = whose.label(|place| self.space.label_at(place));
            self.placing.blocks[usize::from(label)].waited_ps += ps;
            thread.counts.waited_ps += ps;
        }
    }

    /// Finds out whose lines the thread waited for and has in flight, before that changes.
    fn settle(&mut self, thread: &mut Thread) {
        self.count_waits(thread);
        thread.clock.settle(|place| self.space.label_at(place));
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

/// What the clock has of a batch.
struct Issued<'a> {
    /// Records,
    records: usize,
    /// and accesses without one, as they are counted.
    passed: u64,
    before: &'a [u64],
}

impl Issued<'_> {
    /// What the clock does not have yet of `records`, and of the accesses before record `at`; now it has.
    #[inline]
    fn up_to(&mut self, at: usize, records: usize) -> u64 {
        let records = records - std::mem::replace(&mut self.records, records);
        let Some(&counts) = self.before.get(at) else { return records as u64 };
        let before = std::mem::replace(&mut self.passed, number(counts));
        records as u64 + self.passed.saturating_sub(before)
    }
}
