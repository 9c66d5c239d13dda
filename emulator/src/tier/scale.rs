//! Machines larger or smaller than their topology says.

use tiermem_tiers::{Bytes, GRANULE};

/// By how much capacities are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    times: u32,
    over: u32,
}

impl Scale {
    /// As the topology says.
    pub const WHOLE: Self = Self { times: 1, over: 1 };

    /// Parses `1/64` or `2`.
    pub fn parse(text: &str) -> Option<Self> {
        let (times, over) = text.split_once('/').unwrap_or((text, "1"));
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|&number| number > 0);
        Some(Self { times: number(times)?, over: number(over)? })
    }

    /// Whole granules, at least one.
    pub(super) fn of(self, capacity: Bytes) -> Bytes {
        let scaled = u128::from(capacity.0) * u128::from(self.times) / u128::from(self.over);
        let granules = (scaled / u128::from(GRANULE.0)).clamp(1, 1 << 32);
        Bytes(u64::try_from(granules).unwrap_or(1) * GRANULE.0)
    }
}
