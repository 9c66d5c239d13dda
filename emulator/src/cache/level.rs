//! One cache: sets of lines, each set ordered by last use.

use tiermem_sys::cpu::prefetch;

use super::config::LEVELS_MAX;
use super::set::{Held, NEAR_BITS, Set, WAYS, Ways, state};
use super::{LINE, LevelConfig};

/// One cache.
///
/// Invariant: no line stands in a set twice.
#[derive(Debug)]
pub struct Level {
    sets: Vec<Set>,
    /// The rest of each way's tag, by set and way; empty as long as all of them are zero, which they are where addresses
    /// begin near zero.
    far: Vec<[u64; WAYS]>,
    ways: Ways,
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

/// The sets of a level; none by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sets<'a> {
    sets: &'a [Set],
    mask: u64,
}

impl Sets<'_> {
    /// Has the host bring what a search for the line with this number will look at; a guess where the number of sets is no
    /// power of two.
    #[inline(always)]
    pub fn expect(&self, number: u64) {
        if let Some(set) = self.sets.get((number & self.mask) as usize) {
            prefetch(set);
        }
    }
}

/// A line that made way and has to go somewhere, for it was dirty; and what was known about it.
pub type Victim = Option<(u64, u64)>;

impl Level {
    pub fn new(config: &LevelConfig) -> Self {
        let ways = Ways::new(config.ways);
        // A level has 16 GiB at most, which are 2^28 lines.
        let sets = usize::try_from(config.size / (u64::from(config.ways) * LINE)).unwrap_or(usize::MAX);
        let (mask, shift) = if sets.is_power_of_two() { (sets as u64 - 1, sets.trailing_zeros()) } else { (0, 0) };
        Self { sets: vec![Set::EMPTY; sets], far: Vec::new(), ways, mask, shift }
    }

    /// No level at all.
    pub const fn none() -> Self {
        Self { sets: Vec::new(), far: Vec::new(), ways: Ways::new(1), mask: 0, shift: 0 }
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

    /// How many lines from the first one have [near](super::near) tags, of so many bits that are not all set; 0 where the number
    /// of sets is no power of two.
    pub fn near_lines(&self, bits: u32) -> u64 {
        if self.sets.len().is_power_of_two() { ((1 << bits) - 1) << self.shift } else { 0 }
    }

    /// The place of the near line with this number.
    #[inline(always)]
    pub const fn near_place(&self, number: u64) -> Place {
        Place { set: (number & self.mask) as usize, tag: number >> self.shift }
    }

    /// The way of a near line, made the most recent, in its set. All lines of this level are near.
    #[inline(always)]
    pub fn touch_near(&mut self, place: Place) -> Option<Held<'_>> {
        let set = &mut self.sets[place.set];
        let way = set.find_near(place.tag)?;
        set.touch(way);
        Some(set.held(way))
    }

    /// Likewise where tags have sixteen bits.
    #[inline(always)]
    pub fn touch_word(&mut self, place: Place) -> Option<Held<'_>> {
        let set = &mut self.sets[place.set];
        let way = set.find_word(place.tag)?;
        set.touch(way);
        Some(set.held(way))
    }

    /// A near line, the order of its set left alone. All lines of this level are near.
    #[inline(always)]
    pub fn peek_near(&mut self, place: Place) -> Option<Held<'_>> {
        let set = &mut self.sets[place.set];
        let way = set.find_near(place.tag)?;
        Some(set.held(way))
    }

    /// Likewise where tags have sixteen bits.
    #[inline(always)]
    pub fn peek_word(&mut self, place: Place) -> Option<Held<'_>> {
        let set = &mut self.sets[place.set];
        let way = set.find_word(place.tag)?;
        Some(set.held(way))
    }

    /// [`remove`](Self::remove) where all lines are near.
    #[inline(always)]
    pub fn remove_near(&mut self, place: Place) -> u64 {
        let set = &mut self.sets[place.set];
        set.find_near(place.tag).map_or(0, |way| set.remove(self.ways, way))
    }

    /// Likewise where tags have sixteen bits.
    #[inline(always)]
    pub fn remove_word(&mut self, place: Place) -> u64 {
        let set = &mut self.sets[place.set];
        set.find_word(place.tag).map_or(0, |way| set.remove(self.ways, way))
    }

    /// [`insert`](Self::insert) where all lines are near.
    #[inline(always)]
    pub fn insert_near(&mut self, place: Place, flags: u64) -> Victim {
        let (near, was) = self.sets[place.set].replace_near(self.ways, place.tag, flags)?;
        Some((self.line_of(place.set, near), was))
    }

    /// What it takes to bring its sets near.
    pub fn sets(&self) -> Sets<'_> {
        Sets { sets: &self.sets, mask: self.mask }
    }

    /// The way that has the line of this place; empty ones may seem to have it.
    #[inline(always)]
    fn find(&self, place: Place) -> Option<usize> {
        let set = &self.sets[place.set];
        let has = |way| set.state(way) & state::VALID != 0 && self.far_of(place.set, way) == place.tag >> NEAR_BITS;
        set.candidates(place.tag).find(|&way| has(way))
    }

    #[inline]
    fn far_of(&self, set: usize, way: usize) -> u64 {
        self.far.get(set).map_or(0, |far| far[way % WAYS])
    }

    /// Finds the line of this place and makes it the most recent of its set.
    #[inline(always)]
    pub fn touch(&mut self, place: Place) -> Option<Held<'_>> {
        let way = self.find(place)?;
        let set = &mut self.sets[place.set];
        set.touch(way);
        Some(set.held(way))
    }

    /// Finds the line of this place and leaves the order alone.
    #[inline]
    pub fn peek(&mut self, place: Place) -> Option<Held<'_>> {
        let way = self.find(place)?;
        Some(self.sets[place.set].held(way))
    }

    /// Puts a line in that is not there, as the most recent of its set. Gives back the one that made way, if it was dirty.
    #[inline(always)]
    pub fn insert(&mut self, Place { set, tag }: Place, flags: u64) -> Victim {
        let (way, near, was) = self.sets[set].replace(self.ways, tag, flags);
        let mut far = 0;
        if tag >> NEAR_BITS != 0 || !self.far.is_empty() {
            far = self.replace_far(set, way, tag >> NEAR_BITS);
        }
        (was & state::DIRTY != 0).then(|| (self.line_of(set, near | far << NEAR_BITS), was))
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
        self.sets[place.set].remove(self.ways, way)
    }

    /// Every dirty line.
    pub fn dirty(&self) -> impl Iterator<Item = u64> {
        self.lines_that_are(state::DIRTY)
    }

    /// Every line.
    pub fn lines(&self) -> impl Iterator<Item = u64> {
        self.lines_that_are(state::VALID)
    }

    fn lines_that_are(&self, flags: u64) -> impl Iterator<Item = u64> {
        let ways = (0..self.sets.len()).flat_map(|at| (0..self.ways.count()).map(move |way| (at, way)));
        ways.filter(move |&(at, way)| self.sets[at].state(way) & flags != 0)
            .map(|(at, way)| self.line_of(at, self.sets[at].near(way) | self.far_of(at, way) << NEAR_BITS))
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.sets.fill(Set::EMPTY);
    }
}

/// The levels of a core, the nearest first; at least one.
#[derive(Debug)]
pub struct Levels {
    /// Those behind the last one are without sets.
    pub all: [Level; LEVELS_MAX],
    count: usize,
}

impl Levels {
    pub fn new(configs: &[LevelConfig]) -> Self {
        let all = std::array::from_fn(|at| configs.get(at).map_or_else(Level::none, Level::new));
        Self { all, count: configs.len().min(LEVELS_MAX) }
    }
}

impl std::ops::Deref for Levels {
    type Target = [Level];

    #[inline]
    fn deref(&self) -> &[Level] {
        &self.all[..self.count]
    }
}

impl std::ops::DerefMut for Levels {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Level] {
        &mut self.all[..self.count]
    }
}
