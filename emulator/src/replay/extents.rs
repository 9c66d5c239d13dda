//! The parts of the address space that a program uses, numbered.
//!
//! Caches are told addresses without the empty parts in between, so that tags are short; and what is known about memory is found by
//! the same number.

use std::collections::HashMap;

use crate::cache::{CacheConfig, LINE};

/// Extents that move as a whole: 128 MiB. Inside one, an address keeps its low bits and with them its sets.
pub const EXTENT_SHIFT: u32 = 27;
const INSIDE: u64 = (1 << EXTENT_SHIFT) - 1;
/// Recently used extents.
const MEMO: usize = 128;

/// Numbers the extents of the address space in the order of their first use.
#[derive(Debug)]
pub struct Extents {
    /// Off where a cache's sets depend on more than the low bits of an address: addresses are told as they are then.
    shortens: bool,
    numbers: HashMap<u64, usize>,
    /// By number.
    all: Vec<Extent>,
    /// Extent, and its number, by the low bits of the extent.
    memo: [(u64, usize); MEMO],
}

#[derive(Clone, Copy, Debug)]
struct Extent {
    /// Its first address, shifted.
    at: u64,
    /// Which leaf says whose its pages are.
    leaf: u32,
}

impl Extents {
    /// None so far; `shortens` as [`keep_their_sets`] says.
    pub fn new(shortens: bool) -> Self {
        Self { shortens, numbers: HashMap::new(), all: Vec::new(), memo: [(u64::MAX, 0); MEMO] }
    }

    /// The leaf of an address, and what the caches are told instead of it.
    #[inline(always)]
    pub fn locate(&mut self, address: u64) -> (u32, u64) {
        let number = self.number(address >> EXTENT_SHIFT);
        let short = if self.shortens { (number as u64) << EXTENT_SHIFT | address & INSIDE } else { address };
        (self.all[number].leaf, short)
    }

    /// The address that was shortened to this, and its leaf.
    #[inline(always)]
    pub fn whole(&mut self, short: u64) -> (u32, u64) {
        if !self.shortens {
            return (self.locate(short).0, short);
        }
        let Extent { at, leaf } = self.all[(short >> EXTENT_SHIFT) as usize];
        (leaf, at << EXTENT_SHIFT | short & INSIDE)
    }

    #[inline(always)]
    fn number(&mut self, extent: u64) -> usize {
        let remembered = self.memo[extent as usize % MEMO];
        if remembered.0 == extent { remembered.1 } else { self.look_up(extent) }
    }

    #[cold]
    #[inline(never)]
    fn look_up(&mut self, extent: u64) -> usize {
        let next = self.all.len();
        let number = *self.numbers.entry(extent).or_insert(next);
        if number == next {
            self.all.push(Extent { at: extent, leaf: 0 });
        }
        self.memo[extent as usize % MEMO] = (extent, number);
        number
    }

    /// The leaf of an address, 0 if it was never [set](Self::set_leaf). Does not number its extent.
    pub fn leaf(&self, address: u64) -> u32 {
        let extent = address >> EXTENT_SHIFT;
        let remembered = self.memo[extent as usize % MEMO];
        let number = if remembered.0 == extent { Some(remembered.1) } else { self.numbers.get(&extent).copied() };
        number.map_or(0, |number| self.all[number].leaf)
    }

    /// From now on this is the leaf of the address' extent.
    pub fn set_leaf(&mut self, address: u64, leaf: u32) {
        let number = self.number(address >> EXTENT_SHIFT);
        self.all[number].leaf = leaf;
    }
}

/// Whether lines keep their sets in all of these caches if only the low bits of their addresses stay the same.
pub fn keep_their_sets(caches: &CacheConfig) -> bool {
    let keeps = |sets: u64| sets.is_power_of_two() && sets <= (1 << EXTENT_SHIFT) / LINE;
    caches.levels().all(|level| keeps(level.size / (u64::from(level.ways) * LINE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_addresses_lead_back_and_keep_their_low_bits() {
        let mut extents = Extents::new(keep_their_sets(&CacheConfig::default()));
        let all = [0x7fff_ffff_fff8, 8, u64::MAX, 0x7fff_0000_0000, 1 << 33, (1 << 33) + 64 * INSIDE, 9];
        for address in all.into_iter().chain((0..300).map(|n| n << 40 | 77)) {
            let (leaf, short) = extents.locate(address);
            assert!(short < 400 << EXTENT_SHIFT);
            assert_eq!((extents.whole(short), short & INSIDE), ((leaf, address), address & INSIDE));
            assert_eq!(extents.locate(address), (leaf, short), "told the same twice");
        }
    }

    #[test]
    fn caches_whose_sets_need_the_whole_address_get_it() {
        for (caches, shortens) in
            [("48K/12@1,shared:4G/16@9", false), ("48K/12@1,shared:2G/16@9", true), ("3K/16@1", false)]
        {
            let mut extents = Extents::new(keep_their_sets(&CacheConfig::parse(caches).unwrap()));
            let (leaf, short) = extents.locate(0x7fff_0000_1234);
            assert_eq!(short != 0x7fff_0000_1234, shortens, "{caches}");
            assert_eq!(extents.whole(short), (leaf, 0x7fff_0000_1234));
        }
    }

    #[test]
    fn a_leaf_is_that_of_its_extent_alone() {
        let mut extents = Extents::new(true);
        let places = [1 << 40, (1 << 40) + (128 << EXTENT_SHIFT), 5 << 41];
        assert_eq!(places.map(|address| extents.leaf(address)), [0; 3]);
        assert_eq!(extents.all.len(), 0, "looking numbers nothing");
        for (leaf, address) in (1..).zip(places) {
            extents.locate(address);
            extents.set_leaf(address + INSIDE, leaf);
        }
        assert_eq!(places.map(|address| extents.locate(address + 5).0), [1, 2, 3]);
        assert_eq!(places.map(|address| extents.leaf(address + 5)), [1, 2, 3]);
        assert_eq!(extents.leaf(places[0] - 1), 0);
    }
}
