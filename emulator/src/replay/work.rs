//! What a thread does between its accesses.

/// Recorded times as picoseconds of work.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Recorded time of the last event.
    tick: u64,
    ps_per_tick: f64,
    /// Work of less than a picosecond.
    fraction: f64,
    /// All of it so far, picoseconds.
    pub total: u64,
}

impl Work {
    /// None so far; it begins at `tick`.
    pub const fn new(tick: u64, ps_per_tick: f64) -> Self {
        Self { tick, ps_per_tick, fraction: 0.0, total: 0 }
    }

    /// Works until the recorded time `tick`; for how many picoseconds.
    #[inline]
    pub fn until(&mut self, tick: u64) -> u64 {
        let ticks = tick.saturating_sub(self.tick);
        if ticks == 0 {
            return 0;
        }
        self.tick = tick;
        let (whole, rest) = split(ticks, self.ps_per_tick, self.fraction);
        self.fraction = rest;
        self.total += whole;
        whole
    }
}

/// `ticks * ps_per_tick + fraction` as whole picoseconds, and the rest.
#[inline]
fn split(ticks: u64, ps_per_tick: f64, fraction: f64) -> (u64, f64) {
    // The same twice, but for the range of the conversions: narrow ones take an instruction each.
    if let Ok(ticks) = i32::try_from(ticks) {
        let exact = f64::from(ticks) * ps_per_tick + fraction;
        if exact < f64::from(i32::MAX) {
            #[expect(clippy::cast_possible_truncation, reason = "just compared")]
            let whole = exact as i32;
            return (u64::from(whole.cast_unsigned()), exact - f64::from(whole));
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a gap of 2^53 ticks is none")]
    let exact = ticks as f64 * ps_per_tick + fraction;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is meant")]
    let whole = exact as u64;
    #[expect(clippy::cast_precision_loss, reason = "as above")]
    let rest = exact - whole as f64;
    (whole, rest)
}
