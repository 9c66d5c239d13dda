//! The clock against one that keeps its lines in a plain list.

use proptest::prelude::*;

use super::*;

/// Lines on their way in the order in which they were asked for: line, when it comes, access, region.
#[derive(Default)]
struct Plain {
    now: u64,
    pending: Vec<(u64, u64, u64, RegionIndex)>,
    accesses: u64,
    lost: [u64; 4],
}

impl Plain {
    fn wait_for(&mut self, at: usize) {
        let (_, done, _, region) = self.pending.remove(at);
        self.lost[region as usize] += done.saturating_sub(self.now);
        self.now = self.now.max(done);
    }

    fn begin(&mut self, window: u64) {
        self.accesses += 1;
        while self.pending.first().is_some_and(|&(_, _, access, _)| self.accesses - access > window) {
            self.wait_for(0);
        }
    }

    fn make_room(&mut self, outstanding: usize) {
        let now = self.now;
        self.pending.retain(|&(_, done, ..)| done > now);
        while self.pending.len() >= outstanding {
            let first = (0..self.pending.len()).min_by_key(|&at| self.pending[at].1).unwrap();
            self.wait_for(first);
        }
    }

    fn on_its_way(&self, line: u64) -> Option<(u64, Cause)> {
        let found = self.pending.iter().find(|pending| pending.0 == line && pending.1 > self.now)?;
        Some((found.1, Cause::Region(found.3)))
    }
}

proptest! {
    /// Steps are: time that passes, a line, how long it takes, whose it is, and whether it is asked for.
    #[test]
    fn it_does_what_a_list_does(
        window in 1..12_u64,
        outstanding in 1..6_usize,
        steps in prop::collection::vec((0..40_u64, 0..9_u64, 0..200_u64, 0..4_u32, prop::bool::ANY), 1..400),
    ) {
        let (mut clock, mut plain) = (ThreadClock::new(outstanding, window), Plain::default());
        for (passed, number, takes, region, asks) in steps {
            // Some share a slot.
            let line = (number % 3 * SLOTS as u64 + number / 3) * LINE;
            clock.now += passed;
            plain.now += passed;
            clock.begin();
            plain.begin(window);
            prop_assert_eq!(clock.on_its_way(line), plain.on_its_way(line));
            if asks {
                clock.make_room();
                plain.make_room(outstanding);
                let done = clock.now + takes;
                clock.ask(line, done, region);
                plain.pending.push((line, done, plain.accesses, region));
            }
            prop_assert_eq!(clock.now, plain.now);
        }
        clock.drain();
        while !plain.pending.is_empty() {
            plain.wait_for(0);
        }
        prop_assert_eq!(clock.now, plain.now);
        let mut lost = [0; 4];
        clock.lost().for_each(|(region, ps)| lost[region as usize] = ps);
        prop_assert_eq!(lost, plain.lost);
    }
}
