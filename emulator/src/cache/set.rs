//! A set of a cache: its lines, in the order of their last use.

use tiermem_sys::cpu::{equal_of_16, equal_words_of_16};

/// What a cache knows about a line beside its address.
pub mod state {
    /// The way holds a line.
    pub const VALID: u64 = 1;
    /// Memory does not have what the line holds.
    pub const DIRTY: u64 = 2;
    /// No other core has the line (private levels only).
    pub const OWNED: u64 = 4;
    /// Brought by the prefetcher and not used yet.
    pub const PREFETCHED: u64 = 8;
    /// All of them.
    pub const ALL: u64 = 15;
}

/// Most ways: the order of a set is one word of as many half bytes.
pub const WAYS_MAX: u32 = 16;
pub const WAYS: usize = WAYS_MAX as usize;

/// Bits of a tag that stand in its set.
pub const NEAR_BITS: u32 = 24;

/// A set, in one line of the host's cache: a search looks at no more, unless lines lie far apart (see
/// [`Level`](super::level::Level)).
///
/// ```text
///  0  low     16 × 2   bits 0..16 of each way's tag
/// 32  high    16 × 1   bits 16..24
/// 48  states  16 × ½   what is known about the line, from the low end
/// 56  order   16 × ½   most recent way … least, from the low end; beyond the last way, what came there
/// ```
/// Invariants: the first `ways` half bytes of `order` are a permutation of the ways; empty ways stand last; all bits of
/// their tags are set.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Set {
    low: [u16; WAYS],
    high: [u8; WAYS],
    states: u64,
    order: u64,
}

const _: () = assert!(size_of::<Set>() == 64);

/// How sets of so many ways go on to the next victim.
#[derive(Clone, Copy, Debug)]
pub struct Ways {
    count: u32,
    /// Bit at which the least recent way stands in the order.
    last: u32,
    /// The half bytes of all ways.
    all: u64,
}

impl Ways {
    pub const fn new(count: u32) -> Self {
        let last = 4 * (count - 1);
        Self { count, last, all: u64::MAX >> (60 - last) }
    }

    #[inline(always)]
    const fn least_recent(self, order: u64) -> usize {
        (order >> self.last & 0xf) as usize
    }

    pub const fn count(self) -> usize {
        self.count as usize
    }
}

/// A line that a level holds.
pub struct Held<'a> {
    states: &'a mut u64,
    bit: u32,
}

impl Held<'_> {
    /// What is known about it.
    #[inline]
    pub const fn state(&self) -> u64 {
        *self.states >> self.bit & state::ALL
    }

    /// Now this is known too.
    #[inline]
    pub const fn add(&mut self, flags: u64) {
        *self.states |= flags << self.bit;
    }

    /// This is true no longer.
    #[inline]
    pub const fn take(&mut self, flags: u64) {
        *self.states &= !(flags << self.bit);
    }
}

impl Set {
    pub const EMPTY: Self =
        Self { low: [u16::MAX; WAYS], high: [u8::MAX; WAYS], states: 0, order: 0xfedc_ba98_7654_3210 };

    #[inline]
    pub const fn state(&self, way: usize) -> u64 {
        self.states >> (4 * way) & state::ALL
    }

    #[inline(always)]
    pub fn held(&mut self, way: usize) -> Held<'_> {
        Held { states: &mut self.states, bit: 4 * way as u32 }
    }

    /// The bits of a way's tag that stand here.
    #[inline]
    pub fn near(&self, way: usize) -> u64 {
        u64::from(self.low[way % WAYS]) | u64::from(self.high[way % WAYS]) << 16
    }

    /// The ways whose tags have these near bits, the lowest first; empty ones too, if all bits are set.
    #[inline(always)]
    pub fn candidates(&self, tag: u64) -> impl Iterator<Item = usize> + use<> {
        let mut candidates = equal_of_16(&self.low, &self.high, tag as u32 & ((1 << NEAR_BITS) - 1));
        std::iter::from_fn(move || {
            let way = candidates.trailing_zeros() as usize;
            candidates &= candidates.wrapping_sub(1);
            (way < WAYS).then_some(way)
        })
    }

    /// The way with this tag, which has no more than the near bits and not all of them, as all tags in this set.
    #[inline(always)]
    pub fn find_near(&self, tag: u64) -> Option<usize> {
        let candidates = equal_of_16(&self.low, &self.high, tag as u32);
        (candidates != 0).then(|| candidates.trailing_zeros() as usize % WAYS)
    }

    /// The way with this tag, which has no more than sixteen bits and not all of them, as all tags in this set.
    #[inline(always)]
    pub fn find_word(&self, tag: u64) -> Option<usize> {
        let candidates = equal_words_of_16(&self.low, tag as u16);
        (candidates != 0).then(|| candidates.trailing_zeros() as usize % WAYS)
    }

    /// Makes a way the most recent one.
    #[inline(always)]
    pub fn touch(&mut self, way: usize) {
        self.order = to_front(self.order, way);
    }

    /// The least recent way, now the most recent one, gets a tag and a state. That way; the near bits of its tag; its state.
    #[inline(always)]
    pub fn replace(&mut self, ways: Ways, tag: u64, flags: u64) -> (usize, u64, u64) {
        let way = ways.least_recent(self.order);
        let (near, was) = (self.near(way), self.state(way));
        self.put(way, tag, flags);
        (way, near, was)
    }

    /// Likewise; the near bits of its tag and its state, if it was dirty, which few are.
    #[inline(always)]
    pub fn replace_near(&mut self, ways: Ways, tag: u64, flags: u64) -> Option<(u64, u64)> {
        let way = ways.least_recent(self.order);
        let was = self.state(way);
        let dirty = (was & state::DIRTY != 0).then(|| (self.near(way), was));
        self.put(way, tag, flags);
        dirty
    }

    /// What the least recent way holds from now on.
    #[inline(always)]
    fn put(&mut self, way: usize, tag: u64, flags: u64) {
        // The last one comes to the front, and those before it move up.
        self.order = self.order << 4 | way as u64;
        #[expect(clippy::cast_possible_truncation, reason = "a part each")]
        {
            (self.low[way], self.high[way]) = (tag as u16, (tag >> 16) as u8);
        }
        self.states ^= (self.state(way) ^ flags) << (4 * way);
    }

    /// Empties a way; the state that it had.
    pub fn remove(&mut self, ways: Ways, way: usize) -> u64 {
        self.order = to_back(self.order, way, ways);
        (self.low[way], self.high[way]) = (u16::MAX, u8::MAX);
        let was = self.state(way);
        self.states &= !(state::ALL << (4 * way));
        was
    }
}

/// The half bytes of `order` up to the one that is `way`.
#[inline(always)]
fn through(order: u64, way: usize) -> u64 {
    const ONES: u64 = 0x1111_1111_1111_1111;
    let differing = order ^ (way as u64).wrapping_mul(ONES);
    // The lowest zero that the subtraction finds is a true one.
    let zeros = differing.wrapping_sub(ONES) & !differing & (ONES << 3);
    zeros ^ zeros.wrapping_sub(1)
}

#[inline(always)]
fn to_front(order: u64, way: usize) -> u64 {
    let through = through(order, way);
    (order & !through) | (order << 4 & through) | way as u64
}

fn to_back(order: u64, way: usize, ways: Ways) -> u64 {
    let before = through(order, way) >> 4;
    let moved = (order >> 4) & (ways.all >> 4) & !before;
    (order & !ways.all) | moved | (order & before) | (way as u64) << ways.last
}

#[cfg(test)]
mod tests {
    use super::{Ways, to_back, to_front};

    #[test]
    fn half_bytes_move_to_either_end() {
        const ALL: u64 = 0xfedc_ba98_7654_3210;
        assert_eq!(to_front(ALL, 0), ALL);
        assert_eq!(to_front(ALL, 1), 0xfedc_ba98_7654_3201);
        assert_eq!(to_front(ALL, 15), 0xedcb_a987_6543_210f);
        assert_eq!(to_front(0xffff_ffff_ffff_ff10, 1), 0xffff_ffff_ffff_ff01);
        assert_eq!(to_back(ALL, 15, Ways::new(16)), ALL);
        assert_eq!(to_back(ALL, 0, Ways::new(16)), 0x0fed_cba9_8765_4321);
        assert_eq!(to_back(0xffff_ffff_ffff_3210, 1, Ways::new(4)), 0xffff_ffff_ffff_1320);
        assert_eq!(to_back(0xffff_ffff_ffff_fff0, 0, Ways::new(1)), 0xffff_ffff_ffff_fff0);
    }
}
