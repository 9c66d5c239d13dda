//! Addresses as the caches see them: with the empty parts of the address space left out, so that tags are short.

use std::collections::HashMap;

use crate::cache::{CacheConfig, LINE};

/// Extents that move as a whole: 128 MiB. Inside one, an address keeps its low bits and with them its sets.
const SHIFT: u32 = 27;
const INSIDE: u64 = (1 << SHIFT) - 1;
/// Recently used extents.
const MEMO: usize = 64;

/// Numbers the extents of the address space in the order of their first use.
#[derive(Debug)]
pub struct Compact {
    /// Off where a cache's sets depend on more than the low bits of an address: addresses are told as they are then.
    is_on: bool,
    numbers: HashMap<u64, u64>,
    /// By number.
    extents: Vec<u64>,
    /// Extent and its number, by the low bits of the extent.
    memo: [(u64, u64); MEMO],
}

impl Compact {
    /// One for these caches.
    pub fn new(caches: &CacheConfig) -> Self {
        let keeps_sets = |sets: u64| sets.is_power_of_two() && sets <= (1 << SHIFT) / LINE;
        Self {
            is_on: caches.levels().all(|level| keeps_sets(level.size / (u64::from(level.ways) * LINE))),
            numbers: HashMap::new(),
            extents: Vec::new(),
            memo: [(u64::MAX, 0); MEMO],
        }
    }

    /// What the caches are told instead of `address`.
    #[inline]
    pub fn shorten(&mut self, address: u64) -> u64 {
        if !self.is_on {
            return address;
        }
        let extent = address >> SHIFT;
        let remembered = self.memo[extent as usize % MEMO];
        let number = if remembered.0 == extent { remembered.1 } else { self.look_up(extent) };
        number << SHIFT | address & INSIDE
    }

    #[cold]
    fn look_up(&mut self, extent: u64) -> u64 {
        let next = self.extents.len() as u64;
        let number = *self.numbers.entry(extent).or_insert(next);
        if number == next {
            self.extents.push(extent);
        }
        self.memo[extent as usize % MEMO] = (extent, number);
        number
    }

    /// The address that was shortened to this.
    #[inline]
    pub fn lengthen(&self, short: u64) -> u64 {
        if self.is_on { self.extents[(short >> SHIFT) as usize] << SHIFT | short & INSIDE } else { short }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_addresses_lead_back_and_keep_their_low_bits() {
        let mut compact = Compact::new(&CacheConfig::default());
        let all = [0x7fff_ffff_fff8, 8, u64::MAX, 0x7fff_0000_0000, 1 << 33, (1 << 33) + 64 * INSIDE, 9];
        for address in all.into_iter().chain((0..300).map(|n| n << 40 | 77)) {
            let short = compact.shorten(address);
            assert!(short < 400 << SHIFT);
            assert_eq!((compact.lengthen(short), short & INSIDE), (address, address & INSIDE));
            assert_eq!(compact.shorten(address), short, "told the same twice");
        }
    }

    #[test]
    fn caches_whose_sets_need_the_whole_address_get_it() {
        for (caches, is_on) in
            [("48K/12@1,shared:4G/16@9", false), ("48K/12@1,shared:2G/16@9", true), ("3K/16@1", false)]
        {
            let mut compact = Compact::new(&CacheConfig::parse(caches).unwrap());
            let short = compact.shorten(0x7fff_0000_1234);
            assert_eq!(short != 0x7fff_0000_1234, is_on, "{caches}");
            assert_eq!(compact.lengthen(short), 0x7fff_0000_1234);
        }
    }
}
