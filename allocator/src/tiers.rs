//! The tiers of this process: a pool each, by number. Tier 0 is DRAM and works from the first call on; the others
//! appear when the process is configured.

use std::cell::UnsafeCell;

use tiermem_sys::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tiermem_tiers::{Addressable, TierId, TierKind, TierName};

use crate::pool::Pool;

/// Most tiers in one process.
pub const TIERS_MAX: usize = TierId::COUNT_MAX;

/// One tier.
pub struct Slot {
    /// Its extents.
    pub pool: Pool,
    /// Slow-path requests that this tier should have served and another one did.
    pub fallbacks: AtomicU64,
    identity: UnsafeCell<(TierName, TierKind)>,
}

// SAFETY: `identity` is written by `add` before `COUNT` is raised over the slot (Release) and read only below `COUNT`
// (Acquire); slot 0 is never written.
unsafe impl Sync for Slot {}

static SLOTS: [Slot; TIERS_MAX] = {
    let mut slots = [const { Slot::new(0) }; TIERS_MAX];
    let mut i = 0;
    while i < TIERS_MAX {
        slots[i] = Slot::new(i as u8);
        i += 1;
    }
    slots
};

/// What every slot is called until it is given a tier; right for slot 0.
const DRAM: TierName = match TierName::new("dram") {
    Some(name) => name,
    None => panic!("a valid name"),
};

static COUNT: AtomicUsize = AtomicUsize::new(1);

impl Slot {
    const fn new(id: u8) -> Self {
        Self {
            pool: Pool::new(TierId(id)),
            fallbacks: AtomicU64::new(0),
            identity: UnsafeCell::new((DRAM, TierKind::Dram)),
        }
    }

    /// Its name and kind.
    pub fn identity(&self) -> (TierName, TierKind) {
        // SAFETY: see the type: reachable only after it was written for the last time.
        unsafe { *self.identity.get() }
    }
}

/// Number of tiers.
pub fn count() -> usize {
    // Acquire pairs with the Release in `add`.
    COUNT.load(Ordering::Acquire)
}

/// The tiers.
pub fn all() -> &'static [Slot] {
    &SLOTS[..count()]
}

/// The pool of a tier.
#[inline]
pub fn pool(tier: u8) -> &'static Pool {
    &SLOTS[usize::from(tier) % TIERS_MAX].pool
}

/// The tier's record.
pub fn slot(tier: u8) -> &'static Slot {
    &SLOTS[usize::from(tier) % TIERS_MAX]
}

/// The tier of this name.
pub fn find(name: &str) -> Option<TierId> {
    all().iter().position(|slot| slot.identity().0.as_str() == name).map(|i| TierId(i as u8))
}

/// Adds a tier, or (tier 0) replaces DRAM's anonymous memory.
///
/// # Safety
/// One thread configures the process, once, in the order of the tiers' numbers.
pub unsafe fn add(id: TierId, name: TierName, kind: TierKind, provider: Option<&'static dyn Addressable>) {
    let slot = slot(id.0);
    // Slot 0 is called what it is from the start, and may be read already.
    if id.index() > 0 {
        // SAFETY: passed on to the caller: nobody reads the slot yet, because `COUNT` does not cover it.
        unsafe { *slot.identity.get() = (name, kind) };
    }
    if let Some(provider) = provider {
        // SAFETY: passed on to the caller.
        unsafe { slot.pool.backing().set(provider) };
    }
    // Release pairs with the Acquire in `count`.
    COUNT.fetch_max(id.index() + 1, Ordering::Release);
}
