//! Something that lets a certain number of bytes pass in a second.

use crate::cache::LINE;

/// Slots that a lane remembers.
const SLOTS: u64 = 64;

/// The newest slots are left out where utilisation is taken: they are not over yet, or a short backlog has reached into
/// them while work for the ones before still comes.
const UNSETTLED: u64 = 4;

/// Slots over which utilisation is taken.
const SETTLED: u64 = SLOTS - UNSETTLED;

/// Work is counted in 2^-10 picoseconds: a line takes only 68 picoseconds on the fastest memory, and a rounded
/// picosecond would be more than a per cent of its bandwidth.
const FINE: u32 = 10;

/// Fixed-point bits of the work that a byte makes.
const FRACTION: u32 = 14;

/// Cost of a picosecond a byte.
const UNIT: f64 = (1_u64 << (FINE + FRACTION)) as f64;

/// How much of a lane's time something takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Work(u64);

impl Work {
    /// As much as a lane does in so many picoseconds.
    pub(super) const fn of_time(picoseconds: u64) -> Self {
        Self(picoseconds << FINE)
    }

    /// How long it takes, picoseconds.
    pub(super) const fn time(self) -> u64 {
        self.0 >> FINE
    }
}

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
    /// Work of a byte, times 2^FRACTION.
    cost: u64,
    /// Work of a line of the caches, which is what nearly all requests are for.
    line: Work,
    /// A slot is 2^shift picoseconds long.
    shift: u32,
    /// The work that a slot has room for.
    width: u64,
    /// What a unit of work in the settled slots adds to the utilisation.
    share: f64,
    /// The last slot that has work, or that time has reached.
    newest: u64,
    /// All slots from here up to `newest`, which is left out, are full.
    full_from: u64,
    /// Work in the slots up to `newest - UNSETTLED`.
    sum: u64,
    /// Work in slot `n` at `n % SLOTS`.
    used: [u64; SLOTS as usize],
}

impl Lane {
    /// A lane for `bandwidth` bytes a second, with slots at least `slot` picoseconds long.
    pub(super) fn new(bandwidth: f64, slot: u64) -> Self {
        let shift = slot.clamp(1 << 12, 1 << 40).next_power_of_two().trailing_zeros();
        #[expect(clippy::cast_precision_loss, reason = "a power of two times 60")]
        let share = 1.0 / (SETTLED << (shift + FINE)) as f64;
        let (cost, line, width, used) = (0, Work(0), 1 << (shift + FINE), [0; SLOTS as usize]);
        let mut lane = Self { cost, line, shift, width, share, newest: 0, full_from: 0, sum: 0, used };
        lane.set_bandwidth(bandwidth);
        lane
    }

    /// From now on, lets `bandwidth` bytes a second pass.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is meant")]
    pub(super) fn set_bandwidth(&mut self, bandwidth: f64) {
        self.cost = (1e12 / bandwidth.max(1e-3) * UNIT).round() as u64;
        self.line = self.work_of(LINE);
    }

    /// Bytes that pass in a second.
    #[expect(clippy::cast_precision_loss, reason = "nobody needs more digits of a bandwidth")]
    pub(super) fn bandwidth(&self) -> f64 {
        1e12 * UNIT / self.cost as f64
    }

    /// Bytes that passed in the last slots.
    #[expect(clippy::cast_precision_loss, reason = "for a share of them")]
    pub(super) fn bytes(&self) -> f64 {
        self.sum as f64 / self.cost as f64 * f64::from(1_u32 << FRACTION)
    }

    /// What it takes to let `bytes` pass.
    #[inline]
    pub(super) const fn work(&self, bytes: u64) -> Work {
        if bytes == LINE { self.line } else { self.work_of(bytes) }
    }

    const fn work_of(&self, bytes: u64) -> Work {
        Work(((bytes as u128 * self.cost as u128) >> FRACTION) as u64)
    }

    /// Number of the newest slot: while it stays, so does [`Lane::utilisation`].
    pub(super) const fn newest(&self) -> u64 {
        self.newest
    }

    /// Share of the last slots that was in use.
    #[expect(clippy::cast_precision_loss, reason = "a share needs no 64 bits")]
    pub(super) fn utilisation(&self) -> f64 {
        self.sum as f64 * self.share
    }

    /// Notes that time has reached slot `slot`, so that what was long ago counts no more.
    #[inline]
    pub(super) fn reach(&mut self, slot: u64) {
        if slot > self.newest {
            self.advance(slot);
        }
    }

    /// Lets `work` that comes at `at` pass, and says how long it waits until it begins to; picoseconds.
    #[inline]
    pub(super) fn admit(&mut self, at: u64, work: Work) -> u64 {
        let own = at >> self.shift;
        if own == self.newest {
            // Nearly always there is room for all of it in the newest slot.
            let used = &mut self.used[Self::index(own)];
            let sum = *used + work.0;
            if sum <= self.width {
                *used = sum;
                return 0;
            }
        }
        self.admit_elsewhere(at, work)
    }

    /// What slot `slot`, which is the newest, would have to do after another line.
    #[inline]
    pub(super) const fn with_line(&self, slot: u64) -> u64 {
        self.used[Self::index(slot)] + self.line.0
    }

    /// Lets a line pass in slot `slot`, which is the newest and has room: see [`with_line`](Self::with_line).
    #[inline]
    pub(super) const fn admit_line(&mut self, slot: u64, with_line: u64) {
        self.used[Self::index(slot)] = with_line;
    }

    /// The slot of a time, picoseconds.
    #[inline]
    pub(super) const fn slot(&self, at: u64) -> u64 {
        at >> self.shift
    }

    #[inline(never)]
    fn admit_elsewhere(&mut self, at: u64, work: Work) -> u64 {
        let own = at >> self.shift;
        self.reach(own);
        let has_room = own == self.newest && self.room(own) > 0;
        let slot = if has_room { own } else { self.first_open(own) };
        let begins_later = slot != own;
        let begins = (slot << self.shift) + (self.work_in(slot) >> FINE);
        let wait = if begins_later { begins.saturating_sub(at) } else { 0 };
        self.put(slot, work.0);
        wait
    }

    const fn index(slot: u64) -> usize {
        (slot % SLOTS) as usize
    }

    #[inline]
    pub(super) const fn width(&self) -> u64 {
        self.width
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
            if slot + UNSETTLED <= self.newest {
                self.sum += part;
            }
            if slot + 1 == self.full_from && self.room(slot) == 0 {
                self.full_from = slot;
            }
            work -= part;
            if work == 0 {
                return;
            }
            if work / self.width() > 2 * SLOTS {
                return self.fill_ahead(work);
            }
            slot = self.first_open(slot + 1);
        }
    }

    /// Puts more work than all slots hold behind everything else.
    fn fill_ahead(&mut self, work: u64) {
        self.newest += work / self.width() + 1;
        self.used = [self.width(); SLOTS as usize];
        self.used[Self::index(self.newest)] = work % self.width();
        self.full_from = self.newest.saturating_sub(SLOTS - 1);
        self.sum = SETTLED * self.width();
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
            self.newest += 1;
            // Slot numbers begin at zero, and so does the work in those before.
            self.sum += self.newest.checked_sub(UNSETTLED).map_or(0, |settled| self.work_in(settled));
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

    const LINE: Work = Work::of_time(1000);

    /// 64 GB/s: a line takes a nanosecond. Slots of 4096 ps, so four lines and a bit each.
    fn lane() -> Lane {
        Lane::new(64e9, 4096)
    }

    #[test]
    fn work_waits_once_its_slot_is_full() {
        let mut lane = lane();
        let line = lane.work(64);
        assert_eq!(line.time(), 1000);
        let waits: Vec<u64> = (0..8).map(|_| lane.admit(0, line)).collect();
        // The fifth begins in slot 0 and ends in slot 1.
        assert_eq!(waits, [0, 0, 0, 0, 0, 5000, 6000, 7000]);
    }

    #[test]
    fn late_news_find_the_room_that_was_free_then() {
        let mut lane = lane();
        lane.admit(50_000, LINE);
        assert_eq!(lane.admit(10_000, LINE), 0);
        assert_eq!(lane.utilisation(), 1000.0 / (60.0 * 4096.0));
    }

    #[test]
    fn a_large_piece_of_work_goes_on_for_its_whole_length() {
        let mut lane = lane();
        let work = lane.work(64 << 20);
        assert_eq!(lane.admit(0, work), 0);
        let wait = lane.admit(1000, LINE);
        assert_eq!(wait, work.time() - 1000);
        assert_eq!(lane.utilisation(), 1.0);
    }

    #[test]
    fn utilisation_is_the_share_of_the_bandwidth_that_is_used() {
        let mut lane = lane();
        for n in 0..1000 {
            lane.admit(n * 4000, LINE);
        }
        assert!((lane.utilisation() - 0.25).abs() < 0.01, "{}", lane.utilisation());
        lane.admit(100_000_000, LINE);
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
                let begins = at + lane.admit(at, Work::of_time(work));
                total += work;
                last = last.max(begins + work);
                // Everything fits in front of the end of the last slot in use.
                prop_assert!(total <= (lane.newest() + 1) << lane.shift);
                prop_assert!(last <= (lane.newest() + 2) << lane.shift);
                let kept: u64 = (0..SLOTS).filter(|&n| (lane.newest + SLOTS - n) % SLOTS >= UNSETTLED).map(|n| lane.used[n as usize]).sum();
                prop_assert_eq!(kept, lane.sum);
                prop_assert!(lane.used.iter().all(|&used| used <= lane.width()));
                prop_assert!((lane.full_from..lane.newest).all(|slot| lane.room(slot) == 0 || slot + SLOTS <= lane.newest));
            }
        }
    }
}
