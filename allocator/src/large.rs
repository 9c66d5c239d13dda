//! Large blocks: each has a span of its own, taken from the pool and given back to it directly, by any thread.

use tiermem_tiers::Provenance;

use crate::geometry::{EXTENT_SIZE, UNIT_SIZE};
use crate::pool::{Fit, Refusal};
use crate::span::Span;
use crate::{arena, clock, stats, tiers};

/// Takes a large block of `size` bytes at a multiple of `align` from a tier.
pub fn allocate(tier: u8, size: usize, align: usize, may_grow: bool, fit: Fit) -> Result<*mut u8, Refusal> {
    let units = units_of(size).ok_or(Refusal::AddressSpace)?;
    let run = tiers::pool(tier).take(units, align, may_grow, fit, Provenance::Large)?;
    let Some(record) = arena::record_of(run.start) else { return Err(Refusal::AddressSpace) };
    record.begin_large(tier, run.start, size, run.zeroed);
    stats::count_large(tier);
    Ok(std::ptr::with_exposed_provenance_mut(run.start))
}

/// Bytes by which the tier must grow in the worst case to serve such a block.
pub fn growth(size: usize) -> usize {
    size.checked_next_multiple_of(EXTENT_SIZE).unwrap_or(usize::MAX)
}

/// Gives a large block back.
pub fn free(record: &'static Span) {
    let (start, tier) = (record.start(), record.tier());
    let Some(units) = units_of(record.size()) else { return };
    record.end();
    tiers::pool(tier).give_back(start, units, clock::now_ms());
    crate::purge::note_freed();
}

/// Changes a large block's size within the units that it has; those that it no longer needs go back. False if it has too
/// few, or would lose so much that a smaller block is better.
pub fn resize(record: &'static Span, size: usize) -> bool {
    let Some(units) = units_of(size) else { return false };
    let held = units_of(record.size()).unwrap_or(0);
    if units > held || units <= held / 2 {
        return false;
    }
    record.set_size(size);
    if units < held {
        let tail = record.start() + units * UNIT_SIZE;
        tiers::pool(record.tier()).give_back(tail, held - units, clock::now_ms());
        crate::purge::note_freed();
    }
    true
}

/// Lets a large block grow into what is free behind it, or into new extents there.
pub fn grow(record: &'static Span, size: usize) -> bool {
    let Some(units) = units_of(size) else { return false };
    let held = units_of(record.size()).unwrap_or(0);
    let grown = units > held && tiers::pool(record.tier()).extend(record.start(), held, units - held);
    if grown {
        record.set_size(size);
    }
    grown
}

/// Units for `size` bytes.
fn units_of(size: usize) -> Option<usize> {
    let units = size.checked_add(UNIT_SIZE - 1)? / UNIT_SIZE;
    Some(units.max(1))
}
