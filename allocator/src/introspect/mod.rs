//! What the process can ask about its own memory: plain figures, and the same as text, JSON and XML. Nothing here allocates;
//! gathering walks all spans of a tier under its pool's lock, so it is for reports and not for every request.

mod render;

use tiermem_sys::process;
use tiermem_sys::sync::atomic::Ordering;
use tiermem_tiers::{TierId, TierKind, TierName};

use crate::geometry::UNIT_SIZE;
use crate::size_class::{CLASS_COUNT, SizeClass};
use crate::span::{Span, State};
use crate::stats::{self, ClassCount, LARGE};
use crate::tiers::{self, TIERS_MAX};
use crate::{arena, control, heap, meta};

pub use render::{Form, render};

/// Statistics: no order between them is needed.
const PLAIN: Ordering = Ordering::Relaxed;

/// The process's memory at one moment. Sizes in bytes; counters since the start of the process. While other threads go on
/// allocating, the figures belong to slightly different moments.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Statistics {
    /// In blocks that the program holds, rounded up to their size classes (*allocated* in jemalloc's words). Blocks that
    /// one thread has freed and their owner has not taken back yet count as held.
    pub live: u64,
    /// In units of 64 KiB with at least one span or large block on them: `live`, and what is free between its blocks.
    pub active: u64,
    /// Free, still with memory, and given back when it has stayed free for the decay time.
    pub dirty: u64,
    /// In extents that the process holds of its tiers, used or not.
    pub committed: u64,
    /// Sum of the tiers' highest `committed`.
    pub committed_max: u64,
    /// Given back to the system and the tiers so far (*retained* address space needs no memory).
    pub returned: u64,
    /// In the allocator's own records, which are always in DRAM: of heaps, and of the units of extents held.
    pub metadata: u64,
    /// Resident set of the whole process, as the kernel counts it; 0 if it does not say.
    pub resident: u64,
    /// Highest resident set so far.
    pub resident_max: u64,
    /// Page faults that needed no input or output.
    pub faults_minor: u64,
    /// Page faults that waited for a file or device.
    pub faults_major: u64,
    /// Blocks allocated.
    pub allocations: u64,
    /// Blocks freed.
    pub frees: u64,
    /// Thread heaps that were ever made.
    pub heaps: u32,
    /// Of these, the ones that no thread uses now.
    pub heaps_idle: u32,
    /// Events so far, of those that `tierctl stat` shows; 0 where the process publishes none.
    pub events: u64,
    tiers: [TierStatistics; TIERS_MAX],
    tier_count: usize,
}

/// One tier's part of [`Statistics`], whose words mean the same here.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TierStatistics {
    /// The tier.
    pub id: TierId,
    /// Its name.
    pub name: TierName,
    /// Its kind.
    pub kind: TierKind,
    /// The policy's limit for this process, if there is one.
    pub limit: Option<u64>,
    /// As in [`Statistics`].
    pub live: u64,
    /// As in [`Statistics`].
    pub active: u64,
    /// As in [`Statistics`].
    pub dirty: u64,
    /// As in [`Statistics`].
    pub committed: u64,
    /// Highest `committed`.
    pub committed_max: u64,
    /// As in [`Statistics`].
    pub returned: u64,
    /// As in [`Statistics`].
    pub allocations: u64,
    /// As in [`Statistics`].
    pub frees: u64,
    /// Blocks held that have a span of their own, because they are larger than every class.
    pub large: u64,
    /// Bytes in those.
    pub large_bytes: u64,
    /// Requests that this tier should have served and another one did.
    pub fallbacks: u64,
    /// Whether it failed lately to give an extent that its limit allowed.
    pub unavailable: bool,
    /// Bytes in extents of which a part was found bad (poisoned, or lost with its device) so far: nothing new is placed there.
    pub quarantined: u64,
}

/// Blocks of one size class in one tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassStatistics {
    /// Bytes per block; 0 for the large blocks, which have no class.
    pub block_size: u64,
    /// Blocks allocated.
    pub allocations: u64,
    /// Blocks held.
    pub live: u64,
    /// Bytes in those.
    pub live_bytes: u64,
}

impl Statistics {
    /// The tiers, by number.
    pub fn tiers(&self) -> &[TierStatistics] {
        &self.tiers[..self.tier_count]
    }
}

/// The figures of this moment. Allocates nothing.
///
/// ```
/// let before = tiermem::statistics();
/// let block = tiermem::api::allocate(100);
/// let after = tiermem::statistics();
/// assert_eq!((after.live - before.live, after.allocations - before.allocations), (112, 1));
/// # let _ = block;
/// ```
pub fn statistics() -> Statistics {
    let usage = process::usage();
    let resident = process::resident().unwrap_or(0);
    let (heaps, heaps_idle) = heap::counts();
    let events = control::segment().map_or(0, |segment| segment.header.events_total.load(PLAIN));
    let tier_count = tiers::count();
    let tiers: [TierStatistics; TIERS_MAX] = std::array::from_fn(|i| tier_statistics(i, i < tier_count));
    let sum = |of: fn(&TierStatistics) -> u64| tiers.iter().map(of).sum::<u64>();
    let committed = sum(|tier| tier.committed);
    Statistics {
        live: sum(|tier| tier.live),
        active: sum(|tier| tier.active),
        dirty: sum(|tier| tier.dirty),
        committed,
        committed_max: sum(|tier| tier.committed_max),
        returned: sum(|tier| tier.returned),
        metadata: meta::bytes() + committed / UNIT_SIZE as u64 * size_of::<Span>() as u64,
        resident,
        // The kernel brings its maximum up to date now and then only.
        resident_max: usage.resident_max.max(resident),
        faults_minor: usage.faults_minor,
        faults_major: usage.faults_major,
        allocations: sum(|tier| tier.allocations),
        frees: sum(|tier| tier.frees),
        heaps,
        heaps_idle,
        events,
        tiers,
        tier_count,
    }
}

/// The blocks of one tier by size class, ascending; the last entry is the large blocks'. `None` if there is no such tier.
pub fn class_statistics(tier: TierId) -> Option<[ClassStatistics; CLASS_COUNT + 1]> {
    if tier.index() >= tiers::count() {
        return None;
    }
    let mut counts = [ClassCount::default(); CLASS_COUNT + 1];
    stats::gather(tier.0, &mut counts);
    Some(std::array::from_fn(|i| ClassStatistics {
        block_size: SizeClass::from_index(i).map_or(0, |class| class.block_size() as u64),
        allocations: counts[i].allocations,
        live: counts[i].live,
        live_bytes: counts[i].live_bytes,
    }))
}

/// Bytes in the units of the span that begins with this unit; 0 if none does.
fn active_bytes(first: &Span) -> usize {
    match first.state() {
        State::Current | State::Queued | State::Asleep | State::Mosaic => first.class().span_units() * UNIT_SIZE,
        State::Large => first.size().next_multiple_of(UNIT_SIZE),
        State::Unused | State::Interior | State::Tray => 0,
    }
}

/// One tier's figures; of a slot without a tier, zeroes.
fn tier_statistics(index: usize, is_used: bool) -> TierStatistics {
    let id = TierId(index as u8);
    let slot = tiers::slot(id.0);
    let (name, kind) = tiers::slot(if is_used { id.0 } else { 0 }).identity();
    let mut counts = [ClassCount::default(); CLASS_COUNT + 1];
    let mut active = 0;
    if is_used {
        stats::gather(id.0, &mut counts);
        slot.pool.for_each_extent(|extent| {
            active += arena::units_of(extent).map(active_bytes).sum::<usize>();
        });
    }
    let sum = |of: fn(&ClassCount) -> u64| counts.iter().map(of).sum::<u64>();
    let counters = &slot.pool.counters;
    let limit = counters.limit.load(PLAIN);
    let allocations = sum(|count| count.allocations);
    TierStatistics {
        id,
        name,
        kind,
        limit: (limit != u64::MAX).then_some(limit),
        live: sum(|count| count.live_bytes),
        active: active as u64,
        dirty: slot.pool.returnable_bytes(),
        committed: counters.committed.load(PLAIN),
        committed_max: counters.committed_max.load(PLAIN),
        returned: counters.returned.load(PLAIN),
        allocations,
        frees: allocations.saturating_sub(sum(|count| count.live)),
        large: counts[LARGE].live,
        large_bytes: counts[LARGE].live_bytes,
        fallbacks: slot.fallbacks.load(PLAIN),
        unavailable: counters.is_unavailable(),
        quarantined: counters.quarantined.load(PLAIN),
    }
}
