//! What the accesses of a batch come to, where no one of them matters.

use super::engine::Thread;
use super::filter::Kind;
use super::record::{self, Record, STORE};
use crate::cache::LINE;

/// Sums over the records of a batch, ranges and events included.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    /// Of the upper sixteen bits.
    pub all: u64,
    /// Of the upper sixteen bits of stores.
    pub stores: u64,
    /// Whether an access lies in two lines.
    pub crossing: bool,
}

/// Written so that the compiler makes vector code of it.
#[inline]
pub fn tally(records: &[Record]) -> Tally {
    let mut sums = [0_u64; 3];
    for &packed in records {
        let upper = packed >> record::ADDRESS_BITS;
        sums[0] += upper;
        sums[1] += upper & 0_u64.wrapping_sub(packed >> 63);
        sums[2] |= (packed % LINE) + (upper & 0x1f) + (LINE - 1);
    }
    // Each sum is at most 63 + 16 + 63, and has bit 7 if first byte and size are over 64 together.
    Tally { all: sums[0], stores: sums[1], crossing: sums[2] & 0x80 != 0 }
}

impl Thread {
    /// Counts what had no record. Each found its line most recent in the first level.
    pub(super) fn count_passed(&mut self, [loaded, stored]: [Kind; 2]) {
        let counts = &mut self.counts;
        // Wrapping: see `Passed::since`.
        counts.loads = counts.loads.wrapping_add(loaded.accesses);
        counts.stores = counts.stores.wrapping_add(stored.accesses);
        counts.hits[0] += loaded.lines + stored.lines;
        counts.bytes_loaded += loaded.bytes;
        counts.bytes_stored += stored.bytes;
        counts.ranges_loaded += loaded.ranges;
        counts.ranges_stored += stored.ranges;
        counts.range_bytes_loaded += loaded.range_bytes;
        counts.range_bytes_stored += stored.range_bytes;
    }

    /// Counts the plain accesses of a batch of `len` records.
    pub(super) fn count(&mut self, sums: &Tally, len: usize) {
        const ONE_STORE: u64 = STORE >> record::ADDRESS_BITS;
        let accesses = len as u64 - std::mem::take(&mut self.others);
        let stores = sums.all / ONE_STORE;
        let bytes_stored = sums.stores % ONE_STORE;
        self.counts.loads += accesses - stores;
        self.counts.stores += stores;
        self.counts.bytes_loaded += sums.all % ONE_STORE - bytes_stored;
        self.counts.bytes_stored += bytes_stored;
        let lines = accesses + std::mem::take(&mut self.more_lines);
        self.counts.hits[0] += lines - std::mem::take(&mut self.beyond);
    }
}
