//! How fast a thread works while it runs. A run is cut into short pieces and the median piece counts, so that pieces
//! during which the thread was preempted, or its virtual CPU was, do not.

use std::time::{Duration, Instant};

use super::Spread;

/// Times the pieces of one run of one thread.
#[derive(Debug)]
pub(super) struct Pace {
    begun: Instant,
    /// Nanoseconds for a unit of work, by piece.
    per_unit: Vec<f64>,
    units: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { begun: Instant::now(), per_unit: Vec::new(), units: 0.0 }
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Paced {
    /// Units of work a second, of the median piece.
    pub per_second: f64,
    /// Part of the run that cannot be explained by pieces of that pace: the thread was kept waiting.
    pub kept_waiting: f64,
}

impl Pace {
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.per_unit.is_empty()
    }

    /// Does a piece of `units` units of work.
    pub(super) fn time(&mut self, units: usize, work: impl FnOnce()) {
        let start = Instant::now();
        work();
        let units = units as f64;
        self.per_unit.push(start.elapsed().as_nanos() as f64 / units);
        self.units += units;
    }

    pub(super) fn paced(&self) -> Paced {
        let elapsed = self.elapsed().as_nanos() as f64;
        let middle = Spread::of(&self.per_unit).median;
        if middle <= 0.0 || elapsed <= 0.0 {
            return Paced::default();
        }
        let explained = middle * self.units / elapsed;
        Paced { per_second: 1e9 / middle, kept_waiting: (1.0 - explained).clamp(0.0, 1.0) }
    }
}

impl Paced {
    /// Two threads that worked at the same time.
    pub(super) fn together(self, other: Self) -> Self {
        Self { per_second: self.per_second + other.per_second, kept_waiting: self.kept_waiting.max(other.kept_waiting) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_was_kept_waiting_does_not_count() {
        let mut pace = Pace { begun: Instant::now(), per_unit: vec![2.0; 9], units: 9.0 * 1000.0 };
        pace.per_unit.push(5000.0);
        pace.units += 1000.0;
        let paced = pace.paced();
        assert_eq!(paced.per_second, 5e8);
        assert_eq!(Pace::default().paced(), Paced::default());
    }
}
