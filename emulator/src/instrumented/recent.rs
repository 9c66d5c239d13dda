//! What a thread used last, so that it need not be looked up again.

use super::record::{self, Record, STORE};
use crate::cache::LINE;

/// Lines that a thread remembers as the most recent of their sets.
pub const RECENT: usize = 64;

/// By the low six bits of a line's number: the line that was used last in the set of the first level that these bits
/// stand for. Finding it is the same as finding the line most recent in its set, so that such accesses need no more.
///
/// ```text
/// record >> 6    | store | range | event | 0 …  | size  | line            |
/// entry          | a store may go there  | 0 …          | line            |   all ones where nothing is known
/// bit              57      56      55             46..42  41..0
/// ```
#[derive(Debug)]
pub struct Recent([u64; RECENT]);

const STORE_HERE: u64 = STORE / LINE;
/// Everything of a record but its size.
const KEY: u64 = !(0x1f << (record::ADDRESS_BITS - 6));

impl Recent {
    pub fn new() -> Self {
        Self([u64::MAX; RECENT])
    }

    pub fn forget(&mut self) {
        self.0.fill(u64::MAX);
    }

    /// By index: the line that is known, and whether it may be written.
    pub fn entries(&self) -> impl Iterator<Item = Option<(u64, bool)>> {
        self.0.iter().map(|&entry| (entry != u64::MAX).then_some((entry & !STORE_HERE, entry & STORE_HERE != 0)))
    }

    /// Whether an access needs no more than to be counted. Ranges and events always need more.
    #[inline]
    pub fn has(&self, packed: Record) -> bool {
        let key = (packed / LINE) & KEY;
        let entry = self.0[key as usize % RECENT];
        key | entry & STORE_HERE == entry
    }

    pub fn remember(&mut self, address: u64, store: bool) {
        let line = address / LINE;
        self.0[line as usize % RECENT] = line | if store { STORE_HERE } else { 0 };
    }
}
