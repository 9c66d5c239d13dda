//! One cache: sets of lines, each set ordered by last use.

use tiermem_sys::cpu::{equal_of_16, prefetch};

use super::{LINE, LevelConfig};

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
const WAYS: usize = WAYS_MAX as usize;

/// Bits of a tag that stand in its set.
const NEAR_BITS: u32 = 24;

/// A set, in one line of the host's cache: a search looks at no more, unless lines lie far apart (see [`Level::far`]).
///
/// ```text
///  0  low     16 × 2   bits 0..16 of each way's tag
/// 32  high    16 × 1   bits 16..24
/// 48  states  16 × ½   what is known about the line, from the low end
/// 56  order   16 × ½   most recent way … least, from the low end; beyond the last way 15, which is not used
/// ```
/// Invariant: the first `ways` half bytes of `order` are a permutation of the ways; empty ways stand last.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Set {
    low: [u16; WAYS],
    high: [u8; WAYS],
    states: u64,
    order: u64,
}

const _: () = assert!(size_of::<Set>() == 64);

impl Set {
    #[inline]
    const fn state(&self, way: usize) -> u64 {
        self.states >> (4 * way) & state::ALL
    }

    #[inline(always)]
    fn held(&mut self, way: usize) -> Held<'_> {
        Held { states: &mut self.states, bit: 4 * way as u32 }
    }

    /// The way that has the line of this place; `far` as in [`Level`].
    #[inline(always)]
    fn find(&self, place: Place, far: &[[u64; WAYS]]) -> Option<usize> {
        #[expect(clippy::cast_possible_truncation, reason = "the near bits")]
        let near = place.tag as u32 & ((1 << NEAR_BITS) - 1);
        let candidates = equal_of_16(&self.low, &self.high, near);
        if candidates == 0 {
            return None;
        }
        let way = candidates.trailing_zeros() as usize;
        if far.is_empty() && place.tag >> NEAR_BITS == 0 && self.state(way) & state::VALID != 0 {
            return Some(way);
        }
        self.find_among(candidates, place, far)
    }

    /// The first of these ways that has the line; empty ones keep the tags that they had.
    #[inline(never)]
    fn find_among(&self, mut candidates: u32, place: Place, far: &[[u64; WAYS]]) -> Option<usize> {
        while candidates != 0 {
            let way = candidates.trailing_zeros() as usize;
            let is_far = far.get(place.set).map_or(0, |far| far[way % WAYS]);
            if self.state(way) & state::VALID != 0 && is_far == place.tag >> NEAR_BITS {
                return Some(way);
            }
            candidates &= candidates - 1;
        }
        None
    }
}

/// One cache.
///
/// Invariant: no line stands in a set twice.
#[derive(Debug)]
pub struct Level {
    sets: Vec<Set>,
    /// The rest of each way's tag, by set and way; empty as long as all of them are zero, which they are where addresses
    /// begin near zero.
    far: Vec<[u64; WAYS]>,
    ways: usize,
    /// `sets - 1` where that is a power of two, else 0.
    mask: u64,
    /// A line's number without these bits is its tag; 0 where the number of sets is no power of two.
    shift: u32,
}

/// Where a line would be in a level.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    set: usize,
    tag: u64,
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

/// A line that made way and has to go somewhere, for it was dirty; and what was known about it.
pub type Victim = Option<(u64, u64)>;

impl Level {
    pub fn new(config: &LevelConfig) -> Self {
        let ways = config.ways as usize;
        // A level has 16 GiB at most, which are 2^28 lines.
        let sets = usize::try_from(config.size / (u64::from(config.ways) * LINE)).unwrap_or(usize::MAX);
        let order = (0..u64::from(WAYS_MAX))
            .fold(0, |order, way| order | if way < u64::from(config.ways) { way } else { 0xf } << (4 * way));
        let (mask, shift) = if sets.is_power_of_two() { (sets as u64 - 1, sets.trailing_zeros()) } else { (0, 0) };
        // Tags that hardly any line has.
        let empty = Set { low: [u16::MAX; WAYS], high: [u8::MAX; WAYS], states: 0, order };
        Self { sets: vec![empty; sets], far: Vec::new(), ways, mask, shift }
    }

    /// Where `line` would be.
    #[inline]
    pub fn place(&self, line: u64) -> Place {
        let number = line / LINE;
        // Of a single set the mask is zero as well, and so is the remainder.
        let set = if self.mask != 0 { number & self.mask } else { number % self.sets.len() as u64 };
        #[expect(clippy::cast_possible_truncation, reason = "sets are counted by a usize")]
        let set = set as usize;
        Place { set, tag: number >> self.shift }
    }

    /// Has the host bring what a search at `place` will look at.
    #[inline]
    pub fn expect(&self, place: Place) {
        prefetch(&self.sets[place.set]);
    }

    /// The way that has the line of this place.
    #[inline(always)]
    fn find(&self, place: Place) -> Option<usize> {
        self.sets[place.set].find(place, &self.far)
    }

    #[inline]
    fn far_of(&self, set: usize, way: usize) -> u64 {
        self.far.get(set).map_or(0, |far| far[way % WAYS])
    }

    /// Finds the line of this place and makes it the most recent of its set.
    #[inline(always)]
    pub fn touch(&mut self, place: Place) -> Option<Held<'_>> {
        let set = &mut self.sets[place.set];
        let way = set.find(place, &self.far)?;
        set.order = to_front(set.order, way);
        Some(set.held(way))
    }

    /// Finds the line of this place and leaves the order alone.
    #[inline]
    pub fn peek(&mut self, place: Place) -> Option<Held<'_>> {
        let set = &mut self.sets[place.set];
        let way = set.find(place, &self.far)?;
        Some(set.held(way))
    }

    /// Puts a line in that is not there, as the most recent of its set. Gives back the one that made way, if it was dirty.
    #[inline(always)]
    pub fn insert(&mut self, Place { set: at, tag }: Place, flags: u64) -> Victim {
        let set = &mut self.sets[at];
        let last = 4 * (self.ways - 1);
        let way = (set.order >> last & 0xf) as usize;
        // The last one comes to the front, and those before it move up.
        let through = u64::MAX >> (60 - last);
        set.order = (set.order & !through) | (set.order << 4 & through) | way as u64;
        let was = set.state(way);
        let near = u64::from(set.low[way]) | u64::from(set.high[way]) << 16;
        #[expect(clippy::cast_possible_truncation, reason = "a part each")]
        {
            (set.low[way], set.high[way]) = (tag as u16, (tag >> 16) as u8);
        }
        set.states = set.states & !(state::ALL << (4 * way)) | flags << (4 * way);
        let mut far = 0;
        if tag >> NEAR_BITS != 0 || !self.far.is_empty() {
            far = self.replace_far(at, way, tag >> NEAR_BITS);
        }
        (was & state::DIRTY != 0).then(|| (self.line_of(at, near | far << NEAR_BITS), was))
    }

    #[inline(never)]
    fn replace_far(&mut self, set: usize, way: usize, far: u64) -> u64 {
        if self.far.is_empty() {
            self.far = vec![[0; WAYS]; self.sets.len()];
        }
        std::mem::replace(&mut self.far[set][way], far)
    }

    /// The line with this tag in a set.
    #[inline]
    fn line_of(&self, set: usize, tag: u64) -> u64 {
        let low = if self.shift == 0 { 0 } else { set as u64 };
        (tag << self.shift | low) * LINE
    }

    /// Takes a line out; what was known about it, zero if it is not there.
    #[inline]
    pub fn remove(&mut self, place: Place) -> u64 {
        let Some(way) = self.find(place) else { return 0 };
        let set = &mut self.sets[place.set];
        set.order = to_back(set.order, way, self.ways);
        let was = set.state(way);
        set.states &= !(state::ALL << (4 * way));
        was
    }

    /// Every dirty line.
    pub fn dirty(&self) -> impl Iterator<Item = u64> {
        let ways = (0..self.sets.len()).flat_map(|at| (0..self.ways).map(move |way| (at, way)));
        ways.filter(|&(at, way)| self.sets[at].state(way) & state::DIRTY != 0).map(|(at, way)| {
            let set = &self.sets[at];
            let near = u64::from(set.low[way]) | u64::from(set.high[way]) << 16;
            self.line_of(at, near | self.far_of(at, way) << NEAR_BITS)
        })
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.sets.iter_mut().for_each(|set| set.states = 0);
    }
}

/// Bit at which `way` stands in `order`. The lowest zero that the subtraction finds is a true one.
#[inline]
fn bit_of(order: u64, way: usize) -> u32 {
    const ONES: u64 = 0x1111_1111_1111_1111;
    let differing = order ^ (way as u64).wrapping_mul(ONES);
    (differing.wrapping_sub(ONES) & !differing & (ONES << 3)).trailing_zeros() & !3
}

#[inline]
fn to_front(order: u64, way: usize) -> u64 {
    let bit = bit_of(order, way);
    let before = (1_u64 << bit) - 1;
    // Shifting twice: the way may be the last of sixteen.
    let through = (before << 4) | 0xf;
    (order & !through) | (order & before) << 4 | way as u64
}

fn to_back(order: u64, way: usize, ways: usize) -> u64 {
    let bit = bit_of(order, way);
    let before = (1_u64 << bit) - 1;
    let last = 4 * (ways - 1);
    let all = (1_u64 << last) - 1;
    let beyond = !(all << 4 | 0xf);
    let moved = (order >> 4) & all & !before;
    (order & beyond) | moved | (order & before) | (way as u64) << last
}

#[cfg(test)]
mod tests {
    use super::{to_back, to_front};

    #[test]
    fn half_bytes_move_to_either_end() {
        const ALL: u64 = 0xfedc_ba98_7654_3210;
        assert_eq!(to_front(ALL, 0), ALL);
        assert_eq!(to_front(ALL, 1), 0xfedc_ba98_7654_3201);
        assert_eq!(to_front(ALL, 15), 0xedcb_a987_6543_210f);
        assert_eq!(to_front(0xffff_ffff_ffff_ff10, 1), 0xffff_ffff_ffff_ff01);
        assert_eq!(to_back(ALL, 15, 16), ALL);
        assert_eq!(to_back(ALL, 0, 16), 0x0fed_cba9_8765_4321);
        assert_eq!(to_back(0xffff_ffff_ffff_3210, 1, 4), 0xffff_ffff_ffff_1320);
        assert_eq!(to_back(0xffff_ffff_ffff_fff0, 0, 1), 0xffff_ffff_ffff_fff0);
    }
}
