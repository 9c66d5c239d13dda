//! How accesses of a thread overlap: its virtual clock.
//!
//! The model is that of an out-of-order core, in four rules:
//!
//! 1. each access takes `issue` before the next one begins; one that the first level has costs nothing more;
//! 2. an access that goes further is *in flight* until its line is there. At most `outstanding` are in flight; one more
//!    waits for the earliest to end;
//! 3. a load holds up what comes more than `window` accesses after it, until its line is there (the reorder buffer is
//!    finite). A store does not: it waits in the store buffer;
//! 4. an access whose address is the value of a load in flight, or lies up to 4 KiB behind it, waits for that load.
//!    So chains of pointers are walked one by one, and independent accesses overlap.
//!
//! Rule 4 sees pointers. Chains of indices (`next[i]`) look independent and are timed too fast; `outstanding = 1` is
//! the other bound.

mod lane;
#[cfg(test)]
mod tests;

use super::space::{Label, OS_PAGE};
use lane::Lane;
pub use lane::OUTSTANDING_MAX;

/// How much overlaps. The defaults are those of a present server core; the numbers are assumed.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overlap {
    /// Accesses beyond the first level that are in flight at once, 1 to 64. 12: the fill buffers of Intel's cores since
    /// Ice Lake (Intel 64 and IA-32 Architectures Optimization Reference Manual).
    pub outstanding: u32,
    /// Accesses that begin while a load before them waits, 1 and more. 160: a reorder buffer of 512 entries, of which
    /// about a third are loads and stores.
    pub window: u32,
    /// From one access to the next, nanoseconds: what the program does between them, memory aside.
    pub issue_ns: f64,
}

impl Default for Overlap {
    fn default() -> Self {
        Self { outstanding: 12, window: 160, issue_ns: 0.5 }
    }
}

/// An access in flight.
#[derive(Clone, Copy, Debug, Default)]
struct Flight {
    done_ps: u64,
    /// Twice the number of the access, and one more of its second line: of flights that land together the first to begin comes first.
    turn: u64,
    /// What was loaded, if it can be an address; 0 otherwise.
    value: u64,
    whose: Whose,
}

impl Flight {
    /// The number of the access, if it is a load.
    #[inline]
    const fn load(&self) -> Option<u64> {
        if self.whose.0 & Whose::IS_STORED == 0 { Some(self.turn / 2) } else { None }
    }
}

/// Whose line is waited for. Most are never waited for, so that many a flight only knows where its line lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whose(u64);

impl Whose {
    const IS_LABEL: u64 = 1 << 63;
    /// In a flight, of a store.
    const IS_STORED: u64 = 1 << 62;

    /// Whoever has this place among the frames.
    pub const fn of_place(at: u64) -> Self {
        Self(at)
    }

    pub const fn of_label(label: Label) -> Self {
        Self(label as u64 | Self::IS_LABEL)
    }

    /// The label, which `find` knows of a place.
    pub fn label(self, find: impl FnOnce(u64) -> Label) -> Label {
        if self.0 & Self::IS_LABEL == 0 { find(self.0 & !Self::IS_STORED) } else { self.0 as Label }
    }
}

/// Where accesses beyond the first level go: each level of the caches has a lane, and memory the first one.
pub const LANES: usize = crate::cache::LEVELS_MAX;

/// Slots by which addresses among the loaded values are told from most others.
const SLOTS: usize = 256;

const fn slot(address: u64) -> usize {
    (address / OS_PAGE) as usize % SLOTS
}

/// Waits that are kept before somebody must ask for them.
const WAITS: usize = 64;

/// The clock of a thread.
///
/// What has landed is taken out of its lane only when somebody asks for room, or is held up: a flight that a later access has
/// seen landed holds up nobody any more.
#[derive(Debug)]
pub struct Clock {
    /// Accesses so far,
    number: u64,
    /// each of which took this long,
    issue_ps: u64,
    /// and what passed beside: before the first one, and waiting.
    beside_ps: u64,
    window: u64,
    outstanding: usize,
    lanes: [Lane; LANES],
    /// In all lanes.
    in_flight: usize,
    /// That of the last flight.
    turn: u64,
    /// No load in flight holds up accesses with numbers up to this one.
    free_until: u64,
    /// How many of their values lie in the OS pages of each slot.
    values: [u8; SLOTS],
    /// Whether a flight may know its place only.
    unsettled: bool,
    /// For whose lines the thread waited, and how long, since somebody asked.
    waits: Vec<(Whose, u64)>,
    /// Room for all flights together.
    in_order: Vec<Flight>,
}

impl Clock {
    pub fn new(overlap: &Overlap, start_ps: u64) -> Self {
        Self {
            number: 0,
            issue_ps: crate::time::Time::from_ns(overlap.issue_ns).0,
            beside_ps: start_ps,
            window: u64::from(overlap.window.max(1)),
            outstanding: overlap.outstanding.clamp(1, OUTSTANDING_MAX) as usize,
            lanes: std::array::from_fn(|_| Lane::new()),
            in_flight: 0,
            turn: 0,
            free_until: u64::MAX,
            values: [0; SLOTS],
            unsettled: false,
            waits: Vec::with_capacity(WAITS),
            in_order: Vec::new(),
        }
    }

    /// Now, picoseconds.
    #[inline]
    pub const fn now_ps(&self) -> u64 {
        self.beside_ps + self.number * self.issue_ps
    }

    /// `count` accesses that the first level had.
    #[inline]
    pub const fn issue(&mut self, count: u64) {
        self.number += count;
    }

    /// Waits until access `address` may begin; it is the one that [`issue`](Self::issue) counted last.
    #[inline(always)]
    pub fn begin(&mut self, address: u64) {
        let may_be_pointed_at = self.values[slot(address)] | self.values[slot(address.wrapping_sub(OS_PAGE))] != 0;
        if may_be_pointed_at || self.number > self.free_until {
            self.begin_behind_loads(address);
        }
        if self.in_flight >= self.outstanding {
            self.make_room();
        }
    }

    /// Waits for each load that holds up access `address`, in the order in which they land.
    #[inline(never)]
    fn begin_behind_loads(&mut self, address: u64) {
        let (now_ps, is_late) = (self.now_ps(), self.number > self.free_until);
        // Nearly always there is one.
        let (mut count, mut last) = (0, (0, Whose::default()));
        for flight in self.lanes.iter().flat_map(Lane::flights) {
            if address.wrapping_sub(flight.value) < OS_PAGE || is_late {
                let until = self.held_until(address, flight);
                if until > now_ps {
                    count += 1;
                    last = (until, flight.whose);
                }
            }
        }
        match count {
            0 => {}
            1 => self.wait_until(last.0, last.1),
            _ => self.wait_for_many(address),
        }
        self.land();
        if is_late {
            let oldest = self.lanes.iter().flat_map(Lane::flights).filter_map(Flight::load).min();
            self.free_until = oldest.unwrap_or(u64::MAX).saturating_add(self.window);
        }
    }

    /// Until when a flight holds up access `address`; 0 if it does not.
    #[inline]
    fn held_until(&self, address: u64, flight: &Flight) -> u64 {
        let is_pointer = address.wrapping_sub(flight.value) < OS_PAGE && flight.value != 0;
        let until = if is_pointer { flight.done_ps } else { 0 };
        match flight.load() {
            // It waited at the end of the window, and what followed took its time since.
            Some(load) if self.number > load + self.window => {
                until.max(flight.done_ps + (self.number - load - self.window) * self.issue_ps)
            }
            _ => until,
        }
    }

    #[inline]
    fn wait_until(&mut self, until: u64, whose: Whose) {
        let ps = until.saturating_sub(self.now_ps());
        if ps > 0 {
            self.waits.push((whose, ps));
            self.beside_ps += ps;
        }
    }

    #[inline(never)]
    fn wait_for_many(&mut self, address: u64) {
        let mut all = std::mem::take(&mut self.in_order);
        all.extend(self.lanes.iter().flat_map(Lane::flights));
        all.sort_unstable_by_key(|flight| (flight.done_ps, flight.turn));
        for flight in all.drain(..) {
            self.wait_until(self.held_until(address, &flight), flight.whose);
        }
        self.in_order = all;
    }

    /// Takes out what has landed.
    fn land(&mut self) {
        let now_ps = self.now_ps();
        let Self { lanes, values, in_flight, .. } = self;
        for lane in lanes {
            while let Some(flight) = lane.earliest()
                && flight.done_ps <= now_ps
            {
                values[slot(flight.value)] -= u8::from(flight.value != 0);
                lane.land();
                *in_flight -= 1;
            }
        }
    }

    #[inline(never)]
    fn make_room(&mut self) {
        self.land();
        if self.in_flight >= self.outstanding {
            self.wait_for_earliest();
        }
        if self.in_flight == 0 {
            self.free_until = u64::MAX;
        }
    }

    fn wait_for_earliest(&mut self) {
        let first = |lane: &&mut Lane| lane.earliest().map_or((u64::MAX, 0), |flight| (flight.done_ps, flight.turn));
        let Some(lane) = self.lanes.iter_mut().min_by_key(first) else { return };
        let Some(flight) = lane.earliest() else { return };
        let Flight { done_ps, value, whose, .. } = *flight;
        self.values[slot(value)] -= u8::from(value != 0);
        lane.land();
        self.in_flight -= 1;
        self.wait_until(done_ps, whose);
    }

    /// The access that began is in flight until `done_ps`. What goes to a level takes as long as what went there before; memory's, in
    /// the first lane, any time.
    #[inline(always)]
    pub fn fly(&mut self, lane: usize, done_ps: u64, (load, value): (bool, u64), whose: Whose) {
        if done_ps <= self.now_ps() {
            return;
        }
        self.free_until = self.free_until.min(if load { self.number + self.window } else { u64::MAX });
        self.values[slot(value)] += u8::from(value != 0);
        self.turn = (self.number * 2).max(self.turn + 1);
        let whose = Whose(whose.0 | if load { 0 } else { Whose::IS_STORED });
        let flight = Flight { done_ps, turn: self.turn, value, whose };
        self.in_flight += 1;
        self.unsettled = true;
        if lane == 0 {
            self.lanes[0].line_up(flight);
        } else {
            self.lanes[lane % LANES].push(flight);
        }
    }

    /// Whether it is time to ask for the [waits](Self::waits).
    #[inline]
    pub const fn has_many_waits(&self) -> bool {
        self.waits.len() >= WAITS
    }

    /// For whose lines the thread waited since the last time, and how long each, picoseconds.
    pub fn waits(&mut self) -> impl Iterator<Item = (Whose, u64)> {
        self.waits.drain(..)
    }

    /// Places are about to change hands: `find` knows whose they are now.
    pub fn settle(&mut self, find: impl Fn(u64) -> Label) {
        if std::mem::take(&mut self.unsettled) {
            for flight in self.lanes.iter_mut().flat_map(Lane::flights_mut) {
                let is_stored = flight.whose.0 & Whose::IS_STORED;
                flight.whose = Whose(Whose::of_label(flight.whose.label(&find)).0 | is_stored);
            }
        }
    }

    /// Waits until nothing is in flight.
    pub fn drain(&mut self) {
        while self.in_flight > 0 {
            self.wait_for_earliest();
        }
        self.free_until = u64::MAX;
    }

    /// Goes on at `ps` if that is later: another thread's end was waited for.
    pub fn no_earlier_than(&mut self, ps: u64) {
        self.beside_ps += ps.saturating_sub(self.now_ps());
    }
}
