//! Which time a report speaks of. Times of different origin are of different types, so that they cannot be added up or
//! compared by mistake.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Add, AddAssign};

use super::Time;

/// How time is told. Every report names its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Not at all: emulated memory is as fast as what it lies on, and nothing may be concluded from that.
    Functional,
    /// By the model, for accesses made through its interface: exact to the model, the same in every run.
    Virtual,
    /// By the model, for the accesses of an instrumented program behind modelled caches.
    Instrumented,
    /// By the model, for accesses that were recorded before.
    Replayed,
    /// Estimated from samples of a running program; comes with an error band.
    Sampled,
}

impl Mode {
    /// The word that reports use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Functional => "functional",
            Self::Virtual => "virtual",
            Self::Instrumented => "instrumented",
            Self::Replayed => "replayed",
            Self::Sampled => "sampled",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The modes that tell time by the model. (Not the functional one, which tells none, and not the sampled one, which
/// estimates.)
pub trait Clocked: Copy {
    /// Which of them.
    const MODE: Mode;
}

/// [`Mode::Virtual`], as a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Virtual;

/// [`Mode::Instrumented`], as a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instrumented;

/// [`Mode::Replayed`], as a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replayed;

impl Clocked for Virtual {
    const MODE: Mode = Mode::Virtual;
}

impl Clocked for Instrumented {
    const MODE: Mode = Mode::Instrumented;
}

impl Clocked for Replayed {
    const MODE: Mode = Mode::Replayed;
}

/// A length of time that knows how it was told. Lengths of one mode can be added and compared; of two modes, not:
///
/// ```compile_fail,E0308
/// use tiermem_emulator::time::{Elapsed, Replayed, Time, Virtual};
/// let sum = Elapsed::<Virtual>::new(Time(1)) + Elapsed::<Replayed>::new(Time(2));
/// ```
///
/// ```
/// use tiermem_emulator::time::{Elapsed, Time, Virtual};
/// let near = Elapsed::<Virtual>::new(Time(100));
/// let far = near + Elapsed::new(Time(150));
/// assert_eq!(far.over(near), Some(2.5));
/// assert_eq!(far.to_string(), "0.2 ns (virtual)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Elapsed<M: Clocked> {
    time: Time,
    mode: PhantomData<M>,
}

impl<M: Clocked> Elapsed<M> {
    /// `time`, told in mode `M`.
    pub const fn new(time: Time) -> Self {
        Self { time, mode: PhantomData }
    }

    /// The time alone, for output that names the mode elsewhere.
    pub const fn time(self) -> Time {
        self.time
    }

    /// How it was told.
    pub const fn mode(self) -> Mode {
        M::MODE
    }

    /// How many times as long as `other`: the slowdown where `other` is the run on faster memory. `None` if `other` took
    /// no time.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn over(self, other: Self) -> Option<f64> {
        (other.time > Time::ZERO).then(|| self.time.0 as f64 / other.time.0 as f64)
    }
}

impl<M: Clocked> Add for Elapsed<M> {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self::new(self.time + other.time)
    }
}

impl<M: Clocked> AddAssign for Elapsed<M> {
    fn add_assign(&mut self, other: Self) {
        self.time += other.time;
    }
}

impl<M: Clocked> fmt::Display for Elapsed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.time, M::MODE)
    }
}
