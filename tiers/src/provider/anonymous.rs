//! Anonymous memory: host DRAM ([`Anonymous::dram`]) and CPU-less NUMA nodes ([`Anonymous::cxl_node`]).
//!
//! Such memory belongs to this process alone: there is no table to share, extents have serial numbers rather than
//! places, and the kernel copies on write after a fork.

use std::ptr::NonNull;

use tiermem_sys::map::{self, Placement};
use tiermem_sys::mempolicy::{self, Nodes, Policy};
use tiermem_sys::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{Access, Addressable, ForkPlan, Provider, Usage, check, node};
use crate::{Attribute, Bytes, Error, ErrorKind, Extent, GRANULE, Health, Provenance, Source, Tier};

/// Provider of anonymous memory.
#[derive(Debug)]
pub struct Anonymous {
    tier: Tier,
    capacity: Bytes,
    binding: Binding,
    /// Bytes that this process has reserved.
    reserved: AtomicU64,
    /// Extents handed out so far.
    serial: AtomicU64,
    /// How often somebody met poison.
    quarantine_events: AtomicU32,
}

/// Where the OS pages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// The process's own policy: there is only one node, or none was asked for.
    Anywhere,
    /// This node first; its neighbours rather than death when it is full.
    Preferred(u32),
    /// This node only, made present at once, because a bound OS page that cannot be found later kills the process.
    Only(u32),
}

/// Low bit of an extent's serial number: the address range was the provider's choice.
const OWN_RANGE: u64 = 1;

impl Anonymous {
    /// Builds the provider; `total` is what the node or machine has, unless the tier's capacity is configured.
    pub(super) fn new(mut tier: Tier, total: Bytes, binding: Binding) -> Self {
        let capacity = *tier.attributes.capacity.get_or_insert(Attribute::new(total, Source::Kernel));
        let capacity = Bytes(capacity.value.0 / GRANULE.0 * GRANULE.0);
        let (reserved, serial) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { tier, capacity, binding, reserved, serial, quarantine_events: AtomicU32::new(0) }
    }

    fn promise(&self, len: Bytes) -> Result<(), Error> {
        let room = |reserved: u64| reserved.checked_add(len.0).filter(|&sum| sum <= self.capacity.0);
        // Relaxed: a count; no memory is passed through it.
        match self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room) {
            Ok(_) => Ok(()),
            Err(_) => Err(check::error(&self.tier, ErrorKind::Full { wanted: len })),
        }
    }

    fn note(&self, outcome: Result<(), Error>) -> Result<(), Error> {
        if outcome.is_err_and(|error| matches!(error.kind(), ErrorKind::Poisoned { .. })) {
            self.quarantine_events.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    fn take_back_promise(&self, len: Bytes) {
        // Relaxed: as in `promise`.
        self.reserved.fetch_sub(len.0, Ordering::Relaxed);
    }

    /// Puts a fresh mapping under the tier's policy.
    fn place(&self, at: NonNull<u8>, len: Bytes) -> Result<(), Error> {
        let call = |call, errno| check::system(&self.tier, call, errno, len);
        match self.binding {
            Binding::Anywhere => Ok(()),
            Binding::Preferred(node) => {
                mempolicy::bind(at, len.0 as usize, Policy::Preferred(node), false).map_err(|e| call("mbind", e))
            }
            Binding::Only(node) => {
                let full = || check::error(&self.tier, ErrorKind::Full { wanted: len });
                if node::free(node).is_some_and(|free| free < Bytes(len.0 + node::HEADROOM.0)) {
                    return Err(full());
                }
                let nodes = Nodes::one(node).ok_or_else(full)?;
                mempolicy::bind(at, len.0 as usize, Policy::Bind(nodes), false).map_err(|e| call("mbind", e))?;
                // SAFETY: a fresh mapping of our own, in which populating changes no contents.
                unsafe { map::advise(at, len.0 as usize, map::Advice::PopulateWrite) }
                    .map_err(|e| call("madvise(MADV_POPULATE_WRITE)", e))
            }
        }
    }

    fn extent(&self, at: NonNull<u8>, len: Bytes, provenance: Provenance) -> Extent {
        // Relaxed: only needs to be unique.
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        Extent::from_parts(self.tier.id, serial << 1, len, Some(at), provenance)
    }
}

impl Provider for Anonymous {
    fn tier(&self) -> &Tier {
        &self.tier
    }

    fn access(&self) -> Access {
        Access::Load
    }

    fn usage(&self) -> Usage {
        Usage { capacity: self.capacity, reserved: Bytes(self.reserved.load(Ordering::Relaxed)) }
    }

    fn health(&self) -> Health {
        if self.quarantine_events() == 0 { Health::Good } else { Health::Degraded }
    }

    fn reserve(&self, len: Bytes, provenance: Provenance) -> Result<Extent, Error> {
        check::request(&self.tier, len)?;
        let at = map::reserve(len.0 as usize, GRANULE.0 as usize)
            .map_err(|errno| check::system(&self.tier, "mmap", errno, len))?;
        // SAFETY: the range was reserved for this call just now.
        match unsafe { self.reserve_at(at, len, false, provenance) } {
            Ok(extent) => {
                let serial = extent.offset() | OWN_RANGE;
                Ok(Extent::from_parts(self.tier.id, serial, len, Some(at), provenance))
            }
            Err(error) => {
                // SAFETY: our own reservation, which nothing refers to.
                let _ = unsafe { map::unmap(at, len.0 as usize) };
                Err(error)
            }
        }
    }

    fn release(&self, extent: Extent) -> Result<(), Error> {
        check::own(&self.tier, &extent)?;
        let Some(at) = extent.address() else { return Err(check::error(&self.tier, ErrorKind::Gone)) };
        let len = extent.len().0 as usize;
        let done = if extent.offset() & OWN_RANGE != 0 {
            // SAFETY: the extent's holder gives the range up, and `reserve` had chosen it.
            unsafe { map::unmap(at, len) }
        } else {
            // SAFETY: the extent's holder gives up what is in its range.
            unsafe { map::decommit(at, len) }
        };
        done.map_err(|errno| check::system(&self.tier, "mmap", errno, extent.len()))?;
        self.take_back_promise(extent.len());
        Ok(())
    }

    fn read(&self, extent: &Extent, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        self.note(check::read_mapped(&self.tier, extent, offset, into))
    }

    fn write(&self, extent: &Extent, offset: u64, from: &[u8]) -> Result<(), Error> {
        self.note(check::write_mapped(&self.tier, extent, offset, from))
    }

    /// The kernel keeps a poisoned OS page from being used again once it is unmapped.
    fn quarantine(&self, extent: &Extent, offset: u64) -> Result<(), Error> {
        check::range(&self.tier, extent, offset, 1)?;
        // Relaxed: says only "look again".
        self.quarantine_events.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn addressable(&self) -> Option<&dyn Addressable> {
        Some(self)
    }
}

impl Addressable for Anonymous {
    unsafe fn reserve_at(
        &self,
        at: NonNull<u8>,
        len: Bytes,
        exclusive: bool,
        provenance: Provenance,
    ) -> Result<Extent, Error> {
        check::request(&self.tier, len)?;
        self.promise(len)?;
        let placement = if exclusive { Placement::Exclusive } else { Placement::Replace };
        // SAFETY: the caller vouches for the range.
        let mapped = unsafe { map::anonymous_at(at, len.0 as usize, placement) };
        if let Err(errno) = mapped {
            self.take_back_promise(len);
            return Err(check::system(&self.tier, "mmap", errno, len));
        }
        if let Err(error) = self.place(at, len) {
            // SAFETY: the mapping was made just now and nothing refers to it.
            let _ = unsafe { map::decommit(at, len.0 as usize) };
            self.take_back_promise(len);
            return Err(error);
        }
        Ok(self.extent(at, len, provenance))
    }

    fn can_purge(&self) -> bool {
        true
    }

    fn fork_plan(&self) -> ForkPlan {
        ForkPlan::Inherent
    }

    fn quarantine_events(&self) -> u32 {
        self.quarantine_events.load(Ordering::Relaxed)
    }
}
