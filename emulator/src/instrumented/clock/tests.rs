//! The clock against one that goes through all flights each time.

use proptest::prelude::*;

use super::*;

/// Whose a place is.
const fn label_at(place: u64) -> Label {
    place as Label + 100
}

/// Who waited how long, in order.
#[derive(Default)]
struct Waited(Vec<(Label, u64)>);

impl Waited {
    fn waited(&mut self, whose: Whose, ps: u64) {
        self.0.push((whose.label(label_at), ps));
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
            if let Some(load) = flight.load()
                && self.number > load + window
            {
                until = until.max(flight.done_ps + (self.number - load - window) * issue_ps);
            }
            if until > self.now {
                self.waited.waited(flight.whose, until - self.now);
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
                self.waited.waited(flight.whose, flight.done_ps - self.now);
                self.now = flight.done_ps;
            }
        }
    }
}

proptest! {
    /// Steps are: how many accesses the first level had before, where the next one goes, to which lane, how long memory takes, whether
    /// it is a load, what it loads, and whose it is. Some labels are known from the start.
    #[test]
    fn it_does_what_going_through_all_does(
        outstanding in 1..6_u32,
        window in 1..30_u32,
        steps in prop::collection::vec(
            (0..9_u64, 0..300_u64, 0..LANES, 0..60_000_u64, prop::bool::ANY, prop::option::of(0..300_u64), 0..5_u16), 1..300),
    ) {
        let overlap = Overlap { outstanding, window, issue_ns: 1.0 };
        let (mut clock, mut waited) = (Clock::new(&overlap, 0), Waited::default());
        let mut plain = Plain { now: 0, number: 0, overlap, flights: Vec::new(), waited: Waited::default() };
        for (hits, place, lane, takes, load, value, label) in steps {
            // Half an OS page apart, the first ones at the very beginning and the very end of memory.
            let address = |place: u64| (place * OS_PAGE / 2).wrapping_sub(3 * OS_PAGE);
            let value = value.map_or(0, address);
            clock.issue(hits + 1);
            plain.number += hits + 1;
            plain.now += (hits + 1) * 1000;
            clock.begin(address(place));
            clock.waits().for_each(|(whose, ps)| waited.waited(whose, ps));
            plain.begin(address(place));
            prop_assert_eq!(clock.now_ps(), plain.now);
            let takes = [takes, 2000, 5000, 20_000][lane];
            let done_ps = plain.now + takes;
            let whose = if label % 2 == 0 { Whose::of_label(label) } else { Whose::of_place(label.into()) };
            clock.fly(lane, done_ps, (load, value), whose);
            if takes > 0 {
                let whose = Whose(whose.0 | if load { 0 } else { Whose::IS_STORED });
                plain.flights.push(Flight { done_ps, turn: 2 * plain.number, value, whose });
            }
            if label == 3 {
                clock.settle(label_at);
            }
        }
        prop_assert_eq!(waited.0, plain.waited.0);
        clock.drain();
        let last = plain.flights.iter().map(|flight| flight.done_ps).fold(plain.now, u64::max);
        prop_assert_eq!(clock.now_ps(), last);
    }
}
