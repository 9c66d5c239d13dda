//! The provider proper: names, accounts for and guards the allocations of a [`Backend`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tiermem_sys::sync::atomic::{AtomicBool, Ordering};

use crate::provider::check;
use crate::provider::device::allocation::Allocation;
use crate::{Access, Bytes, Error, ErrorKind, Extent, Health, Provenance, Provider, Tier, Usage};

/// Preferred transfer unit. Assumed, not measured on hardware: a copy over PCIe has a start-up cost of some
/// microseconds, which smaller pieces do not earn back.
const UNIT: Bytes = Bytes::kib(64);

/// For an extent that was released, or never came from here.
const NOT_RESERVED: Error = Error::new(ErrorKind::Unsuitable { reason: "the extent is not reserved on this device" });

/// One device, as its runtime sees it. All methods may be called from any thread.
pub(super) trait Backend: Send + Sync {
    /// One allocation on the device. Dropping it leaks it: only the back end can give it back.
    type Memory: Send + Sync;

    /// What its user should know of how it works today.
    fn notice(&self) -> Option<&'static str> {
        None
    }

    /// Bytes in use on the whole device by all processes, where the runtime tells.
    fn occupied(&self) -> Option<Bytes>;

    /// Allocates `len` bytes that read as zeroes and are really there.
    ///
    /// # Errors
    /// `Full`, `Gone`, or as the runtime says.
    fn allocate(&self, len: usize) -> Result<Self::Memory, Error>;

    /// Gives an allocation back.
    ///
    /// # Errors
    /// `Gone`, or as the runtime says.
    fn free(&self, memory: Self::Memory) -> Result<(), Error>;

    /// Copies from the device to the host; returns when the bytes are there.
    ///
    /// # Errors
    /// `Gone`, or as the runtime says.
    ///
    /// # Safety
    /// `offset + into.len()` is at most the length of `memory`, which is this back end's, and no copy in to any of these
    /// bytes runs at the same time.
    unsafe fn copy_out(&self, memory: &Self::Memory, offset: usize, into: &mut [u8]) -> Result<(), Error>;

    /// Copies from the host to the device; when it returns, `from` may change and later copies see the bytes.
    ///
    /// # Errors
    /// `Gone`, or as the runtime says.
    ///
    /// # Safety
    /// As [`Backend::copy_out`], and no copy out either.
    unsafe fn copy_in(&self, memory: &Self::Memory, offset: usize, from: &[u8]) -> Result<(), Error>;
}

/// A back end's memory as a tier.
pub(super) struct DeviceProvider<B: Backend> {
    tier: Tier,
    capacity: Bytes,
    /// Whether the tier is only a part of the device, because its `SPEC` gives a size.
    is_part: bool,
    notice: Option<&'static str>,
    /// The process that opened the device. Runtimes do not survive a fork (their threads and mappings stay with the
    /// parent), so in a child nothing may reach them.
    owner: u32,
    failed: AtomicBool,
    allocations: Mutex<Allocations<B::Memory>>,
    backend: ManuallyDrop<B>,
}

/// Invariant: `reserved` is the sum of the lengths in `live` and `retired`, plus those of calls of `reserve` that are under way.
struct Allocations<M> {
    /// Offset of the next extent. It only grows, so no name is ever used twice.
    next: u64,
    reserved: u64,
    live: HashMap<u64, Arc<Allocation<M>>>,
    /// Released after it was set aside: the device does not get it back, so nobody else does.
    retired: Vec<Arc<Allocation<M>>>,
}

/// An allocation and a byte within it, or its end.
type Place<M> = (Arc<Allocation<M>>, usize);

impl<B: Backend> DeviceProvider<B> {
    pub(super) fn new(backend: B, tier: Tier, capacity: Bytes, is_part: bool, notice: Option<&'static str>) -> Self {
        Self {
            tier,
            capacity,
            is_part,
            notice,
            owner: std::process::id(),
            failed: AtomicBool::new(false),
            allocations: Mutex::new(Allocations { next: 0, reserved: 0, live: HashMap::new(), retired: Vec::new() }),
            backend: ManuallyDrop::new(backend),
        }
    }

    fn is_owner(&self) -> bool {
        self.owner == std::process::id()
    }

    fn has_failed(&self) -> bool {
        // Relaxed: the flag guards no other data.
        self.failed.load(Ordering::Relaxed)
    }

    /// Refuses all work in a forked child and on a failed device.
    fn check_alive(&self) -> Result<(), Error> {
        if self.has_failed() || !self.is_owner() {
            return Err(Error::new(ErrorKind::Gone));
        }
        Ok(())
    }

    /// Remembers that the device is gone, and adds the tier to an error.
    fn note<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| {
            if error.kind() == ErrorKind::Gone && self.is_owner() {
                self.failed.store(true, Ordering::Relaxed);
            }
            error.of_tier(self.tier.name)
        })
    }

    /// No code that can panic runs under the lock, so a poisoned one still guards sound data.
    fn allocations(&self) -> MutexGuard<'_, Allocations<B::Memory>> {
        self.allocations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allocate(&self, len: Bytes, provenance: Provenance) -> Result<Extent, Error> {
        check::request(&self.tier, len)?;
        self.check_alive()?;
        let full = Error::new(ErrorKind::Full { wanted: len });
        let size = usize::try_from(len.0).map_err(|_| full)?;
        // The room is claimed first and the runtime called without the lock: allocating can take milliseconds.
        let offset = {
            let mut allocations = self.allocations();
            if self.capacity.0.saturating_sub(allocations.reserved) < len.0 {
                return Err(full);
            }
            let offset = allocations.next;
            allocations.next = offset.checked_add(len.0).ok_or(full)?;
            allocations.reserved += len.0;
            offset
        };
        let memory = self.backend.allocate(size);
        let mut allocations = self.allocations();
        match memory {
            Ok(memory) => {
                allocations.live.insert(offset, Arc::new(Allocation::new(len, memory)));
                Ok(Extent::from_parts(self.tier.id, offset, len, None, provenance))
            }
            Err(error) => {
                allocations.reserved -= len.0;
                Err(error)
            }
        }
    }

    /// The allocation behind an extent, for a copy of `len` bytes from byte `offset` of it; also says where in the
    /// allocation that starts. Refuses extents that are not reserved here and ranges that are not within them.
    fn find(&self, extent: &Extent, offset: u64, len: usize) -> Result<Place<B::Memory>, Error> {
        check::range(&self.tier, extent, offset, len)?;
        self.check_alive()?;
        let found = self.allocations().live.get(&extent.offset()).cloned();
        let allocation = found.filter(|allocation| allocation.len == extent.len()).ok_or(NOT_RESERVED)?;
        let start = usize::try_from(offset).map_err(|_| Error::new(ErrorKind::OutOfRange))?;
        Ok((allocation, start))
    }

    fn copy_out(&self, extent: &Extent, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let (allocation, start) = self.find(extent, offset, into.len())?;
        let copied = allocation.reading(start, into.len(), |memory| {
            if into.is_empty() {
                return Ok(());
            }
            // SAFETY: `find` keeps the range within the allocation, which this back end made, and nobody writes it now.
            unsafe { self.backend.copy_out(memory, start, into) }
        });
        copied.unwrap_or(Err(NOT_RESERVED))
    }

    fn copy_in(&self, extent: &Extent, offset: u64, from: &[u8]) -> Result<(), Error> {
        let (allocation, start) = self.find(extent, offset, from.len())?;
        let copied = allocation.writing(start, from.len(), |memory| {
            if from.is_empty() {
                return Ok(());
            }
            // SAFETY: `find` keeps the range within the allocation, which this back end made, and nobody else copies it now.
            unsafe { self.backend.copy_in(memory, start, from) }
        });
        copied.unwrap_or(Err(NOT_RESERVED))
    }

    /// Works on a failed device too: a runtime that still answers gets its memory back.
    fn free(&self, extent: &Extent) -> Result<(), Error> {
        check::own(&self.tier, extent)?;
        if !self.is_owner() {
            return Err(Error::new(ErrorKind::Gone));
        }
        let allocation = match self.allocations().live.entry(extent.offset()) {
            Entry::Occupied(entry) if entry.get().len == extent.len() => entry.remove(),
            _ => return Err(NOT_RESERVED),
        };
        if allocation.is_set_aside() {
            self.allocations().retired.push(allocation);
            return Ok(());
        }
        let memory = allocation.take();
        let result = memory.map_or(Ok(()), |memory| self.backend.free(memory));
        // Space that could not be given back stays counted: it is lost, not free.
        if result.is_ok() {
            self.allocations().reserved -= allocation.len.0;
        }
        result
    }
}

impl<B: Backend> Provider for DeviceProvider<B> {
    fn tier(&self) -> &Tier {
        &self.tier
    }

    fn access(&self) -> Access {
        Access::Copy { unit: UNIT }
    }

    /// A tier that is a whole device reports what all processes use of it, as its runtime tells; one that is a part
    /// of a device reports its own extents.
    fn usage(&self) -> Usage {
        let own = self.allocations().reserved;
        let all = match self.is_part || self.check_alive().is_err() {
            true => None,
            false => self.backend.occupied(),
        };
        Usage { capacity: self.capacity, reserved: Bytes(all.map_or(own, |all| all.0.clamp(own, self.capacity.0))) }
    }

    fn health(&self) -> Health {
        match self.quarantined() {
            _ if self.has_failed() || !self.is_owner() => Health::Failed,
            Bytes::ZERO => Health::Good,
            _ => Health::Degraded,
        }
    }

    fn reserve(&self, len: Bytes, provenance: Provenance) -> Result<Extent, Error> {
        self.note(self.allocate(len, provenance))
    }

    fn release(&self, extent: Extent) -> Result<(), Error> {
        self.note(self.free(&extent))
    }

    fn read(&self, extent: &Extent, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        self.note(self.copy_out(extent, offset, into))
    }

    fn write(&self, extent: &Extent, offset: u64, from: &[u8]) -> Result<(), Error> {
        self.note(self.copy_in(extent, offset, from))
    }

    fn notice(&self) -> Option<&str> {
        self.backend.notice().or(self.notice)
    }

    fn quarantine(&self, extent: &Extent, offset: u64) -> Result<(), Error> {
        let (allocation, _) = self.find(extent, offset, 1).map_err(|error| error.of_tier(self.tier.name))?;
        allocation.set_aside();
        Ok(())
    }

    /// Whole extents: a device does not tell where they lie.
    fn quarantined(&self) -> Bytes {
        let allocations = self.allocations();
        let all = allocations.live.values().chain(&allocations.retired);
        Bytes(all.filter(|allocation| allocation.is_set_aside()).map(|allocation| allocation.len.0).sum())
    }

    fn repair(&self) -> Result<Bytes, Error> {
        self.note(self.check_alive())?;
        let retired = std::mem::take(&mut self.allocations().retired);
        let mut repaired = Bytes::ZERO;
        for allocation in retired {
            let memory = allocation.take();
            self.note(memory.map_or(Ok(()), |memory| self.backend.free(memory)))?;
            self.allocations().reserved -= allocation.len.0;
            repaired.0 += allocation.len.0;
        }
        Ok(repaired)
    }
}

impl<B: Backend> Drop for DeviceProvider<B> {
    fn drop(&mut self) {
        if !self.is_owner() {
            // A child of fork must not call the runtime; all of it belongs to the parent.
            return;
        }
        let (live, retired) = {
            let mut allocations = self.allocations();
            (std::mem::take(&mut allocations.live), std::mem::take(&mut allocations.retired))
        };
        for allocation in live.into_values().chain(retired) {
            let memory = allocation.take();
            // There is nobody to tell that the runtime would not take it back; closing the device frees it anyway.
            let _ = memory.map(|memory| self.backend.free(memory));
        }
        // SAFETY: this is the only drop of the field, and nothing uses it afterwards.
        unsafe { ManuallyDrop::drop(&mut self.backend) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::device::emulated::Emulated;
    use crate::{Attributes, GRANULE, TierId, TierKind, TierName};

    fn provider(capacity: Bytes) -> DeviceProvider<Emulated> {
        let name = TierName::new("gpu").unwrap();
        let tier = Tier { id: TierId(3), name, kind: TierKind::Device, attributes: Attributes::default() };
        DeviceProvider::new(Emulated, tier, capacity, true, None)
    }

    #[test]
    fn names_are_never_reused() {
        let provider = provider(GRANULE);
        let first = provider.reserve(GRANULE, Provenance::Tool).unwrap();
        let stale = Extent::from_parts(TierId(3), first.offset(), GRANULE, None, Provenance::Tool);
        provider.release(first).unwrap();
        let second = provider.reserve(GRANULE, Provenance::Tool).unwrap();
        assert_ne!(second.offset(), stale.offset());
        assert_eq!(provider.read(&stale, 0, &mut [0; 8]).unwrap_err().kind(), NOT_RESERVED.kind());
        assert_eq!(provider.release(stale).unwrap_err().kind(), NOT_RESERVED.kind());
        provider.release(second).unwrap();
        assert_eq!(provider.usage().reserved, Bytes::ZERO);
    }

    #[test]
    fn an_extent_of_another_tier_or_length_is_refused() {
        let provider = provider(Bytes::mib(8));
        let extent = provider.reserve(Bytes::mib(4), Provenance::Tool).unwrap();
        for (tier, len) in [(TierId(2), Bytes::mib(4)), (TierId(3), Bytes::mib(6)), (TierId(3), GRANULE)] {
            let forged = Extent::from_parts(tier, extent.offset(), len, None, Provenance::Tool);
            let errors = [provider.write(&forged, 0, &[1]).unwrap_err(), provider.release(forged).unwrap_err()];
            assert!(errors.iter().all(|e| matches!(e.kind(), ErrorKind::Unsuitable { .. })), "{errors:?}");
        }
        provider.release(extent).unwrap();
    }

    #[test]
    fn another_process_than_the_opener_is_told_that_the_device_is_gone() {
        let mut provider = provider(Bytes::mib(4));
        let extent = provider.reserve(GRANULE, Provenance::Tool).unwrap();
        let opener = std::mem::replace(&mut provider.owner, 1);
        assert_eq!(provider.health(), Health::Failed);
        assert_eq!(provider.reserve(GRANULE, Provenance::Tool).unwrap_err().kind(), ErrorKind::Gone);
        assert_eq!(provider.read(&extent, 0, &mut [0]).unwrap_err().kind(), ErrorKind::Gone);
        provider.owner = opener;
        assert_eq!(provider.health(), Health::Good, "the child's failures are not the parent's");
        provider.release(extent).unwrap();
    }
}
