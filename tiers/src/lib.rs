//! What memory there is.
//!
//! A [`Tier`] is one kind of memory in one place, with [`Attribute`]s that say where each figure comes from. A
//! [`Provider`] hands out [`Extent`]s of a tier: coarse, 2 MiB-granular pieces in which an allocator keeps its own
//! fine-grained blocks.
//!
//! Finding the tiers of a machine is the task of `tiermem-discovery`, kept apart so that a program that merely links
//! the allocator does not link hwloc.

pub mod attribute;
pub mod error;
pub mod extent;
// UNSAFETY: providers map memory at addresses that their callers own, and copy to and from it.
#[expect(unsafe_code, reason = "providers map and copy raw memory")]
pub mod provider;
pub mod spec;
pub mod tier;
pub mod units;

pub use attribute::{Attribute, Source};
pub use error::{Error, ErrorKind};
pub use extent::{Extent, GRANULE, Provenance};
pub use provider::{Access, Addressable, ForkPlan, Provider, Usage};
pub use spec::{SpecError, TierSpec};
pub use tier::{Attributes, Health, Tier, TierId, TierKind, TierName};
pub use units::Bytes;
