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

use super::space::{Label, OS_PAGE};

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

/// Most accesses in flight.
pub const OUTSTANDING_MAX: u32 = 64;

/// An access in flight.
#[derive(Clone, Copy, Debug)]
struct Flight {
    done_ps: u64,
    /// Number of the access.
    number: u64,
    /// What was loaded, if it can be an address; 0 otherwise.
    value: u64,
    load: bool,
    label: Label,
}

/// Room for flights.
const RING: usize = 64;
const _: () = assert!(RING >= OUTSTANDING_MAX as usize);

/// Slots by which addresses among the loaded values are told from most others.
const SLOTS: usize = 256;

const fn slot(address: u64) -> usize {
    (address / OS_PAGE) as usize % SLOTS
}

/// The clock of a thread.
#[derive(Debug)]
pub struct Clock {
    now_ps: u64,
    /// Accesses so far that `now_ps` includes.
    number: u64,
    issue_ps: u64,
    window: u64,
    outstanding: usize,
    /// Those from `landed` to `begun` are in flight, the first to land first; each at the remainder of its place. Places before
    /// `landed` are there, too: at most [`RING`] flights come in front without one landing.
    flights: Box<[Flight; RING]>,
    landed: usize,
    begun: usize,
    /// When the next one lands; `u64::MAX` if there is none.
    earliest_ps: u64,
    /// No load in flight has a lower number.
    oldest_load: u64,
    /// How many of their values lie in the OS pages of each slot.
    values: [u8; SLOTS],
}

/// How long a thread waited, and for whom.
pub trait Waits {
    /// `ps` picoseconds for a line of `label`'s.
    fn waited(&mut self, label: Label, ps: u64);
}

impl Clock {
    pub fn new(overlap: &Overlap, start_ps: u64) -> Self {
        let outstanding = overlap.outstanding.clamp(1, OUTSTANDING_MAX) as usize;
        Self {
            now_ps: start_ps,
            number: 0,
            issue_ps: crate::time::Time::from_ns(overlap.issue_ns).0,
            window: u64::from(overlap.window.max(1)),
            outstanding,
            flights: Box::new([Flight { done_ps: 0, number: 0, value: 0, load: false, label: 0 }; RING]),
            landed: RING,
            begun: RING,
            earliest_ps: u64::MAX,
            oldest_load: u64::MAX,
            values: [0; SLOTS],
        }
    }

    /// Now, picoseconds.
    pub const fn now_ps(&self) -> u64 {
        self.now_ps
    }

    /// `count` accesses that the first level had.
    #[inline]
    pub const fn issue(&mut self, count: u64) {
        self.number += count;
        self.now_ps += count * self.issue_ps;
    }

    /// Waits until access `address` may begin; it is the one that [`issue`](Self::issue) counted last.
    #[inline]
    pub fn begin(&mut self, address: u64, waits: &mut impl Waits) {
        let may_be_pointed_at = self.values[slot(address)] | self.values[slot(address.wrapping_sub(OS_PAGE))] != 0;
        if may_be_pointed_at || self.number > self.oldest_load.saturating_add(self.window) {
            self.begin_behind_loads(address, waits);
        } else if self.earliest_ps <= self.now_ps {
            self.land();
        }
        if self.begun - self.landed >= self.outstanding {
            self.wait_for_earliest(waits);
        }
    }

    /// Waits for each load that holds up access `address`, in the order in which they land.
    #[inline(never)]
    fn begin_behind_loads(&mut self, address: u64, waits: &mut impl Waits) {
        let (window, issue_ps, number) = (self.window, self.issue_ps, self.number);
        self.oldest_load = u64::MAX;
        for at in self.landed..self.begun {
            let flight = &self.flights[at % RING];
            let mut until = self.now_ps;
            if flight.value != 0 && address.wrapping_sub(flight.value) < OS_PAGE {
                until = until.max(flight.done_ps);
            }
            if flight.load && number > flight.number + window {
                // It waited at the end of the window, and what followed took its time since.
                until = until.max(flight.done_ps + (number - flight.number - window) * issue_ps);
            }
            if until > self.now_ps {
                waits.waited(flight.label, until - self.now_ps);
                self.now_ps = until;
            }
            if flight.load && flight.done_ps > self.now_ps {
                self.oldest_load = self.oldest_load.min(flight.number);
            }
        }
        self.land();
    }

    /// Forgets what has landed.
    #[inline]
    fn land(&mut self) {
        while self.earliest_ps <= self.now_ps {
            self.land_earliest();
        }
    }

    /// Forgets the flight that lands first. There is one.
    #[inline(always)]
    fn land_earliest(&mut self) {
        let value = self.flights[self.landed % RING].value;
        self.values[slot(value)] -= u8::from(value != 0);
        self.landed += 1;
        if self.landed < self.begun {
            self.earliest_ps = self.flights[self.landed % RING].done_ps;
        } else {
            (self.earliest_ps, self.oldest_load) = (u64::MAX, u64::MAX);
        }
    }

    #[inline]
    fn wait_for_earliest(&mut self, waits: &mut impl Waits) {
        if self.earliest_ps > self.now_ps {
            waits.waited(self.flights[self.landed % RING].label, self.earliest_ps - self.now_ps);
            self.now_ps = self.earliest_ps;
        }
        self.land_earliest();
    }

    /// The access that began is in flight until `done_ps`.
    #[inline]
    pub fn fly(&mut self, done_ps: u64, load: bool, value: u64, label: Label) {
        if done_ps <= self.now_ps {
            return;
        }
        let flight = Flight { done_ps, number: self.number, value, load, label };
        self.values[slot(value)] += u8::from(value != 0);
        self.oldest_load = self.oldest_load.min(if load { self.number } else { u64::MAX });
        self.earliest_ps = self.earliest_ps.min(done_ps);
        self.line_up(flight);
    }

    /// Finds a flight its place: memory's are long and land behind most, the caches' are short.
    #[inline]
    fn line_up(&mut self, flight: Flight) {
        let middle = self.landed.midpoint(self.begun);
        if flight.done_ps < self.flights[middle % RING].done_ps && middle < self.begun {
            let mut at = self.landed - 1;
            self.landed = at;
            while self.flights[(at + 1) % RING].done_ps <= flight.done_ps {
                self.flights[at % RING] = self.flights[(at + 1) % RING];
                at += 1;
            }
            self.flights[at % RING] = flight;
        } else {
            let mut at = self.begun;
            self.begun += 1;
            while at > self.landed && self.flights[(at - 1) % RING].done_ps > flight.done_ps {
                self.flights[at % RING] = self.flights[(at - 1) % RING];
                at -= 1;
            }
            self.flights[at % RING] = flight;
        }
    }

    /// Waits until nothing is in flight.
    pub fn drain(&mut self, waits: &mut impl Waits) {
        while self.landed < self.begun {
            self.wait_for_earliest(waits);
        }
    }

    /// Goes on at `ps` if that is later: another thread's end was waited for.
    pub fn no_earlier_than(&mut self, ps: u64) {
        self.now_ps = self.now_ps.max(ps);
    }
}

#[cfg(test)]
mod tests;
