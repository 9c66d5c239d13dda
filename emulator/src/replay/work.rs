//! What a thread does between its accesses.

/// Recorded times as picoseconds of work, rounded so that all of it together is right to half a picosecond.
#[derive(Clone, Debug)]
pub struct Work {
    /// Recorded time of the last event.
    tick: u64,
    /// Whole picoseconds of a tick.
    whole: u64,
    /// And the rest of it, in 2^-64 picoseconds.
    part: u64,
    /// What is above the last whole picosecond so far, likewise, and a half.
    rest: u64,
    /// All of it so far, picoseconds.
    pub total: u64,
}

impl Work {
    /// None so far; it begins at `tick`.
    pub fn new(tick: u64, ps_per_tick: f64) -> Self {
        let part = ps_per_tick.fract() * (u64::MAX as f64 + 1.0);
        Self { tick, whole: ps_per_tick as u64, part: part as u64, rest: 1 << 63, total: 0 }
    }

    /// Works until the recorded time `tick`; for how many picoseconds.
    #[inline(always)]
    pub fn until(&mut self, tick: u64) -> u64 {
        // Time does not run backwards.
        let ticks = tick.max(self.tick) - self.tick;
        self.tick += ticks;
        let parts = u128::from(ticks) * u128::from(self.part) + u128::from(self.rest);
        self.rest = parts as u64;
        let work = ticks.saturating_mul(self.whole).saturating_add((parts >> 64) as u64);
        self.total = self.total.saturating_add(work);
        work
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_work_together_is_right_to_half_a_picosecond() {
        for ps_per_tick in [1e3 / 6.0, 1000.0, 0.3, 1.0 / 3.0, 1e9, 0.0] {
            let (mut work, mut tick, mut sum) = (Work::new(5, ps_per_tick), 5, 0);
            for gap in [0, 1, 3, 0, 7, 64, 1000, 2, 2, 2, 1 << 30] {
                tick += gap;
                sum += work.until(tick);
                let exact = (tick - 5) as f64 * ps_per_tick;
                assert!((sum as f64 - exact).abs() <= 0.5 + exact * 1e-15, "{sum}, {exact}");
                assert_eq!(work.total, sum);
            }
        }
    }

    #[test]
    fn times_that_run_backwards_or_end_are_no_work() {
        let mut work = Work::new(100, 1e9);
        assert_eq!([work.until(50), work.until(101), work.until(100)], [0, 1_000_000_000, 0]);
        assert_eq!(work.until(u64::MAX), u64::MAX, "saturates");
        assert_eq!(work.total, u64::MAX);
    }
}
