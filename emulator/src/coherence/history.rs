//! Who stored what, and what happened before what.

use super::MAX_HOSTS;
use crate::cache::LINE;

/// How much each host had done when something happened (a vector clock; Fidge 1988): the host's own entry counts
/// its operations, the others say how far this host has heard of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock([u32; MAX_HOSTS]);

impl Clock {
    /// One more operation of `host`; returns its number.
    pub(super) fn tick(&mut self, host: usize) -> u32 {
        self.0[host] += 1;
        self.0[host]
    }

    /// Learns all that `other` knew.
    pub(super) fn join(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = (*mine).max(theirs);
        }
    }

    /// What `other` knows and this does not: hosts, and how far each had come.
    pub(super) fn news<'c>(&'c self, other: &'c Self) -> impl Iterator<Item = (usize, u32)> + 'c {
        let pairs = self.0.iter().zip(other.0).enumerate();
        pairs.filter(|(_, (mine, theirs))| **mine < *theirs).map(|(host, (_, theirs))| (host, theirs))
    }

    /// Whether operation `index` of `host` is known here.
    pub(super) const fn knows(&self, host: usize, index: u32) -> bool {
        self.0[host] >= index
    }
}

/// Number of a store in a run, in the order of execution; 0 stands for the contents before the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct StoreId(pub(super) u32);

impl StoreId {
    pub(super) const INITIAL: Self = Self(0);
}

/// How far a store has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In its host's cache or store buffer.
    Cached,
    /// In the pool, or seen by all where the hardware is coherent.
    Pool {
        /// Step at which it came there.
        since: u32,
    },
    /// Gone with its host, or with the power.
    Lost,
    /// Dropped by its own host's invalidation.
    Discarded,
}

/// A store of one host to one line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Store {
    pub(super) host: u8,
    /// The host's clock entry: which of its operations it was.
    pub(super) index: u32,
    /// What the host knew.
    pub(super) clock: Clock,
    pub(super) place: Place,
    /// Whether it wrote what [`secret`](super::Host::secret) has declared.
    pub(super) secret: bool,
    /// Step of the timeline.
    pub(super) step: u32,
}

/// All stores of a run.
#[derive(Debug)]
pub(super) struct Stores(Vec<Store>);

impl Default for Stores {
    fn default() -> Self {
        let mut stores = Self(Vec::new());
        stores.reset();
        stores
    }
}

impl Stores {
    pub(super) fn reset(&mut self) {
        self.0.clear();
        // The contents before the run; everybody knows of operation 0.
        self.0.push(Store {
            host: 0,
            index: 0,
            clock: Clock::default(),
            place: Place::Pool { since: 0 },
            secret: false,
            step: 0,
        });
    }

    pub(super) fn add(&mut self, store: Store) -> StoreId {
        let id = StoreId(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        self.0.push(store);
        id
    }

    pub(super) fn get(&self, id: StoreId) -> &Store {
        &self.0[id.0 as usize]
    }

    pub(super) fn get_mut(&mut self, id: StoreId) -> &mut Store {
        &mut self.0[id.0 as usize]
    }

    /// How many there are, the contents before the run included.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// Whether `earlier` happened before `later`.
    pub(super) fn ordered(&self, earlier: StoreId, later: StoreId) -> bool {
        earlier == StoreId::INITIAL || self.known(earlier, &self.get(later).clock)
    }

    /// Whether somebody with this clock must have heard of `id`.
    pub(super) fn known(&self, id: StoreId, by: &Clock) -> bool {
        let store = self.get(id);
        by.knows(usize::from(store.host), store.index)
    }

    /// A name of the store that does not depend on how hosts were interleaved.
    pub(super) fn identity(&self, id: StoreId) -> u64 {
        let store = self.get(id);
        (u64::from(store.host) << 32) | u64::from(store.index)
    }
}

/// The bytes of a line, and which store each of them comes from.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) data: [u8; LINE as usize],
    pub(super) from: [StoreId; LINE as usize],
}

impl Content {
    pub(super) const ZERO: Self = Self { data: [0; LINE as usize], from: [StoreId::INITIAL; LINE as usize] };

    /// Puts a store's bytes in.
    pub(super) fn apply(&mut self, write: &Write) {
        let span = write.span();
        self.data[span.clone()].copy_from_slice(&write.data[span.clone()]);
        self.from[span].fill(write.id);
    }

    /// Copies some bytes of another content.
    pub(super) fn take(&mut self, other: &Self, span: std::ops::Range<usize>) {
        self.data[span.clone()].copy_from_slice(&other.data[span.clone()]);
        self.from[span.clone()].copy_from_slice(&other.from[span]);
    }
}

/// A store's bytes within one line, at their places.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) id: StoreId,
    pub(super) start: u8,
    pub(super) len: u8,
    pub(super) data: [u8; LINE as usize],
    /// The newest version of the line in the pool when the store was made.
    pub(super) seen: u32,
    /// How many fences of its host were before it.
    pub(super) fences: u32,
}

impl Write {
    pub(super) fn span(&self) -> std::ops::Range<usize> {
        usize::from(self.start)..usize::from(self.start) + usize::from(self.len)
    }

    /// One bit for each byte that it wrote.
    pub(super) fn mask(&self) -> u64 {
        mask(self.span())
    }
}

/// One bit for each byte of a span of a line.
pub(super) fn mask(span: std::ops::Range<usize>) -> u64 {
    let ones = |count: usize| if count >= 64 { u64::MAX } else { (1 << count) - 1 };
    ones(span.end) & !ones(span.start)
}

/// Mixes a value into a running hash (the finaliser of SplitMix64; Steele, Lea and Flood, OOPSLA 2014).
pub(super) const fn mix(hash: u64, value: u64) -> u64 {
    let mut z = (hash ^ value.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_one_bit_a_byte() {
        assert_eq!(mask(0..64), u64::MAX);
        assert_eq!(mask(0..0), 0);
        assert_eq!(mask(8..10), 0x300);
        assert_eq!(mask(63..64), 1 << 63);
    }

    #[test]
    fn clocks_order_what_was_heard_of() {
        let (mut a, mut b) = (Clock::default(), Clock::default());
        let first = a.tick(0);
        b.tick(1);
        assert!(!b.knows(0, first));
        b.join(&a);
        assert!(b.knows(0, first));
        let second = a.tick(0);
        assert!(!b.knows(0, second));
    }
}
