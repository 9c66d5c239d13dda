//! Counting without touching the fast path: live spans carry their own counts; what they counted is added up here
//! when they end, and [`gather`] walks the live ones.

use tiermem_sys::sync::atomic::{AtomicU64, Ordering};

use crate::size_class::{CLASS_COUNT, SizeClass};
use crate::span::{State, TILE};
use crate::tiers::{self, TIERS_MAX};
use crate::{arena, geometry::UNIT_SIZE};

/// Index of the large blocks beside the classes.
pub const LARGE: usize = CLASS_COUNT;

/// Blocks allocated in spans that have ended, by tier and class (large blocks: all ever allocated).
static RETIRED: [[AtomicU64; CLASS_COUNT + 1]; TIERS_MAX] =
    [const { [const { AtomicU64::new(0) }; CLASS_COUNT + 1] }; TIERS_MAX];

/// One class's count in one tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassCount {
    /// Blocks ever allocated.
    pub allocations: u64,
    /// Blocks in use.
    pub live: u64,
    /// Bytes in them.
    pub live_bytes: u64,
}

/// One tier's counts, by class; the last entry is the large blocks'.
pub type TierCount = [ClassCount; CLASS_COUNT + 1];

/// Adds what an ending span counted.
pub fn retire(tier: u8, class: SizeClass, allocations: u64) {
    // Relaxed: a statistic.
    RETIRED[usize::from(tier) % TIERS_MAX][class.index()].fetch_add(allocations, Ordering::Relaxed);
}

/// Counts a large block.
pub fn count_large(tier: u8) {
    RETIRED[usize::from(tier) % TIERS_MAX][LARGE].fetch_add(1, Ordering::Relaxed);
}

/// Adds up one tier. Other threads go on allocating meanwhile, so the figures belong to slightly different moments.
/// Blocks on their way home in an inbox or outbox count as live.
pub fn gather(tier: u8, into: &mut TierCount) {
    for (entry, retired) in into.iter_mut().zip(&RETIRED[usize::from(tier) % TIERS_MAX]) {
        *entry = ClassCount { allocations: retired.load(Ordering::Relaxed), ..ClassCount::default() };
    }
    tiers::pool(tier).for_each_extent(|index| {
        for record in arena::units_of(index) {
            match record.state() {
                State::Current | State::Queued | State::Asleep => {
                    let entry = &mut into[record.class().index()];
                    let used = record.used().min(record.capacity()) as u64;
                    entry.allocations += record.allocations();
                    entry.live += used;
                    entry.live_bytes += used * record.block_size() as u64;
                }
                State::Large => {
                    let entry = &mut into[LARGE];
                    entry.live += 1;
                    entry.live_bytes += record.size().next_multiple_of(UNIT_SIZE) as u64;
                }
                // By the size of each block; those on trays and on their way into the gaps count as live.
                State::Mosaic => {
                    if let Some(tiles) = record.tiles() {
                        tiles.for_each_block(|length| {
                            if let Some(class) = SizeClass::of(length * TILE) {
                                into[class.index()].live += 1;
                                into[class.index()].live_bytes += class.block_size() as u64;
                            }
                        });
                    }
                }
                State::Unused | State::Interior | State::Tray => {}
            }
        }
    });
}
