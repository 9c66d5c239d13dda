//! One tier of an emulated machine.

use std::sync::Arc;

use tiermem_tiers::provider::fault::kept::Kept;
use tiermem_tiers::provider::fault::{Clock, Faulty, Script};
use tiermem_tiers::provider::{self, OpenError};
use tiermem_tiers::{Access, Addressable, Bytes, Error, Extent, Health, Provenance, Provider, Tier, TierId, Usage};

use super::TierRecord;
use super::faults::refused;
use super::machine::CreateError;
use super::watcher::Watcher;

/// A tier of an emulated machine, opened: a provider like those of hardware, with the figures of its profile, marked as
/// [`Emulated`](tiermem_tiers::Source::Emulated). Functional: no time passes.
pub struct EmulatedTier {
    /// In front of the tier: it has to end before the tier does.
    watcher: Option<Watcher>,
    inner: Arc<dyn Provider>,
    record: TierRecord,
    notice: String,
}

impl EmulatedTier {
    /// Opens the tier that `record` describes, as number `id` of this process, sound: the faults of its machine are what
    /// [`Machine::open`](super::Machine::open) adds.
    ///
    /// # Errors
    /// As [`provider::open`].
    pub fn open(record: &TierRecord, id: TierId) -> Result<Self, OpenError> {
        Ok(Self::new(provider::open(&record.spec(), id)?.into(), record, None))
    }

    pub(super) fn open_with_faults(
        record: &TierRecord,
        id: TierId,
        kept: Option<Kept>,
        clock: Clock,
    ) -> Result<Self, CreateError> {
        let sound = provider::open(&record.spec(), id).map_err(CreateError::Tier)?;
        let is_watched = matches!(clock, Clock::Wall);
        let faulty = Faulty::with_kept(sound, &Script::default(), kept, clock);
        let faulty = Arc::new(faulty.map_err(|error| refused(record, &error))?);
        faulty.poll();
        let watcher = is_watched.then(|| Watcher::start(Arc::clone(&faulty))).flatten();
        Ok(Self::new(faulty, record, watcher))
    }

    fn new(inner: Arc<dyn Provider>, record: &TierRecord, watcher: Option<Watcher>) -> Self {
        let notice = format!("emulated ({}): its figures are its profile's, not those of this memory", record.profile);
        Self { watcher, inner, record: record.clone(), notice }
    }

    /// What it stands for.
    pub const fn record(&self) -> &TierRecord {
        &self.record
    }
}

impl std::fmt::Debug for EmulatedTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmulatedTier")
            .field("record", &self.record)
            .field("is_watched", &self.watcher.is_some())
            .finish_non_exhaustive()
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

    fn quarantine_place(&self, offset: u64) -> Result<(), Error> {
        self.inner.quarantine_place(offset)
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
