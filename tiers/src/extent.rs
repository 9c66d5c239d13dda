//! Extents: what a provider hands out.

use std::ptr::NonNull;

use crate::{Bytes, TierId};

/// Extents start at, and are whole multiples of, this size: the huge page of x86-64 and AArch64 with 4 KiB OS pages.
pub const GRANULE: Bytes = Bytes::mib(2);

/// Why an extent exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
#[non_exhaustive]
pub enum Provenance {
    /// Nobody said.
    #[default]
    Unknown = 0,
    /// A heap grew: spans of small and medium blocks.
    Spans = 1,
    /// One large block.
    Large = 2,
    /// A tool asked (probe, conformance test).
    Tool = 3,
}

/// A piece of a tier, reserved for its holder from [`Provider::reserve`](crate::Provider::reserve) until
/// [`Provider::release`](crate::Provider::release). It is named by (tier, offset, length), which stays meaningful to
/// another process or after a restart where the tier does; the address is meaningful here and now only.
///
/// Not `Clone`: whoever holds it owns the space. Dropping it leaks the space until the process ends.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an extent that is dropped leaks its space; give it back with `Provider::release`"]
pub struct Extent {
    tier: TierId,
    offset: u64,
    len: Bytes,
    /// Zero where the tier is not addressable. An integer, so that an extent may change threads.
    address: usize,
    provenance: Provenance,
}

impl Extent {
    /// Names a piece of a tier. For providers, and for holders that keep the parts in a table of their own; everyone
    /// else receives extents from a provider.
    ///
    /// # Panics
    /// If `len` is zero or not a multiple of [`GRANULE`].
    pub fn from_parts(
        tier: TierId,
        offset: u64,
        len: Bytes,
        address: Option<NonNull<u8>>,
        provenance: Provenance,
    ) -> Self {
        assert!(len.0 > 0 && len.0.is_multiple_of(GRANULE.0), "an extent is whole granules");
        let address = address.map_or(0, |at| at.as_ptr().expose_provenance());
        Self { tier, offset, len, address, provenance }
    }

    /// The tier it lies in.
    pub const fn tier(&self) -> TierId {
        self.tier
    }

    /// Where it starts in the tier's own space (file, device), in bytes. For anonymous memory (DRAM and CPU-less
    /// nodes) this is only a serial number: such memory has no place that another process could name.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Its length in bytes, a multiple of [`GRANULE`].
    pub const fn len(&self) -> Bytes {
        self.len
    }

    /// Never true; here because Rust users expect it beside `len`.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Where it is mapped in this process; `None` on tiers that the CPU cannot address.
    pub fn address(&self) -> Option<NonNull<u8>> {
        NonNull::new(std::ptr::with_exposed_provenance_mut(self.address))
    }

    /// Why it exists.
    pub const fn provenance(&self) -> Provenance {
        self.provenance
    }
}
