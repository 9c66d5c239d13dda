//! A tiered memory allocator: fine-grained memory over extents of several tiers.

// UNSAFETY: an allocator hands out raw memory and keeps its free lists in it.
#![expect(unsafe_code, reason = "an allocator hands out raw memory and keeps its free lists in it")]

pub mod inbox;

pub mod api;
mod arena;
mod backing;
mod clock;
#[cfg(feature = "allocator-api2")]
mod container;
pub mod control;
pub mod errno;
mod fork;
mod geometry;
mod global;
mod heap;
mod hints;
mod large;
mod meta;
mod place;
mod pool;
pub mod purge;
pub mod sites;
mod size_class;
mod span;
pub mod startup;
mod stats;
mod tiers;

#[cfg(feature = "allocator-api2")]
pub use container::InTier;
pub use global::TierMem;
pub use hints::{pop_hint, push_hint, scope, tier, tier_count, tier_numbered};
pub use startup::start;
pub use tiermem_sys::map::os_page_size;
pub use tiermem_tiers::TierId;

/// The tier that a block lies in; `None` if it was not allocated here.
pub fn tier_of<T>(at: *const T) -> Option<TierId> {
    api::tier_of(at.cast()).map(TierId)
}

/// The next definition of a C symbol after the one in this library; null if there is none.
pub fn next_symbol(name: &std::ffi::CStr) -> *const std::ffi::c_void {
    tiermem_sys::symbol::next(name)
}
