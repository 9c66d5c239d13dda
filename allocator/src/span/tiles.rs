//! The tiles of a mosaic: which 16-byte pieces of a unit are in use, and where blocks start.
//!
//! Two bitmaps out of line. Only the owner's thread changes them. Others may ask for the [length](Tiles::length) of a block
//! that they hold: its start is marked before its tiles, and unmarked after them, so they never see it run on into a
//! neighbour that comes or goes.

use std::ptr;

use tiermem_sys::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::geometry::UNIT_SIZE;

/// Bytes of a tile: what every block is a multiple of.
pub const TILE: usize = 16;
const TILES: usize = UNIT_SIZE / TILE;
const WORDS: usize = TILES / 64;

/// See the module.
#[repr(C)]
pub struct Tiles {
    used: [AtomicU64; WORDS],
    starts: [AtomicU64; WORDS],
    /// Tiles of the shortest block that was looked for in vain; `u32::MAX` for none.
    lacks: AtomicU32,
    /// The next spare one, while this one is spare.
    pub next: AtomicPtr<Tiles>,
}

impl Tiles {
    /// A unit without blocks.
    pub const fn new() -> Self {
        Self {
            used: [const { AtomicU64::new(0) }; WORDS],
            starts: [const { AtomicU64::new(0) }; WORDS],
            lacks: AtomicU32::new(u32::MAX),
            next: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Enters `blocks` blocks of `count` tiles each, one behind the other from `first` on.
    pub fn lay_row(&self, first: usize, blocks: usize, count: usize) {
        for start in (0..blocks).map(|block| first + block * count) {
            let word = &self.starts[start / 64];
            // Relaxed: the Release in `set` below comes between the starts and their tiles.
            word.store(word.load(Ordering::Relaxed) | 1 << (start % 64), Ordering::Relaxed);
        }
        set(&self.used, first, blocks * count, true);
    }

    /// Whether a block of `count` tiles was looked for in vain since the last one was lifted.
    pub fn is_known_to_lack(&self, count: usize) -> bool {
        count >= self.lacks.load(Ordering::Relaxed) as usize
    }

    /// Notes that a block of `count` tiles was looked for in vain.
    pub fn note_lack(&self, count: usize) {
        self.lacks.store(self.lacks.load(Ordering::Relaxed).min(count as u32), Ordering::Relaxed);
    }

    /// Removes the block that starts at `first`.
    pub fn lift(&self, first: usize) {
        self.lacks.store(u32::MAX, Ordering::Relaxed);
        let count = self.length(first);
        set(&self.used, first, count, false);
        set(&self.starts, first, 1, false);
    }

    /// Tiles of the block that starts at `first`.
    pub fn length(&self, first: usize) -> usize {
        // Acquire pairs with the Release in `set`: a neighbour's tiles are seen only with its start.
        let ends = |word: usize| !self.used[word].load(Ordering::Acquire) | self.starts[word].load(Ordering::Acquire);
        next_one(first + 1, ends).unwrap_or(TILES) - first
    }

    /// The first gap of at least `count` free tiles from `from` on, counted from a multiple of `align` tiles: where it starts,
    /// and its length in tiles.
    pub fn find(&self, from: usize, count: usize, align: usize) -> Option<(usize, usize)> {
        // Relaxed, here and below: the owner's own.
        let used = |word: usize| self.used[word].load(Ordering::Relaxed);
        let mut at = from;
        loop {
            at = next_one(at, |word| !used(word))?.next_multiple_of(align);
            if at + count > TILES {
                return None;
            }
            let end = next_one(at, used).unwrap_or(TILES);
            if end >= at + count {
                return Some((at, end - at));
            }
            at = end.max(at + 1);
        }
    }

    /// Calls `visit` with the length in tiles of each block. Blocks that come and go meanwhile may be missed.
    pub fn for_each_block(&self, mut visit: impl FnMut(usize)) {
        let starts = |word: usize| self.starts[word].load(Ordering::Relaxed);
        let mut at = 0;
        while let Some(first) = next_one(at, starts) {
            visit(self.length(first));
            at = first + 1;
        }
    }
}

/// The first set bit from `from` on.
fn next_one(from: usize, word: impl Fn(usize) -> u64) -> Option<usize> {
    let mut mask = u64::MAX << (from % 64);
    for index in from / 64..WORDS {
        let bits = word(index) & mask;
        if bits != 0 {
            return Some(index * 64 + bits.trailing_zeros() as usize);
        }
        mask = u64::MAX;
    }
    None
}

/// Sets `count` bits from `first` on to `value`.
fn set(words: &[AtomicU64; WORDS], first: usize, count: usize, value: bool) {
    let (mut at, end) = (first, first + count);
    while at < end {
        let here = (end - at).min(64 - at % 64);
        let bits = (u64::MAX >> (64 - here)) << (at % 64);
        let old = words[at / 64].load(Ordering::Relaxed);
        // Release pairs with the Acquire in `length`.
        words[at / 64].store(if value { old | bits } else { old & !bits }, Ordering::Release);
        at += here;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Blocks as a plain list: first tile, count.
    fn is_free(blocks: &[(usize, usize)], first: usize, count: usize) -> bool {
        first + count <= TILES && blocks.iter().all(|&(at, len)| first + count <= at || at + len <= first)
    }

    proptest! {
        #[test]
        fn tiles_behave_like_a_list_of_blocks(steps in prop::collection::vec((1usize..130, 0u32..4, any::<prop::sample::Index>(), any::<bool>()), 1..200)) {
            let tiles = Tiles::new();
            let mut blocks: Vec<(usize, usize)> = Vec::new();
            for (count, align, which, lay) in steps {
                let align = 1 << align;
                if lay || blocks.is_empty() {
                    let expected = (0..TILES).step_by(align).find(|&at| is_free(&blocks, at, count));
                    let found = tiles.find(0, count, align);
                    prop_assert_eq!(found.map(|gap| gap.0), expected);
                    if let Some((at, length)) = found {
                        prop_assert!(is_free(&blocks, at, length) && !is_free(&blocks, at, length + 1));
                        let row = (length / count).min(3);
                        tiles.lay_row(at, row, count);
                        blocks.extend((0..row).map(|block| (at + block * count, count)));
                    }
                } else {
                    let (at, _) = blocks.swap_remove(which.index(blocks.len()));
                    tiles.lift(at);
                }
                let mut lengths = Vec::new();
                tiles.for_each_block(|length| lengths.push(length));
                blocks.sort_unstable();
                prop_assert_eq!(&lengths, &blocks.iter().map(|block| block.1).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_full_unit_has_no_room() {
        let tiles = Tiles::new();
        tiles.lay_row(0, 1, TILES);
        assert_eq!(tiles.find(0, 1, 1), None);
        tiles.lift(0);
        assert_eq!(tiles.find(0, TILES, 1), Some((0, TILES)));
    }
}
