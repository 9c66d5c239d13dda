//! Something that lets a certain number of bytes pass in a second.

/// Slots that a lane remembers.
const SLOTS: u64 = 64;

/// Slots over which utilisation is taken: all but the newest, which is not over yet.
const COMPLETE: u64 = SLOTS - 1;

/// Fixed-point bits of the picoseconds that a byte takes.
const FRACTION: u32 = 24;

/// One direction of a link, or what limits a device.
///
/// Time is cut into slots, and a slot has room for as much work as it is long. Work goes into the slot in which it
/// comes, or into the first later one with room. That is a queue, but one that forgives: work that arrives out of order
/// (the clocks of several threads differ a little) finds the room that was free in its own past, and a burst within a
/// slot waits for nothing.
///
/// ```text
///   slot:   …  12    13    14    15            work that comes in 13 waits until 14 is half over
///   used:   …  full  full  half  empty
///                           ▲
///                         newest
/// ```
#[derive(Clone, Debug)]
pub(super) struct Lane {
    /// Picoseconds of a byte, times 2^FRACTION.
    cost: u64,
    /// A slot is 2^shift picoseconds long.
    shift: u32,
    /// The last slot that has work, or that time has reached.
    newest: u64,
    /// All slots from here up to `newest`, which is left out, are full.
    full_from: u64,
    /// Work in the last `COMPLETE` slots before `newest`.
    sum: u64,
    /// Work in slot `n` at `n % SLOTS`, picoseconds.
    used: [u64; SLOTS as usize],
}

impl Lane {
    /// A lane for `bandwidth` bytes a second, with slots at least `slot` picoseconds long.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is meant")]
    pub(super) fn new(bandwidth: f64, slot: u64) -> Self {
        let cost = (1e12 / bandwidth.max(1e-3) * f64::from(1 << FRACTION)).round() as u64;
        let shift = slot.clamp(1 << 12, 1 << 40).next_power_of_two().trailing_zeros();
        Self { cost, shift, newest: 0, full_from: 0, sum: 0, used: [0; SLOTS as usize] }
    }

    /// Picoseconds that `bytes` take to pass.
    pub(super) const fn work(&self, bytes: u64) -> u64 {
        ((bytes as u128 * self.cost as u128) >> FRACTION) as u64
    }

    /// Number of the newest slot: while it stays, so does [`Lane::utilisation`].
    pub(super) const fn newest(&self) -> u64 {
        self.newest
    }

    /// Share of the last slots that was in use.
    #[expect(clippy::cast_precision_loss, reason = "a share needs no 64 bits")]
    pub(super) fn utilisation(&self) -> f64 {
        self.sum as f64 / (COMPLETE << self.shift) as f64
    }

    /// Notes that time has reached slot `slot`, so that what was long ago counts no more.
    #[inline]
    pub(super) fn reach(&mut self, slot: u64) {
        if slot > self.newest {
            self.advance(slot);
        }
    }

    /// Lets `work` that comes at `at` pass, and says how long it waits until it begins to; both picoseconds.
    #[inline]
    pub(super) fn admit(&mut self, at: u64, work: u64) -> u64 {
        let own = at >> self.shift;
        self.reach(own);
        let slot = if own == self.newest && self.room(own) > 0 { own } else { self.first_open(own) };
        let wait = if slot == own { 0 } else { ((slot << self.shift) + self.work_in(slot)).saturating_sub(at) };
        self.put(slot, work);
        wait
    }

    const fn index(slot: u64) -> usize {
        (slot % SLOTS) as usize
    }

    const fn width(&self) -> u64 {
        1 << self.shift
    }

    fn work_in(&self, slot: u64) -> u64 {
        self.used[Self::index(slot)]
    }

    fn room(&self, slot: u64) -> u64 {
        self.width() - self.work_in(slot)
    }

    /// The first slot from `slot` on that has room. Slots that are forgotten count as full.
    fn first_open(&mut self, slot: u64) -> u64 {
        let mut slot = slot.max((self.newest + 1).saturating_sub(SLOTS));
        while slot < self.full_from {
            if self.room(slot) > 0 {
                return slot;
            }
            slot += 1;
        }
        if self.room(self.newest) == 0 {
            self.advance(self.newest + 1);
        }
        self.newest
    }

    /// Puts work into `slot`, which has room, and what it has no room for into later ones.
    fn put(&mut self, mut slot: u64, mut work: u64) {
        loop {
            let part = work.min(self.room(slot));
            self.used[Self::index(slot)] += part;
            if slot < self.newest {
                self.sum += part;
            }
            if slot + 1 == self.full_from && self.room(slot) == 0 {
                self.full_from = slot;
            }
            work -= part;
            if work == 0 {
                return;
            }
            if work >> self.shift > 2 * SLOTS {
                return self.fill_ahead(work);
            }
            slot = self.first_open(slot + 1);
        }
    }

    /// Puts more work than all slots hold behind everything else.
    fn fill_ahead(&mut self, work: u64) {
        self.newest += (work >> self.shift) + 1;
        self.used = [self.width(); SLOTS as usize];
        self.used[Self::index(self.newest)] = work & (self.width() - 1);
        self.full_from = self.newest.saturating_sub(COMPLETE);
        self.sum = COMPLETE << self.shift;
    }

    fn advance(&mut self, to: u64) {
        if to - self.newest >= SLOTS {
            self.used = [0; SLOTS as usize];
            (self.newest, self.full_from, self.sum) = (to, to, 0);
            return;
        }
        while self.newest < to {
            if self.room(self.newest) > 0 {
                self.full_from = self.newest + 1;
            }
            self.sum += self.work_in(self.newest);
            self.newest += 1;
            let reused = &mut self.used[Self::index(self.newest)];
            self.sum -= *reused;
            *reused = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 64 GB/s: a line takes a nanosecond. Slots of 4096 ps, so four lines and a bit each.
    fn lane() -> Lane {
        Lane::new(64e9, 4096)
    }

    #[test]
    fn work_waits_once_its_slot_is_full() {
        let mut lane = lane();
        let line = lane.work(64);
        assert_eq!(line, 1000);
        let waits: Vec<u64> = (0..8).map(|_| lane.admit(0, line)).collect();
        // The fifth begins in slot 0 and ends in slot 1.
        assert_eq!(waits, [0, 0, 0, 0, 0, 5000, 6000, 7000]);
    }

    #[test]
    fn late_news_find_the_room_that_was_free_then() {
        let mut lane = lane();
        lane.admit(50_000, 1000);
        assert_eq!(lane.admit(10_000, 1000), 0);
        assert_eq!(lane.utilisation(), 1000.0 / (63.0 * 4096.0));
    }

    #[test]
    fn a_large_piece_of_work_goes_on_for_its_whole_length() {
        let mut lane = lane();
        let work = lane.work(64 << 20);
        assert_eq!(lane.admit(0, work), 0);
        let wait = lane.admit(1000, 1000);
        assert_eq!(wait, work - 1000);
        assert_eq!(lane.utilisation(), 1.0);
    }

    #[test]
    fn utilisation_is_the_share_of_the_bandwidth_that_is_used() {
        let mut lane = lane();
        for n in 0..1000 {
            lane.admit(n * 4000, 1000);
        }
        assert!((lane.utilisation() - 0.25).abs() < 0.01, "{}", lane.utilisation());
        lane.admit(100_000_000, 1000);
        assert_eq!(lane.utilisation(), 0.0, "long ago");
    }

    proptest! {
        /// No lane lets more pass than it may, however requests are mixed up in time: what was admitted by the end of
        /// any slot fits into the time up to there.
        #[test]
        fn never_more_than_the_bandwidth(steps in prop::collection::vec((0_u64..3000, 0_u64..40_000, 1_u64..3000), 1..300)) {
            let mut lane = lane();
            let (mut clock, mut total, mut last) = (0_u64, 0_u64, 0_u64);
            for (step, back, work) in steps {
                clock += step;
                let at = clock.saturating_sub(back);
                let begins = at + lane.admit(at, work);
                total += work;
                last = last.max(begins + work);
                // Everything fits in front of the end of the last slot in use.
                prop_assert!(total <= (lane.newest() + 1) << lane.shift);
                prop_assert!(last <= (lane.newest() + 2) << lane.shift);
                let kept: u64 = (0..SLOTS).filter(|&n| n != lane.newest % SLOTS).map(|n| lane.used[n as usize]).sum();
                prop_assert_eq!(kept, lane.sum);
                prop_assert!(lane.used.iter().all(|&used| used <= lane.width()));
                prop_assert!((lane.full_from..lane.newest).all(|slot| lane.room(slot) == 0 || slot + SLOTS <= lane.newest));
            }
        }
    }
}
