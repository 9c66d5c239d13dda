//! A set of tracked blocks without locks: two-choice buckets.
//!
//! ```text
//! bucket   key × 8      one cache line: block addresses, 0 free, 1 being written or read
//!          value × 8    three cache lines, beside them
//! ```
//!
//! A block may stand in any of the eight places of two buckets, and goes into the emptier one (Azar et al., *Balanced
//! allocations*, STOC 1994), so that the table fills to about nine tenths before a block finds no place. A lookup reads the
//! keys of two buckets, always all of them: no place depends on another one, so places are freed without tombstones.
//!
//! Who puts a key in or takes it out first makes it `BUSY` by compare-and-swap, and so has the value for itself. A thread that
//! is killed by a fork in between leaves its place busy in the child for ever, which costs that place and nothing else.

use tiermem_sys::sync::atomic::{AtomicU64, Ordering};

/// Places in a bucket: a cache line of keys.
pub const WAYS: usize = 8;

const FREE: u64 = 0;
const BUSY: u64 = 1;

/// What a tracked block's sample stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracked {
    /// Blocks, in 256ths.
    pub objects_256ths: u64,
    /// Bytes that the program asked for.
    pub bytes: u64,
    /// Process of a family of forks that took the sample.
    pub generation: u32,
    /// Place of the site in the control segment.
    pub site: u16,
    /// The block's tier.
    pub tier: u8,
}

/// Eight places.
#[repr(C, align(64))]
pub struct Bucket {
    keys: [AtomicU64; WAYS],
    values: [[AtomicU64; 3]; WAYS],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == 256);

impl Default for Bucket {
    fn default() -> Self {
        let zeroes = || [(); 3].map(|()| AtomicU64::new(0));
        Self { keys: [(); WAYS].map(|()| AtomicU64::new(FREE)), values: [(); WAYS].map(|()| zeroes()) }
    }
}

impl Tracked {
    fn words(self) -> [u64; 3] {
        let names = u64::from(self.generation) << 32 | u64::from(self.site) << 8 | u64::from(self.tier);
        [self.objects_256ths, self.bytes, names]
    }

    fn from_words([objects_256ths, bytes, names]: [u64; 3]) -> Self {
        let (generation, site, tier) = ((names >> 32) as u32, (names >> 8) as u16, names as u8);
        Self { objects_256ths, bytes, generation, site, tier }
    }
}

/// The two buckets of a block. `table` has a power of two of them.
fn homes(table: &[Bucket], block: usize) -> [&Bucket; 2] {
    // Two halves of one product (Knuth, *The Art of Computer Programming* 3, 6.4: multiplicative hashing).
    let hash = (block as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let pick = |bits: u64| &table[bits as usize & (table.len() - 1)];
    [pick(hash >> 48), pick(hash >> 28)]
}

/// Puts a block in, whose address is neither 0 nor 1. False if there is no place.
///
/// The block is in nobody else's hands yet, so it is in no table, and nobody removes it meanwhile.
pub fn insert(table: &[Bucket], block: usize, value: Tracked) -> bool {
    let homes = homes(table, block);
    // Relaxed: only a preference.
    let taken = |bucket: &Bucket| bucket.keys.iter().filter(|key| key.load(Ordering::Relaxed) != FREE).count();
    let (first, second) = if taken(homes[1]) < taken(homes[0]) { (1, 0) } else { (0, 1) };
    [homes[first], homes[second]].into_iter().any(|bucket| {
        bucket.keys.iter().zip(&bucket.values).any(|(key, words)| {
            // Acquire pairs with the Release in `remove`: its reads of the value come before our writes.
            if key.compare_exchange(FREE, BUSY, Ordering::Acquire, Ordering::Relaxed).is_err() {
                return false;
            }
            for (word, value) in words.iter().zip(value.words()) {
                word.store(value, Ordering::Relaxed);
            }
            // Release pairs with the Acquire in `remove`.
            key.store(block as u64, Ordering::Release);
            true
        })
    })
}

/// Takes a block out. `None` if it is not there, or if another thread takes it at the same time.
pub fn remove(table: &[Bucket], block: usize) -> Option<Tracked> {
    if block <= BUSY as usize {
        return None;
    }
    homes(table, block).into_iter().find_map(|bucket| {
        let place = bucket.keys.iter().position(|key| key.load(Ordering::Relaxed) == block as u64)?;
        let key = &bucket.keys[place];
        // Acquire pairs with the Release in `insert`: we see the value of this key.
        key.compare_exchange(block as u64, BUSY, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let words = bucket.values[place].each_ref().map(|word| word.load(Ordering::Relaxed));
        // Release pairs with the Acquire in `insert`.
        key.store(FREE, Ordering::Release);
        Some(Tracked::from_words(words))
    })
}

/// Whether a block is there.
pub fn contains(table: &[Bucket], block: usize) -> bool {
    // Relaxed: whoever holds the block knows already whether it was put in.
    let here = |bucket: &Bucket| bucket.keys.iter().any(|key| key.load(Ordering::Relaxed) == block as u64);
    block > BUSY as usize && homes(table, block).into_iter().any(here)
}

#[cfg(all(test, loom))]
mod loom_tests;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn table(buckets: usize) -> Vec<Bucket> {
        (0..buckets).map(|_| Bucket::default()).collect()
    }

    fn value(n: usize) -> Tracked {
        Tracked { objects_256ths: n as u64, bytes: 3, generation: u32::MAX, site: 4095, tier: 7 }
    }

    #[test]
    fn what_goes_in_comes_out_once() {
        let table = table(64);
        for n in 1..=100 {
            assert!(insert(&table, n * 16, value(n)));
        }
        for n in 1..=100 {
            assert!(contains(&table, n * 16));
            assert_eq!(remove(&table, n * 16), Some(value(n)));
            assert!(!contains(&table, n * 16));
            assert_eq!(remove(&table, n * 16), None);
        }
        // The marks of free and busy places are no addresses.
        assert!(!contains(&table, 0) && !contains(&table, 1));
        assert_eq!((remove(&table, 0), remove(&table, 1)), (None, None));
    }

    #[test]
    fn a_table_fills_to_most_of_its_places_and_then_refuses() {
        let table = table(256);
        // Neighbours, as blocks of one span are, and then others far away.
        let address = |n: usize| if n.is_multiple_of(2) { 0x7000_0000 + n * 48 } else { n << 21 };
        let fits = (1..).take_while(|&n| insert(&table, address(n), value(n))).count();
        assert!(fits > 256 * WAYS * 8 / 10 && fits <= 256 * WAYS, "{fits} of {}", 256 * WAYS);
        assert!((1..=fits).all(|n| remove(&table, address(n)) == Some(value(n))));
        assert!(table.iter().flat_map(|bucket| &bucket.keys).all(|key| key.load(Ordering::Relaxed) == FREE));
    }
}
