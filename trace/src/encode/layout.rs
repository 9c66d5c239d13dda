//! What both sides of an event's encoding agree on.

/// Addresses that are remembered.
pub const SLOTS: usize = 8;
/// `size` of a tag that is no plain access.
pub const OTHER: u8 = 7;
/// `gap` where one byte follows.
pub const GAP_BYTE: u8 = 6;
/// `gap` where a number follows.
pub const GAP_NUMBER: u8 = 7;
/// The first `delta` that announces bytes instead of being the distance itself.
pub const DELTA_BYTES: u8 = 26;
/// How many bytes each of those announces.
pub const DELTA_LEN: [u8; 6] = [1, 2, 3, 4, 6, 8];
/// A distance of so many bytes is a new place, which takes a slot away instead of moving the one it was told from.
pub const DELTA_FAR: u8 = 3;

/// After so many new places, which slots were of use is found out anew.
const FORGET_EACH: u32 = 64;

/// A bit for each slot.
const ALL_SLOTS: u32 = (1 << SLOTS) - 1;

/// The operations of tags that are no plain access.
pub mod operation {
    /// An access whose size is no power of two up to 64.
    pub const ACCESS: u8 = 0;
    /// A block was allocated.
    pub const ALLOCATE: u8 = 1;
    /// A block was freed.
    pub const FREE: u8 = 2;
    /// A block was resized.
    pub const REALLOCATE: u8 = 3;
    /// Memory was put on a tier.
    pub const PLACE: u8 = 4;
    /// A sampled access.
    pub const SAMPLE: u8 = 5;
    /// Accesses of an interval, counted.
    pub const COUNTED: u8 = 6;
    /// Accesses of an interval, seen in some of so many looks.
    pub const SEEN: u8 = 7;
    /// An operation on a key.
    pub const KEY: u8 = 8;
}

/// What both sides remember within a block.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Time of the last event, ticks.
    pub at: u64,
    /// Addresses of late accesses.
    pub slots: [u64; SLOTS],
    /// The slots that were of use lately, a bit each.
    pub useful: u32,
    /// The slot that was taken last for a new place.
    pub victim: u32,
    /// New places so far.
    pub news: u32,
    /// The address of the last record that was no access.
    pub anchor: u64,
    /// The last request of a key operation.
    pub request: u64,
}

impl Memory {
    /// Remembers an address that was told as `delta_len` bytes from `slot`.
    #[inline]
    pub fn remember(&mut self, slot: usize, delta_len: u8, address: u64) {
        if delta_len < DELTA_FAR {
            self.useful |= 1 << (slot % SLOTS);
            self.slots[slot % SLOTS] = address;
            return;
        }
        // A new place takes a slot that was of no use lately, each of them in turn: a table that is looked up at random
        // does not drive out the arrays that are walked meanwhile.
        self.news = self.news.wrapping_add(1);
        if self.useful == ALL_SLOTS || self.news.is_multiple_of(FORGET_EACH) {
            self.useful = 0;
        }
        let next = (self.victim + 1) % SLOTS as u32;
        // Twice in a row, so that a search from the middle goes on at the beginning.
        let useful = self.useful | self.useful << SLOTS;
        self.victim = (next + (!useful >> next).trailing_zeros()) % SLOTS as u32;
        self.slots[self.victim as usize % SLOTS] = address;
    }
}
