//! The fixed sizes everything is cut into.
//!
//! ```text
//! arena   | one range of addresses, cut into extents                                     |
//! extent  | 2 MiB: what a provider hands out; lies in one tier                  | …      |
//! unit    | 64 KiB | 64 KiB | …  32 to an extent                                |        |
//! span    | 1 to 16 units of one size class, or one large block over any number of units |
//! block   | what the program gets                                                        |
//! ```

/// Bytes per unit, the grain in which extents are cut into spans. A multiple of every OS page size (4, 16, 64 KiB).
pub const UNIT_SIZE: usize = 1 << UNIT_SHIFT;
/// Binary logarithm of [`UNIT_SIZE`].
pub const UNIT_SHIFT: u32 = 16;

/// Bytes per extent.
pub const EXTENT_SIZE: usize = 1 << EXTENT_SHIFT;
/// Binary logarithm of [`EXTENT_SIZE`].
pub const EXTENT_SHIFT: u32 = 21;

/// Units per extent: the bits of a `u32`.
pub const UNITS_PER_EXTENT: usize = EXTENT_SIZE / UNIT_SIZE;

const _: () = assert!(EXTENT_SIZE as u64 == tiermem_tiers::GRANULE.0);
const _: () = assert!(UNITS_PER_EXTENT == u32::BITS as usize);
const _: () = assert!(UNIT_SIZE.is_multiple_of(4 << 10) && UNIT_SIZE.is_multiple_of(16 << 10));
