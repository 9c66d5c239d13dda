//! The clock against one that goes through all flights each time.

use proptest::prelude::*;

use super::*;

/// Who waited how long, in order.
#[derive(Default)]
struct Waited(Vec<(Label, u64)>);

impl Waits for Waited {
    fn waited(&mut self, label: Label, ps: u64) {
        self.0.push((label, ps));
    }
}

struct Plain {
    now: u64,
    number: u64,
    overlap: Overlap,
    flights: Vec<Flight>,
    waited: Waited,
}

impl Plain {
    fn begin(&mut self, address: u64) {
        let (issue_ps, window) = (1000, u64::from(self.overlap.window));
        // Of those that land together the first stays first.
        self.flights.sort_by_key(|flight| flight.done_ps);
        let mut at = 0;
        while at < self.flights.len() {
            let flight = self.flights[at];
            let mut until = self.now;
            if flight.value != 0 && address.wrapping_sub(flight.value) < OS_PAGE {
                until = until.max(flight.done_ps);
            }
            if flight.load && self.number > flight.number + window {
                until = until.max(flight.done_ps + (self.number - flight.number - window) * issue_ps);
            }
            if until > self.now {
                self.waited.waited(flight.label, until - self.now);
                self.now = until;
            }
            if flight.done_ps > self.now {
                at += 1;
            } else {
                self.flights.remove(at);
            }
        }
        if self.flights.len() >= self.overlap.outstanding as usize {
            let flight = self.flights.remove(0);
            if flight.done_ps > self.now {
                self.waited.waited(flight.label, flight.done_ps - self.now);
                self.now = flight.done_ps;
            }
        }
    }
}

proptest! {
    /// Steps are: how many accesses the first level had before, where the next one goes, how long it takes, whether it is
    /// a load, what it loads, and whose it is.
    #[test]
    fn it_does_what_going_through_all_does(
        outstanding in 1..6_u32,
        window in 1..30_u32,
        steps in prop::collection::vec(
            (0..9_u64, 0..300_u64, 0..60_000_u64, prop::bool::ANY, prop::option::of(0..300_u64), 0..5_u16), 1..300),
    ) {
        let overlap = Overlap { outstanding, window, issue_ns: 1.0 };
        let (mut clock, mut waited) = (Clock::new(&overlap, 0), Waited::default());
        let mut plain = Plain { now: 0, number: 0, overlap, flights: Vec::new(), waited: Waited::default() };
        for (hits, place, takes, load, value, label) in steps {
            // Half an OS page apart, the first ones at the very beginning and the very end of memory.
            let address = |place: u64| (place * OS_PAGE / 2).wrapping_sub(3 * OS_PAGE);
            let value = value.map_or(0, address);
            clock.issue(hits + 1);
            plain.number += hits + 1;
            plain.now += (hits + 1) * 1000;
            clock.begin(address(place), &mut waited);
            plain.begin(address(place));
            prop_assert_eq!(clock.now_ps(), plain.now);
            let done_ps = plain.now + takes;
            clock.fly(done_ps, load, value, label);
            if takes > 0 {
                plain.flights.push(Flight { done_ps, number: plain.number, value, load, label });
            }
        }
        prop_assert_eq!(waited.0, plain.waited.0);
        clock.drain(&mut Waited::default());
        let last = plain.flights.iter().map(|flight| flight.done_ps).fold(plain.now, u64::max);
        prop_assert_eq!(clock.now_ps(), last);
    }
}
