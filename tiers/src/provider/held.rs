//! An extent that is held for a while and then given back: what tools that measure or check a tier need.

use std::slice;

use tiermem_sys::map::{self, Advice};
use tiermem_sys::pagemap::{Categories, Pagemap};

use super::Provider;
use crate::{Bytes, Error, ErrorKind, Extent, Provenance};

/// A reserved extent of an addressable tier, seen as words, given back when dropped.
pub struct Held<'p> {
    provider: &'p dyn Provider,
    /// `Some` until dropped.
    extent: Option<Extent>,
}

impl<'p> Held<'p> {
    /// Reserves `len` bytes, a multiple of [`GRANULE`](crate::GRANULE).
    ///
    /// # Errors
    /// As [`Provider::reserve`]; `Unsupported` if the tier is not addressable.
    pub fn reserve(provider: &'p dyn Provider, len: Bytes) -> Result<Self, Error> {
        let extent = provider.reserve(len, Provenance::Tool)?;
        let held = Self { provider, extent: Some(extent) };
        if held.range().is_none() {
            let reason = "the CPU cannot address this tier: read and write it through its provider";
            return Err(Error::new(ErrorKind::Unsupported { reason }).of_tier(provider.tier().name));
        }
        Ok(held)
    }

    fn range(&self) -> Option<(std::ptr::NonNull<u8>, usize)> {
        let extent = self.extent.as_ref()?;
        Some((extent.address()?, usize::try_from(extent.len().0).ok()?))
    }

    /// The memory. Another process that shares the tier's file can break the rules of Rust's references; this is for
    /// tiers that are one's own.
    pub fn words(&mut self) -> &mut [u64] {
        let Some((at, len)) = self.range() else { return &mut [] };
        // SAFETY:
        // 1. the provider's contract: the extent is `len` bytes, mapped readable and writable at `at`, aligned to a
        //    granule, initialised (it reads as zeroes), until it is released, which only `drop` does;
        // 2. the extent was made for this value and nobody else knows it, and `self` is borrowed exclusively;
        // 3. any bytes are valid u64.
        unsafe { slice::from_raw_parts_mut(at.cast().as_ptr(), len / size_of::<u64>()) }
    }

    /// Makes the OS pages present and asks for huge ones where the kernel can give them; returns how many bytes are
    /// in huge pages afterwards, `None` if the kernel does not tell (before Linux 6.7).
    pub fn want_huge_pages(&mut self) -> Option<Bytes> {
        let (at, len) = self.range()?;
        let pagemap = Pagemap::open().ok()?;
        // The advice is a wish; what became of it is counted.
        for advice in [Advice::HugePage, Advice::PopulateWrite, Advice::Collapse] {
            if advice == Advice::Collapse && pagemap.count(at, len, Categories::HUGE) == Ok(len as u64) {
                continue;
            }
            // SAFETY: our own range; none of these changes what is in it.
            let _ = unsafe { map::advise(at, len, advice) };
        }
        pagemap.count(at, len, Categories::HUGE).ok().map(Bytes)
    }
}

impl std::fmt::Debug for Held<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("extent", &self.extent).finish_non_exhaustive()
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(extent) = self.extent.take() {
            // The space is lost until the process ends, as `release` says; there is nobody to tell.
            let _ = self.provider.release(extent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TierId, TierSpec, provider};

    #[test]
    fn what_is_held_reads_as_zeroes_and_comes_back() {
        let spec: TierSpec = "fast=dram,size=8M".parse().unwrap();
        let dram = provider::open(&spec, TierId(0)).unwrap();
        let before = dram.usage().reserved;
        let mut held = Held::reserve(&*dram, Bytes::mib(4)).unwrap();
        assert_eq!(held.words().len(), 4 << 17);
        assert!(held.words().iter().all(|&word| word == 0));
        held.words().fill(7);
        drop(held);
        assert_eq!(dram.usage().reserved, before);
        assert!(Held::reserve(&*dram, Bytes::mib(64)).is_err());
    }
}
