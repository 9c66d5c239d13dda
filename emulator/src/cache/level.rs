//! One cache: sets of lines, each set ordered by last use.

use tiermem_sys::cpu::prefetch;

use super::{LINE, LevelConfig};

/// What a cache knows about a line beside its address, kept in the low bits that a line's address leaves free.
pub mod state {
    /// The entry holds a line.
    pub const VALID: u64 = 1;
    /// Memory does not have what the line holds.
    pub const DIRTY: u64 = 2;
    /// No other core has the line (private levels only).
    pub const OWNED: u64 = 4;
    /// Brought by the prefetcher and not used yet.
    pub const PREFETCHED: u64 = 8;
    /// All of them.
    pub const ALL: u64 = super::LINE - 1;
}

/// One entry: address of the line, and its state in the low six bits. Zero is an empty one.
pub type Entry = u64;

/// Address of the line of an entry.
pub const fn line_of(entry: Entry) -> u64 {
    entry & !state::ALL
}

/// Most ways: the order of a set is one word of as many half bytes.
pub const WAYS_MAX: u32 = 16;

/// What a set knows about its ways without looking at their entries.
///
/// ```text
/// prints  | way 0 | way 1 | … | way 15 |    a byte each: a hash of the line, so that a miss reads no entries
/// order   | most recent way … least |       4 bits each from the low end; beyond the last way 15, which is not used
/// ```
/// Invariant: the first `ways` half bytes of `order` are a permutation of the ways; empty ways stand last.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Set {
    prints: [u64; 2],
    order: u64,
}

/// Entries in a line of the host's cache, so that those of a set lie in as few of them as they can.
const ROW: usize = 8;

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Row([Entry; ROW]);

/// One cache.
///
/// Invariant: no line stands in a set twice.
#[derive(Debug)]
pub struct Level {
    /// `ways` entries for each set.
    rows: Vec<Row>,
    sets: Vec<Set>,
    ways: usize,
    /// `sets - 1` where that is a power of two, else 0.
    mask: u64,
}

/// Where a line would be.
#[derive(Clone, Copy)]
struct Place {
    set: usize,
    print: u8,
}

impl Level {
    pub fn new(config: &LevelConfig) -> Self {
        let ways = config.ways as usize;
        // A level has 16 GiB at most, which are 2^28 entries.
        let sets = usize::try_from(config.size / (u64::from(config.ways) * LINE)).unwrap_or(usize::MAX);
        let order = (0..u64::from(WAYS_MAX))
            .fold(0, |order, way| order | if way < u64::from(config.ways) { way } else { 0xf } << (4 * way));
        Self {
            rows: vec![Row([0; ROW]); (sets * ways).div_ceil(ROW)],
            sets: vec![Set { prints: [0; 2], order }; sets],
            ways,
            mask: if sets.is_power_of_two() { sets as u64 - 1 } else { 0 },
        }
    }

    #[inline]
    fn set_of(&self, line: u64) -> usize {
        let number = line / LINE;
        let set = if self.mask != 0 { number & self.mask } else { number % self.sets.len() as u64 };
        #[expect(clippy::cast_possible_truncation, reason = "sets are counted by a usize")]
        let set = set as usize;
        set
    }

    #[inline]
    fn place(&self, line: u64) -> Place {
        // The multiplier of Fibonacci hashing (Knuth, TAOCP 3, 6.4): 2^64 over the golden ratio.
        let [print, ..] = (line / LINE).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        Place { set: self.set_of(line), print }
    }

    #[inline]
    fn entry(&self, place: usize, way: usize) -> Entry {
        let at = place * self.ways + way;
        self.rows[at / ROW].0[at % ROW]
    }

    #[inline]
    fn entry_mut(&mut self, place: usize, way: usize) -> &mut Entry {
        let at = place * self.ways + way;
        &mut self.rows[at / ROW].0[at % ROW]
    }

    /// Has the host bring what a search for `line` will look at.
    #[inline]
    pub fn expect(&self, line: u64) {
        let set = self.set_of(line);
        prefetch(&self.sets[set]);
        let first = set * self.ways / ROW;
        prefetch(&self.rows[first]);
        let last = (set * self.ways + self.ways - 1) / ROW;
        if last != first {
            prefetch(&self.rows[last]);
        }
    }

    #[inline]
    fn find(&self, line: u64, place: Place) -> Option<usize> {
        let prints = self.sets[place.set].prints;
        for (half, prints) in prints.into_iter().enumerate() {
            let mut candidates = bytes_equal(prints, place.print);
            while candidates != 0 {
                let way = half * 8 + candidates.trailing_zeros() as usize / 8;
                if way < self.ways && is(self.entry(place.set, way), line) {
                    return Some(way);
                }
                candidates &= candidates - 1;
            }
        }
        None
    }

    /// Whether `line` is the most recent one of its set.
    #[inline]
    pub fn is_most_recent(&self, line: u64) -> bool {
        let set = self.set_of(line);
        is(self.entry(set, (self.sets[set].order & 0xf) as usize), line)
    }

    /// The most recent entry of `line`'s set, if it is `line`'s.
    #[inline]
    pub fn most_recent(&mut self, line: u64) -> Option<&mut Entry> {
        let set = self.set_of(line);
        let way = (self.sets[set].order & 0xf) as usize;
        let entry = self.entry_mut(set, way);
        is(*entry, line).then_some(entry)
    }

    /// Finds `line` and makes it the most recent of its set.
    #[inline]
    pub fn touch(&mut self, line: u64) -> Option<&mut Entry> {
        let place = self.place(line);
        let way = self.find(line, place)?;
        let set = &mut self.sets[place.set];
        set.order = to_front(set.order, way);
        Some(self.entry_mut(place.set, way))
    }

    /// Finds `line` and leaves the order alone.
    pub fn peek(&mut self, line: u64) -> Option<&mut Entry> {
        let place = self.place(line);
        let way = self.find(line, place)?;
        Some(self.entry_mut(place.set, way))
    }

    /// Puts a line in that is not there, as the most recent of its set; gives back the entry that made way, zero if
    /// there was room.
    #[inline]
    pub fn insert(&mut self, entry: Entry) -> Entry {
        let place = self.place(line_of(entry));
        let set = &mut self.sets[place.set];
        let last = 4 * (self.ways - 1);
        let way = (set.order >> last & 0xf) as usize;
        set.order = to_front(set.order, way);
        let print = &mut set.prints[way / 8];
        let at = way % 8 * 8;
        *print = *print & !(0xff << at) | u64::from(place.print) << at;
        std::mem::replace(self.entry_mut(place.set, way), entry)
    }

    /// Takes a line out; zero if it is not there.
    pub fn remove(&mut self, line: u64) -> Entry {
        let place = self.place(line);
        let Some(way) = self.find(line, place) else { return 0 };
        let set = &mut self.sets[place.set];
        set.order = to_back(set.order, way, self.ways);
        std::mem::take(self.entry_mut(place.set, way))
    }

    /// Every entry that holds a line.
    pub fn lines(&self) -> impl Iterator<Item = Entry> {
        self.rows.iter().flat_map(|row| row.0).filter(|e| *e != 0)
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.rows.fill(Row([0; ROW]));
    }
}

#[inline]
fn is(entry: Entry, line: u64) -> bool {
    entry & (!state::ALL | state::VALID) == line | state::VALID
}

/// The highest bit of each byte of `bytes` that is `byte`, exactly (Warren, Hacker's Delight, 6-1).
#[inline]
fn bytes_equal(bytes: u64, byte: u8) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let differing = bytes ^ (u64::from(byte) * 0x0101_0101_0101_0101);
    !(((differing & LOW) + LOW) | differing | LOW)
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
    use super::{bytes_equal, to_back, to_front};

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

    #[test]
    fn equal_bytes_are_found_and_no_others() {
        assert_eq!(bytes_equal(0x0001_0203_0101_8100, 1), 0x0080_0000_8080_0000);
        assert_eq!(bytes_equal(0, 0), 0x8080_8080_8080_8080);
        assert_eq!(bytes_equal(0x0100_0100_0100_0100, 0), 0x0080_0080_0080_0080);
        assert_eq!(bytes_equal(u64::MAX, 0xff), 0x8080_8080_8080_8080);
    }
}
