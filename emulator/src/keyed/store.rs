//! Which values there are, and on which tier: for each tier a list in the order of use.

use std::collections::HashMap;

use crate::cache::LINE;

/// Most tiers of a chain.
pub const SHELVES_MAX: usize = 16;

/// No entry.
const NONE: u32 = u32::MAX;

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Number of the tier in the chain.
    pub shelf: usize,
    /// Where on the tier, bytes: which device of an interleave set it begins on.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// What an operation brought about, in the order in which it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A value came in.
    Enter(Found),
    /// A value moved, up or down.
    Move { from: Found, to: Found },
    /// A value moved out of the last tier.
    Leave(Found),
    /// A value does not fit on any tier.
    TooLarge,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u64,
    place: Found,
    newer: u32,
    older: u32,
}

#[derive(Clone, Copy, Debug)]
struct Shelf {
    capacity: u64,
    used: u64,
    newest: u32,
    oldest: u32,
    /// Bytes that were ever put here: values are written one behind the other, as into a log.
    written: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    shelves: Vec<Shelf>,
    entries: Vec<Entry>,
    unused: Vec<u32>,
    by_key: HashMap<u64, u32>,
}

impl Store {
    pub fn new(capacities: impl Iterator<Item = u64>) -> Self {
        let shelf = |capacity| Shelf { capacity, used: 0, newest: NONE, oldest: NONE, written: 0 };
        Self {
            shelves: capacities.map(shelf).collect(),
            entries: Vec::new(),
            unused: Vec::new(),
            by_key: HashMap::new(),
        }
    }

    /// Bytes that the values of each tier take.
    pub fn used(&self) -> impl Iterator<Item = u64> + '_ {
        self.shelves.iter().map(|shelf| shelf.used)
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Where the value of a key is.
    pub fn find(&self, key: u64) -> Option<Found> {
        self.by_key.get(&key).map(|&at| self.entries[at as usize].place)
    }

    /// The value of a key was used: it is the newest of its tier now, or of the first one.
    pub fn touch(&mut self, key: u64, promote: bool, changes: &mut Vec<Change>) {
        let Some(&at) = self.by_key.get(&key) else { return };
        let from = self.take_off(at);
        match self.fits_on(from.size).filter(|&first| promote && first < from.shelf) {
            Some(first) => {
                let to = self.place_on(first, from.size);
                changes.push(Change::Move { from, to });
                self.make_room(first, from.size, changes);
                self.put_on(at, to);
            }
            None => self.put_on(at, from),
        }
    }

    /// The value of a new key comes in, on the first tier that it fits on.
    pub fn insert(&mut self, key: u64, size: u64, changes: &mut Vec<Change>) {
        let Some(shelf) = self.fits_on(size) else {
            changes.push(Change::TooLarge);
            return;
        };
        let place = self.place_on(shelf, size);
        changes.push(Change::Enter(place));
        self.make_room(shelf, size, changes);
        let entry = Entry { key, place, newer: NONE, older: NONE };
        let at = match self.unused.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).unwrap_or(NONE)
            }
        };
        self.by_key.insert(key, at);
        self.put_on(at, place);
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: u64) {
        if let Some(at) = self.by_key.remove(&key) {
            self.take_off(at);
            self.unused.push(at);
        }
    }

    fn fits_on(&self, size: u64) -> Option<usize> {
        self.shelves.iter().position(|shelf| size <= shelf.capacity)
    }

    /// The next place on a tier.
    fn place_on(&mut self, shelf: usize, size: u64) -> Found {
        let there = &mut self.shelves[shelf];
        let offset = there.written % there.capacity / LINE * LINE;
        there.written += size;
        Found { shelf, offset, size }
    }

    /// Moves the values that have not been used for longest down, until there is room for `size` bytes.
    fn make_room(&mut self, shelf: usize, size: u64, changes: &mut Vec<Change>) {
        while self.shelves[shelf].used + size > self.shelves[shelf].capacity && self.shelves[shelf].oldest != NONE {
            let at = self.shelves[shelf].oldest;
            let from = self.take_off(at);
            let below = (shelf + 1..self.shelves.len()).find(|&below| from.size <= self.shelves[below].capacity);
            if let Some(below) = below {
                let to = self.place_on(below, from.size);
                changes.push(Change::Move { from, to });
                self.make_room(below, from.size, changes);
                self.put_on(at, to);
            } else {
                changes.push(Change::Leave(from));
                self.by_key.remove(&self.entries[at as usize].key);
                self.unused.push(at);
            }
        }
    }

    /// Makes an entry the newest of a tier.
    fn put_on(&mut self, at: u32, place: Found) {
        let shelf = &mut self.shelves[place.shelf];
        shelf.used += place.size;
        let older = std::mem::replace(&mut shelf.newest, at);
        if older == NONE {
            shelf.oldest = at;
        } else {
            self.entries[older as usize].newer = at;
        }
        let entry = &mut self.entries[at as usize];
        (entry.place, entry.newer, entry.older) = (place, NONE, older);
    }

    /// Takes an entry off its tier's list.
    fn take_off(&mut self, at: u32) -> Found {
        let Entry { place, newer, older, .. } = self.entries[at as usize];
        self.shelves[place.shelf].used -= place.size;
        if newer == NONE {
            self.shelves[place.shelf].newest = older;
        } else {
            self.entries[newer as usize].older = older;
        }
        if older == NONE {
            self.shelves[place.shelf].oldest = newer;
        } else {
            self.entries[older as usize].newer = newer;
        }
        place
    }
}
