//! What a thread does between its accesses.

/// So many ticks are multiplied beforehand.
const FEW: usize = 64;

/// Recorded times as picoseconds of work.
#[derive(Clone, Debug)]
pub struct Work {
    /// Recorded time of the last event.
    tick: u64,
    ps_per_tick: f64,
    /// What a few ticks are, by their number.
    few: [f64; FEW],
    /// Work of less than a picosecond.
    fraction: f64,
    /// All of it so far, picoseconds.
    pub total: u64,
}

impl Work {
    /// None so far; it begins at `tick`.
    pub fn new(tick: u64, ps_per_tick: f64) -> Self {
        let mut few = [0.0; FEW];
        for (ticks, ps) in (0_u32..).zip(&mut few) {
            *ps = f64::from(ticks) * ps_per_tick;
        }
        Self { tick, ps_per_tick, few, fraction: 0.0, total: 0 }
    }

    /// Works until the recorded time `tick`; for how many picoseconds.
    #[inline]
    pub fn until(&mut self, tick: u64) -> u64 {
        let ticks = tick.saturating_sub(self.tick);
        if ticks == 0 {
            return 0;
        }
        self.tick = tick;
        let exact = match usize::try_from(ticks).ok().and_then(|ticks| self.few.get(ticks)) {
            Some(ps) => ps + self.fraction,
            None => self.many(ticks) + self.fraction,
        };
        let (whole, rest) = split(exact);
        self.fraction = rest;
        self.total += whole;
        whole
    }

    #[inline(never)]
    #[expect(clippy::cast_precision_loss, reason = "a gap of 2^53 ticks is none")]
    fn many(&self, ticks: u64) -> f64 {
        ticks as f64 * self.ps_per_tick
    }
}

/// Whole picoseconds, and the rest.
#[inline]
fn split(exact: f64) -> (u64, f64) {
    // The same twice, but for the range of the conversions: narrow ones take an instruction each.
    if exact < f64::from(i32::MAX) {
        #[expect(clippy::cast_possible_truncation, reason = "just compared")]
        let whole = exact as i32;
        return (u64::from(whole.cast_unsigned()), exact - f64::from(whole));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is meant")]
    let whole = exact as u64;
    #[expect(clippy::cast_precision_loss, reason = "a gap of 2^53 picoseconds is none")]
    let rest = exact - whole as f64;
    (whole, rest)
}
