//! A tiered memory allocator: fine-grained memory over extents of several tiers.

// UNSAFETY: an allocator hands out raw memory and keeps its free lists in it.
#![expect(unsafe_code, reason = "an allocator hands out raw memory and keeps its free lists in it")]

// The lock-free parts. Only they are built for loom: its atomics cannot stand in statics or in packed structs.
#[cfg(loom)]
#[path = "profile/buckets.rs"]
pub mod buckets;
mod claim;
mod flag;
mod handshake;
pub mod inbox;
mod once;
mod seqlock;

#[cfg(not(loom))]
pub mod api;
#[cfg(not(loom))]
mod arena;
#[cfg(not(loom))]
mod backing;
#[cfg(not(loom))]
mod clock;
#[cfg(feature = "allocator-api2")]
#[cfg(not(loom))]
mod container;
#[cfg(not(loom))]
pub mod control;
#[cfg(not(loom))]
pub mod errno;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod fast;
#[cfg(not(loom))]
mod fork;
#[cfg(not(loom))]
mod geometry;
#[cfg(not(loom))]
mod global;
#[cfg(not(loom))]
mod guard;
#[cfg(not(loom))]
mod harden;
#[cfg(not(loom))]
mod heap;
#[cfg(not(loom))]
mod hints;
#[cfg(not(loom))]
pub mod introspect;
#[cfg(not(loom))]
mod large;
#[cfg(not(loom))]
mod meta;
#[cfg(not(loom))]
mod place;
#[cfg(not(loom))]
mod pool;
#[cfg(not(loom))]
pub mod profile;
#[cfg(not(loom))]
pub mod purge;
#[cfg(not(loom))]
pub mod recorder;
#[cfg(not(loom))]
mod resize;
#[cfg(not(loom))]
pub mod sites;
#[cfg(not(loom))]
mod size_class;
#[cfg(not(loom))]
mod span;
#[cfg(not(loom))]
pub mod startup;
#[cfg(not(loom))]
mod stats;
#[cfg(not(loom))]
mod tiers;

#[cfg(feature = "allocator-api2")]
#[cfg(not(loom))]
pub use container::InTier;
#[cfg(not(loom))]
pub use global::TierMem;
#[cfg(not(loom))]
pub use guard::{read_guarded, write_guarded};
#[cfg(not(loom))]
pub use harden::{Hardening, hardening};
#[cfg(not(loom))]
pub use hints::{pop_hint, push_hint, scope, tier, tier_count, tier_numbered};
#[cfg(not(loom))]
pub use introspect::{ClassStatistics, Statistics, TierStatistics, class_statistics, statistics};
#[cfg(not(loom))]
pub use startup::start;
#[cfg(not(loom))]
pub use tiermem_sys::map::os_page_size;
#[cfg(not(loom))]
pub use tiermem_sys::process::{exit_by_kernel, say, write_stream};
#[cfg(not(loom))]
pub use tiermem_tiers::{Error, ErrorKind, TierId, TierKind, TierName};

/// The tier that a block lies in; `None` if it was not allocated here.
#[cfg(not(loom))]
pub fn tier_of<T>(at: *const T) -> Option<TierId> {
    api::tier_of(at.cast()).map(TierId)
}

/// How often a request that `tier` should have served went to another one, because `tier` was full, over its limit or
/// failed. Counted where the policy is asked: when a span is used up, or a block is large.
#[cfg(not(loom))]
pub fn fallbacks(tier: TierId) -> u64 {
    tiers::slot(tier.0).fallbacks.load(tiermem_sys::sync::atomic::Ordering::Relaxed)
}

/// The next definition of a C symbol after the one in this library; null if there is none.
#[cfg(not(loom))]
pub fn next_symbol(name: &std::ffi::CStr) -> *const std::ffi::c_void {
    tiermem_sys::symbol::next(name)
}

#[cfg(not(loom))]
#[doc(hidden)]
pub use tiermem_sys::symbol::NextSymbol;
