//! One tier of an emulated machine.

use tiermem_tiers::provider::{self, OpenError};
use tiermem_tiers::{
    Access, Addressable, Attribute, Bytes, Error, ErrorKind, Extent, Health, Provenance, Provider, Source, Tier,
    TierId, TierSpec, Usage,
};

use super::TierRecord;

/// A tier of an emulated machine, opened: a provider like those of hardware, with the figures of its profile, marked as
/// [`Emulated`](Source::Emulated). Functional: no time passes.
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
        let mut spec: TierSpec = record.bare_spec();
        let emulated = |value| Some(Attribute::new(value, Source::Emulated));
        spec.attributes.read_latency_ns = emulated(record.read_latency_ns);
        spec.attributes.write_latency_ns = emulated(record.write_latency_ns);
        spec.attributes.read_bandwidth = emulated(record.read_bandwidth);
        spec.attributes.write_bandwidth = emulated(record.write_bandwidth);
        let inner = provider::open(&spec, id)?;
        let notice = format!("emulated ({}): its figures are its profile's, not those of this memory", record.profile);
        Ok(Self { inner, record: record.clone(), notice })
    }

    /// What it stands for.
    pub const fn record(&self) -> &TierRecord {
        &self.record
    }

    /// Whether the file is as long as the tier; somebody may have truncated or removed it.
    fn is_whole(&self) -> bool {
        let Some(path) = self.record.file() else { return true };
        std::fs::metadata(path).is_ok_and(|file| file.len() >= self.record.size_bytes)
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

    /// `Failed` also once the file was truncated or removed.
    fn health(&self) -> Health {
        if self.is_whole() { self.inner.health() } else { Health::Failed }
    }

    /// As the provider behind it; `Gone` once the file was truncated or removed.
    fn reserve(&self, len: Bytes, provenance: Provenance) -> Result<Extent, Error> {
        if !self.is_whole() {
            return Err(Error::new(ErrorKind::Gone).of_tier(self.tier().name));
        }
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

    fn addressable(&self) -> Option<&dyn Addressable> {
        self.inner.addressable()
    }

    fn notice(&self) -> Option<&str> {
        Some(&self.notice)
    }
}
