//! What a tier with faults answers.

use std::ptr::NonNull;

use tiermem_sys::sync::atomic::Ordering;

use super::{Faulty, state};
use crate::provider::{Access, Addressable, ForkPlan, Provider, Usage};
use crate::{Bytes, Error, ErrorKind, Extent, GRANULE, Health, Provenance, Tier};

impl Provider for Faulty {
    fn tier(&self) -> &Tier {
        self.inner.tier()
    }

    fn access(&self) -> Access {
        self.inner.access()
    }

    fn usage(&self) -> Usage {
        let usage = self.inner.usage();
        let capacity = self.in_force().capacity.map_or(usage.capacity, |capacity| capacity.min(usage.capacity));
        Usage { capacity, ..usage }
    }

    fn health(&self) -> Health {
        if self.in_force().gone {
            return Health::Failed;
        }
        match self.inner.health() {
            Health::Good if self.state.lock().has_poison() => Health::Degraded,
            health => health,
        }
    }

    fn reserve(&self, len: Bytes, provenance: Provenance) -> Result<Extent, Error> {
        self.reserve_by(len, || self.inner.reserve(len, provenance))
    }

    /// Works on a tier that is gone, too: there is nothing to lose any more.
    fn release(&self, extent: Extent) -> Result<(), Error> {
        self.operate();
        if extent.tier() == self.inner.tier().id {
            self.state.lock().remove(&extent);
        }
        self.inner.release(extent)
    }

    fn read(&self, extent: &Extent, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let sound = self.admit(extent, offset, into.len(), true)?;
        self.inner.read(extent, offset, &mut into[..sound])?;
        if sound < into.len() { Err(self.poisoned(extent, offset + sound as u64)) } else { Ok(()) }
    }

    fn write(&self, extent: &Extent, offset: u64, from: &[u8]) -> Result<(), Error> {
        let sound = self.admit(extent, offset, from.len(), false)?;
        self.inner.write(extent, offset, &from[..sound])?;
        if sound < from.len() { Err(self.poisoned(extent, offset + sound as u64)) } else { Ok(()) }
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
        self.advance_to(now_ns);
        self.slowdown()
    }

    fn addressable(&self) -> Option<&dyn Addressable> {
        self.inner.addressable().map(|_| self as &dyn Addressable)
    }

    fn notice(&self) -> Option<&str> {
        self.inner.notice()
    }
}

impl Addressable for Faulty {
    unsafe fn reserve_at(
        &self,
        at: NonNull<u8>,
        len: Bytes,
        exclusive: bool,
        provenance: Provenance,
    ) -> Result<Extent, Error> {
        let gone = self.error(ErrorKind::Gone);
        self.reserve_by(len, || {
            let tier = self.inner.addressable().ok_or(gone)?;
            // SAFETY: passed on to the caller.
            unsafe { tier.reserve_at(at, len, exclusive, provenance) }
        })
    }

    fn can_purge(&self) -> bool {
        self.inner.addressable().is_some_and(Addressable::can_purge)
    }

    fn fork_plan(&self) -> ForkPlan {
        self.inner.addressable().map_or(ForkPlan::Inherent, Addressable::fork_plan)
    }

    fn prepare_fork(&self) {
        if let Some(tier) = self.inner.addressable() {
            tier.prepare_fork();
        }
        // Another thread may look at the clock while the program forks; in the child nobody would let the lock go.
        self.state.acquire();
        // Relaxed: read by this thread and its copy only.
        self.forking.store(true, Ordering::Relaxed);
    }

    fn before_fork(&self, extent: &Extent) -> Result<(), Error> {
        let Some(tier) = self.inner.addressable() else { return Ok(()) };
        tier.before_fork(extent)?;
        // The tier has mapped the extent anew.
        let own = |key| (0..extent.len().0 / GRANULE.0).any(|index| state::key_of(extent, index) == key);
        self.state.lock().poison_again(&self.hand(), own);
        Ok(())
    }

    fn after_fork(&self, child: bool) {
        // Relaxed: as in `prepare_fork`.
        if self.forking.swap(false, Ordering::Relaxed) {
            // SAFETY: `prepare_fork` took it, in this thread or in the one it was copied from, and no guard is left.
            unsafe { self.state.release() };
        }
        if let Some(tier) = self.inner.addressable() {
            tier.after_fork(child);
        }
    }

    fn quarantine_events(&self) -> u32 {
        let inner = self.inner.addressable().map_or(0, Addressable::quarantine_events);
        // Relaxed: a counter that says only "look again".
        inner.wrapping_add(self.events.load(Ordering::Relaxed))
    }

    fn is_quarantined(&self, extent: &Extent) -> bool {
        self.state.lock().is_bad(extent) || self.inner.addressable().is_some_and(|tier| tier.is_quarantined(extent))
    }
}
