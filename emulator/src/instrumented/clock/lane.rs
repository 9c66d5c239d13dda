//! Flights to one place, the first to land first.

use super::Flight;

/// Most accesses in flight, and so in a lane.
pub const OUTSTANDING_MAX: u32 = 64;
const RING: usize = OUTSTANDING_MAX as usize;

/// Those from `landed` to `begun` are in flight; each at the remainder of its place.
#[derive(Debug)]
pub struct Lane {
    ring: Box<[Flight; RING]>,
    landed: usize,
    begun: usize,
}

impl Lane {
    pub fn new() -> Self {
        Self { ring: Box::new([Flight::default(); RING]), landed: 0, begun: 0 }
    }

    /// The one that lands first.
    #[inline]
    pub fn earliest(&self) -> Option<&Flight> {
        (self.landed < self.begun).then(|| &self.ring[self.landed % RING])
    }

    /// Takes that one out.
    #[inline]
    pub const fn land(&mut self) {
        self.landed += 1;
    }

    /// Those in flight, in the order in which they land.
    #[inline]
    pub fn flights(&self) -> impl Iterator<Item = &Flight> {
        (self.landed..self.begun).map(|at| &self.ring[at % RING])
    }

    pub fn flights_mut(&mut self) -> impl Iterator<Item = &mut Flight> {
        let (before, after) = self.ring.split_at_mut(self.landed % RING);
        after.iter_mut().chain(before).take(self.begun - self.landed)
    }

    /// One more, which lands no earlier than all others.
    #[inline(always)]
    pub fn push(&mut self, flight: Flight) {
        self.ring[self.begun % RING] = flight;
        self.begun += 1;
    }

    /// One more, which lands at any time.
    #[inline]
    pub fn line_up(&mut self, flight: Flight) {
        let mut at = self.begun;
        self.begun += 1;
        while at > self.landed && self.ring[(at - 1) % RING].done_ps > flight.done_ps {
            self.ring[at % RING] = self.ring[(at - 1) % RING];
            at -= 1;
        }
        self.ring[at % RING] = flight;
    }
}
