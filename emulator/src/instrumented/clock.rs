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

/// The clock of a thread.
#[derive(Debug)]
pub struct Clock {
    now_ps: u64,
    /// Accesses so far that `now_ps` includes.
    number: u64,
    issue_ps: u64,
    window: u64,
    outstanding: usize,
    flights: Vec<Flight>,
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
            flights: Vec::with_capacity(outstanding),
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
    pub fn begin(&mut self, address: u64, waits: &mut impl Waits) {
        let (window, issue_ps, number) = (self.window, self.issue_ps, self.number);
        let mut now = self.now_ps;
        self.flights.retain(|flight| {
            let mut until = now;
            if flight.value != 0 && address.wrapping_sub(flight.value) < OS_PAGE {
                until = until.max(flight.done_ps);
            }
            if flight.load && number > flight.number + window {
                // It waited at the end of the window, and what followed took its time since.
                until = until.max(flight.done_ps + (number - flight.number - window) * issue_ps);
            }
            if until > now {
                waits.waited(flight.label, until - now);
                now = until;
            }
            flight.done_ps > now
        });
        if self.flights.len() >= self.outstanding {
            let (at, first) = self
                .flights
                .iter()
                .enumerate()
                .min_by_key(|(_, f)| f.done_ps)
                .map_or((0, now), |(at, f)| (at, f.done_ps));
            let flight = self.flights.swap_remove(at);
            if first > now {
                waits.waited(flight.label, first - now);
                now = first;
            }
        }
        self.now_ps = now;
    }

    /// The access that began is in flight until `done_ps`.
    pub fn fly(&mut self, done_ps: u64, load: bool, value: u64, label: Label) {
        if done_ps > self.now_ps {
            self.flights.push(Flight { done_ps, number: self.number, value, load, label });
        }
    }

    /// Waits until nothing is in flight.
    pub fn drain(&mut self, waits: &mut impl Waits) {
        self.flights.sort_by_key(|flight| flight.done_ps);
        for flight in std::mem::take(&mut self.flights) {
            if flight.done_ps > self.now_ps {
                waits.waited(flight.label, flight.done_ps - self.now_ps);
                self.now_ps = flight.done_ps;
            }
        }
    }

    /// Goes on at `ps` if that is later: another thread's end was waited for.
    pub fn no_earlier_than(&mut self, ps: u64) {
        self.now_ps = self.now_ps.max(ps);
    }
}
