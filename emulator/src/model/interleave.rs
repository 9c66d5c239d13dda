//! Which device of an interleave set holds a byte.

/// The address arithmetic of an interleave set, the same as that of a CXL decoder: `granularity` bytes lie on one
/// device, the next ones on the next, and so on in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interleave {
    ways: u64,
    granularity: u64,
}

impl Interleave {
    /// `ways` devices, `granularity` bytes at a time; both at least 1.
    pub const fn new(ways: u32, granularity: u32) -> Self {
        let (ways, granularity) = (if ways == 0 { 1 } else { ways }, if granularity == 0 { 1 } else { granularity });
        Self { ways: ways as u64, granularity: granularity as u64 }
    }

    /// The device that holds byte `offset` of the set, and where in it.
    ///
    /// ```
    /// use tiermem_emulator::model::Interleave;
    /// let two = Interleave::new(2, 256);
    /// assert_eq!(two.place(255), (0, 255));
    /// assert_eq!(two.place(256), (1, 0));
    /// assert_eq!(two.place(513), (0, 257));
    /// ```
    pub const fn place(&self, offset: u64) -> (usize, u64) {
        let (granule, within) = (offset / self.granularity, offset % self.granularity);
        ((granule % self.ways) as usize, granule / self.ways * self.granularity + within)
    }

    /// The byte of the set that lies at `offset` of device `way`; undoes [`Interleave::place`].
    pub const fn offset(&self, way: usize, offset: u64) -> u64 {
        let (granule, within) = (offset / self.granularity, offset % self.granularity);
        (granule * self.ways + way as u64) * self.granularity + within
    }

    /// How many of the `len` bytes from `offset` on lie on device `way`.
    pub const fn share(&self, offset: u64, len: u64, way: usize) -> u64 {
        self.before(offset + len, way) - self.before(offset, way)
    }

    /// How many of the first `offset` bytes lie on device `way`.
    const fn before(&self, offset: u64, way: usize) -> u64 {
        let round = self.granularity * self.ways;
        let (rounds, rest) = (offset / round, offset % round);
        let part = rest.saturating_sub(way as u64 * self.granularity);
        rounds * self.granularity + if part < self.granularity { part } else { self.granularity }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_byte_has_one_place(ways in 1_u32..17, shift in 8_u32..15, offset in 0_u64..1 << 40) {
            let set = Interleave::new(ways, 1 << shift);
            let (way, within) = set.place(offset);
            prop_assert!(way < ways as usize);
            prop_assert_eq!(set.offset(way, within), offset);
        }

        #[test]
        fn shares_are_what_counting_gives(ways in 1_u32..17, offset in 0_u64..20_000, len in 0_u64..20_000) {
            let set = Interleave::new(ways, 256);
            let mut counted = vec![0; ways as usize];
            for byte in offset..offset + len {
                counted[set.place(byte).0] += 1;
            }
            let shares: Vec<u64> = (0..ways as usize).map(|way| set.share(offset, len, way)).collect();
            prop_assert_eq!(shares, counted);
        }
    }
}
