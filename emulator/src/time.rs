//! Virtual time: exact to the model and the same in every run.

mod mode;

pub use mode::{Clocked, Elapsed, Instrumented, Mode, Replayed, Virtual};

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A point in virtual time, or a length of it: picoseconds, up to 213 days. Integers, so that sums do not depend on
/// their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// The beginning.
    pub const ZERO: Self = Self(0);

    /// `ns` nanoseconds, to the picosecond; negative ones are zero.
    ///
    /// ```
    /// use tiermem_emulator::time::Time;
    /// assert_eq!(Time::from_ns(1.5), Time(1500));
    /// ```
    pub fn from_ns(ns: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is meant")]
        Self((ns * 1e3).round() as u64)
    }

    /// In nanoseconds.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub fn as_ns(self) -> f64 {
        self.0 as f64 / 1e3
    }

    /// How long after `earlier`; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl Add for Time {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Time {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl AddAssign for Time {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(f64, &str); 3] = [(1e9, "s"), (1e6, "ms"), (1e3, "us")];
        let ns = self.as_ns();
        let (scale, unit) = UNITS.into_iter().find(|&(scale, _)| ns >= scale).unwrap_or((1.0, "ns"));
        f.pad(&format!("{:.1} {unit}", ns / scale))
    }
}
