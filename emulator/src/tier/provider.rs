//! One tier of an emulated machine.

use tiermem_tiers::provider::{self, OpenError};
use tiermem_tiers::{Access, Addressable, Bytes, Error, Extent, Health, Provenance, Provider, Tier, TierId, Usage};

use super::TierRecord;

/// A tier of an emulated machine, opened: a provider like those of hardware, with the figures of its profile, marked as
/// [`Emulated`](tiermem_tiers::Source::Emulated). Functional: no time passes.
pub struct EmulatedTier {
    inner: Box<dyn Provider>,
    record: TierRecord,
    notice: String,
}

impl EmulatedTier {
    /// Opens the tier that `record` describes, as number `id` of this process.
    ///
    /// # Errors
    /// As [`provider::open`].
    pub fn open(record: &TierRecord, id: TierId) -> Result<Self, OpenError> {
        let inner = provider::open(&record.spec(), id)?;
        let notice = format!("emulated ({}): its figures are its profile's, not those of this memory", record.profile);
        Ok(Self { inner, record: record.clone(), notice })
    }

    /// What it stands for.
    pub const fn record(&self) -> &TierRecord {
        &self.record
    }
}

impl std::fmt::Debug for EmulatedTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmulatedTier").field("record", &self.record).finish_non_exhaustive()
    }
}

impl Provider for EmulatedTier {
    fn tier(&self) -> &Tier {
        self.inner.tier()
    }

    fn access(&self) -> Access {
        self.inner.access()
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn reserve(&self, len: Bytes, provenance: Provenance) -> Result<Extent, Error> {
        self.inner.reserve(len, provenance)
    }

    fn release(&self, extent: Extent) -> Result<(), Error> {
        self.inner.release(extent)
    }

    fn read(&self, extent: &Extent, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        self.inner.read(extent, offset, into)
    }

    fn write(&self, extent: &Extent, offset: u64, from: &[u8]) -> Result<(), Error> {
        self.inner.write(extent, offset, from)
    }

    fn quarantine(&self, extent: &Extent, offset: u64) -> Result<(), Error> {
        self.inner.quarantine(extent, offset)
    }

    fn quarantined(&self) -> Bytes {
        self.inner.quarantined()
    }

    fn repair(&self) -> Result<Bytes, Error> {
        self.inner.repair()
    }

    fn slowdown_at(&self, now_ns: u64) -> f64 {
        self.inner.slowdown_at(now_ns)
    }

    fn addressable(&self) -> Option<&dyn Addressable> {
        self.inner.addressable()
    }

    fn notice(&self) -> Option<&str> {
        Some(&self.notice)
    }
}
