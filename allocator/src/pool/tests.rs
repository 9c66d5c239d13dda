//! A pool whose tier fails.

use std::ptr::NonNull;

use tiermem_sys::map::{self, Placement};
use tiermem_sys::sync::atomic::AtomicUsize;
use tiermem_tiers::{Access, ForkPlan, Health, Provider, Tier, TierKind, TierName, Usage};

use super::Fit;
use super::*;

const TIER: TierId = TierId(6);

/// A tier of so many extents, and of no more than `piece` in one piece.
struct Small {
    tier: Tier,
    free: AtomicUsize,
    piece: usize,
}

impl Provider for Small {
    fn tier(&self) -> &Tier {
        &self.tier
    }

    fn access(&self) -> Access {
        Access::Load
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn health(&self) -> Health {
        Health::Good
    }

    fn reserve(&self, len: Bytes, _why: Provenance) -> Result<Extent, Error> {
        Err(Error::new(ErrorKind::Full { wanted: len }))
    }

    fn release(&self, extent: Extent) -> Result<(), Error> {
        let at = extent.address().expect("an address");
        // SAFETY: the pool gives the extent up.
        unsafe { map::decommit(at, extent.len().0 as usize) }.expect("decommit");
        self.free.fetch_add((extent.len().0 >> EXTENT_SHIFT) as usize, Ordering::Relaxed);
        Ok(())
    }

    fn read(&self, _: &Extent, _: u64, _: &mut [u8]) -> Result<(), Error> {
        Err(Error::new(ErrorKind::OutOfRange))
    }

    fn write(&self, _: &Extent, _: u64, _: &[u8]) -> Result<(), Error> {
        Err(Error::new(ErrorKind::OutOfRange))
    }
}

impl Addressable for Small {
    unsafe fn reserve_at(
        &self,
        at: NonNull<u8>,
        len: Bytes,
        exclusive: bool,
        why: Provenance,
    ) -> Result<Extent, Error> {
        let full = Error::new(ErrorKind::Full { wanted: len });
        let count = (len.0 >> EXTENT_SHIFT) as usize;
        let left = self.free.load(Ordering::Relaxed).checked_sub(count).filter(|_| count <= self.piece);
        self.free.store(left.ok_or(full)?, Ordering::Relaxed);
        let placement = if exclusive { Placement::Exclusive } else { Placement::Replace };
        // SAFETY: passed on to the caller.
        unsafe { map::anonymous_at(at, len.0 as usize, placement) }.expect("map");
        Ok(Extent::from_parts(TIER, 0, len, Some(at), why))
    }

    fn can_purge(&self) -> bool {
        false
    }

    fn fork_plan(&self) -> ForkPlan {
        ForkPlan::Inherent
    }
}

fn pool(free: usize, piece: usize) -> (&'static Pool, &'static Small) {
    let name = TierName::new("small").expect("a name");
    let tier = Tier { id: TIER, name, kind: TierKind::DaxFile, attributes: Default::default() };
    let provider: &Small = Box::leak(Box::new(Small { tier, free: AtomicUsize::new(free), piece }));
    let pool: &Pool = Box::leak(Box::new(Pool::new(TIER)));
    // SAFETY: once, before anything else.
    unsafe { pool.backing().set(provider) };
    (pool, provider)
}

fn committed(pool: &Pool) -> usize {
    (pool.counters.committed.load(Ordering::Relaxed) >> EXTENT_SHIFT) as usize
}

fn take(pool: &Pool, extents: usize) -> Result<Run, Refusal> {
    pool.take(extents * UNITS_PER_EXTENT, UNIT_SIZE, true, Fit::Tight, Provenance::Large)
}

/// Extents that were had before one failed were subtracted from a figure that they had never been added to. Where it fell
/// below zero, a tier with a limit refused everything from then on.
#[test]
fn growth_that_fails_half_way_changes_no_figure() {
    let (pool, provider) = pool(3, 1);
    pool.counters.limit.store(16 << EXTENT_SHIFT, Ordering::Relaxed);
    assert!(matches!(take(pool, 4), Err(Refusal::Tier(error)) if matches!(error.kind(), ErrorKind::Full { .. })));
    assert_eq!((committed(pool), provider.free.load(Ordering::Relaxed)), (0, 3), "all was given back");
    assert!(!pool.counters.is_unavailable(), "there is room for less");
    let run = take(pool, 3).expect("three pieces");
    assert_eq!(committed(pool), 3);
    assert!(run.zeroed);
}

#[test]
fn a_tier_that_has_no_room_recovers_when_there_is_some() {
    let (pool, _) = pool(2, 2);
    let run = take(pool, 2).expect("two extents");
    assert!(matches!(take(pool, 1), Err(Refusal::Tier(_))));
    assert!(pool.counters.is_unavailable());
    pool.give_back(run.start, 2 * UNITS_PER_EXTENT, clock::now_ms());
    assert_eq!(pool.purge(u32::MAX, u32::MAX), 2 << EXTENT_SHIFT);
    assert_eq!(committed(pool), 0);
    assert!(!pool.counters.is_unavailable(), "what was given back can be had again");
    take(pool, 1).expect("room again");
}

#[test]
fn a_limit_is_never_passed() {
    let (pool, provider) = pool(100, 100);
    pool.counters.limit.store(5 << EXTENT_SHIFT, Ordering::Relaxed);
    assert!(matches!(take(pool, 6), Err(Refusal::Limit)));
    for _ in 0..5 {
        take(pool, 1).expect("below the limit");
    }
    assert!(matches!(take(pool, 1), Err(Refusal::Limit)));
    assert_eq!((committed(pool), provider.free.load(Ordering::Relaxed)), (5, 95));
    assert!(!pool.counters.is_unavailable(), "a limit is not a failure");
}

/// The rest of the last extent of a large block that was taken from used memory passed for clean.
#[test]
fn what_a_large_block_leaves_over_stays_dirty() {
    let (pool, _) = pool(4, 4);
    let run = take(pool, 2).expect("two extents");
    pool.give_back(run.start, 2 * UNITS_PER_EXTENT, clock::now_ms());
    let again =
        pool.take(UNITS_PER_EXTENT + 5, UNIT_SIZE, false, Fit::Tight, Provenance::Large).expect("the same again");
    assert_eq!((again.start, again.zeroed), (run.start, false));
    assert_eq!(pool.lists.lock().dirty_units(), UNITS_PER_EXTENT - 5);
    assert!(!pool.take(4, UNIT_SIZE, false, Fit::Tight, Provenance::Large).expect("of the rest").zeroed);
}

/// The purger stayed awake for good beside a tier that takes back whole extents only, while one was partly free.
#[test]
fn what_a_tier_would_not_take_back_keeps_nobody_awake() {
    let (pool, _) = pool(4, 4);
    let run = take(pool, 1).expect("an extent");
    pool.give_back(run.start, 5, clock::now_ms());
    assert_eq!(pool.returnable_bytes(), 0, "a part of an extent");
    pool.give_back(run.start + 5 * UNIT_SIZE, UNITS_PER_EXTENT - 5, clock::now_ms());
    assert_eq!(pool.returnable_bytes(), 1 << EXTENT_SHIFT);
}
