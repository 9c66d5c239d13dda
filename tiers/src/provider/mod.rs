//! The interface every tier's back end implements, and the back ends.
//!
//! `tests/conformance` holds the contract as code; a new provider passes it or is wrong.

mod anonymous;
mod backing_file;
mod blank;
mod check;
mod dax_file;
mod devdax;
#[cfg(feature = "device")]
pub mod device;
mod extent_table;
pub mod fault;
mod held;
mod mapped;
mod node;
mod nvme;
mod open;
mod watch;
mod window;

pub use anonymous::Anonymous;
pub use dax_file::destroy;
pub use held::Held;
pub use open::{Obstacle, OpenError, open};

use std::ptr::NonNull;

use crate::{Bytes, Error, ErrorKind, Extent, Health, Provenance, Tier};

/// How the bytes of a tier can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// The CPU loads and stores: extents have an address.
    Load,
    /// Copies only, through [`Provider::read`] and [`Provider::write`], best in multiples of this many bytes.
    Copy {
        /// Preferred transfer unit.
        unit: Bytes,
    },
}

/// How full a tier is, as this process may use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All of it.
    pub capacity: Bytes,
    /// Reserved, by any process that shares the tier where that is known, else by this one.
    pub reserved: Bytes,
}

/// What a process must do about its extents of a tier when it forks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForkPlan {
    /// Nothing: the kernel copies on write (anonymous memory).
    Inherent,
    /// [`Addressable::before_fork`] turns each extent copy-on-write just before the fork.
    CopyOnWrite,
    /// The child must copy each extent before either side goes on (`/dev/dax` can only be mapped shared).
    CopyInChild,
}

/// The back end of one tier: hands out extents, coarse and few.
///
/// # Contract
/// - `reserve` really reserves: a full tmpfs or disk is an error here, never a SIGBUS later.
/// - A new extent reads as zeroes.
/// - What is written to an extent reads back until it is released.
/// - After `release` the space can be reserved again, and nothing of the old contents can be read through it.
/// - All methods may be called from any thread.
/// - For tiers with [`Access::Load`], no method allocates from the global allocator or holds a lock across a fork:
///   they are called from inside `malloc`. Construction may allocate.
pub trait Provider: Send + Sync {
    /// The tier that is served.
    fn tier(&self) -> &Tier;

    /// How its bytes can be reached.
    fn access(&self) -> Access;

    /// How full it is.
    fn usage(&self) -> Usage;

    /// Whether it can be relied on.
    fn health(&self) -> Health;

    /// Reserves `len` bytes (a multiple of [`GRANULE`](crate::GRANULE)), mapped at an address of the provider's
    /// choice if the tier is addressable; the address is aligned to a granule.
    ///
    /// # Errors
    /// `Full` if there is no room; `Unsuitable` if `len` is zero or not a multiple; others as the system says.
    fn reserve(&self, len: Bytes, provenance: Provenance) -> Result<Extent, Error>;

    /// Gives an extent back. An address range that was given to [`Addressable::reserve_at`], exclusively or not, is an
    /// inaccessible reservation of the caller's afterwards; one of the provider's choice is the provider's again.
    ///
    /// # Errors
    /// As the system says; the space is then lost until the process ends, but nothing else is affected.
    fn release(&self, extent: Extent) -> Result<(), Error>;

    /// Copies out of the extent, from byte `offset` of it.
    ///
    /// # Errors
    /// `OutOfRange`, `Poisoned`, `Gone`, or as the system says.
    fn read(&self, extent: &Extent, offset: u64, into: &mut [u8]) -> Result<(), Error>;

    /// Copies into the extent, from byte `offset` of it.
    ///
    /// # Errors
    /// `OutOfRange`, `Poisoned`, `Gone`, or as the system says.
    fn write(&self, extent: &Extent, offset: u64, from: &[u8]) -> Result<(), Error>;

    /// Sets the granule with byte `offset` of the extent aside, because somebody has learned that it cannot be relied on (an
    /// uncorrectable error, a device's event): once it is released, nobody gets it again until it is
    /// [repaired](Self::repair). [`read`](Self::read) and [`write`](Self::write) do this by themselves when they meet poison.
    /// The extent stays its holder's, and its other granules are not affected.
    ///
    /// Where memory has no place of its own (anonymous memory), the kernel keeps bad OS pages from being used again, and
    /// this only notes that the tier is [`Degraded`](Health::Degraded).
    ///
    /// # Errors
    /// `OutOfRange` if the byte is not in the extent; `Unsupported` if the tier cannot set space aside.
    fn quarantine(&self, extent: &Extent, offset: u64) -> Result<(), Error> {
        let _ = (extent, offset);
        let reason = "this tier cannot set space aside";
        Err(Error::new(ErrorKind::Unsupported { reason }).of_tier(self.tier().name))
    }

    /// As [`quarantine`](Self::quarantine), by the place in the tier, whoever holds it or nobody: for those who hear of bad
    /// memory from its device. Every process that uses the tier sees it.
    ///
    /// # Errors
    /// `OutOfRange` if the tier is smaller; `Unsupported` if its memory has no places, or places that one process knows only.
    fn quarantine_place(&self, offset: u64) -> Result<(), Error> {
        let _ = offset;
        let reason = "what lies where in this tier is not known to others";
        Err(Error::new(ErrorKind::Unsupported { reason }).of_tier(self.tier().name))
    }

    /// How much is set aside, whether somebody still holds it or not. Counts as reserved in [`usage`](Self::usage).
    fn quarantined(&self) -> Bytes {
        Bytes::ZERO
    }

    /// Takes what is set aside and held by nobody into use again, after its medium was repaired or replaced; says how much.
    ///
    /// # Errors
    /// As the system says.
    fn repair(&self) -> Result<Bytes, Error> {
        Ok(Bytes::ZERO)
    }

    /// For models in virtual time: it is `now_ns` there, so what is due by then happens now. Says by how much the tier is
    /// slower than it should be; 1 if it is not. The tier itself does not wait.
    fn slowdown_at(&self, now_ns: u64) -> f64 {
        let _ = now_ns;
        1.0
    }

    /// The further interface of tiers with [`Access::Load`]; `None` on the others.
    fn addressable(&self) -> Option<&dyn Addressable> {
        None
    }

    /// Something that works differently from what was asked for and that the user should know, such as direct I/O
    /// without io_uring; `None` if all is as asked.
    fn notice(&self) -> Option<&str> {
        None
    }
}

/// A provider whose extents the CPU can load from and store to.
pub trait Addressable: Provider {
    /// Like [`Provider::reserve`], mapped at `at`, which is aligned to a granule.
    ///
    /// # Errors
    /// As [`Provider::reserve`].
    ///
    /// # Safety
    /// `at .. at + len` must be an inaccessible (`PROT_NONE`) reservation that the caller owns, or, if `exclusive`
    /// is true, an unmapped range (the call then fails rather than replace a mapping that appeared there).
    unsafe fn reserve_at(
        &self,
        at: NonNull<u8>,
        len: Bytes,
        exclusive: bool,
        provenance: Provenance,
    ) -> Result<Extent, Error>;

    /// Whether parts of an extent can be given back to the OS while it stays reserved (anonymous memory: yes, with
    /// `MADV_DONTNEED`; files: no, because the promise of space would be lost).
    fn can_purge(&self) -> bool;

    /// What forking needs.
    fn fork_plan(&self) -> ForkPlan;

    /// Called once in the forking process before each fork, whatever the plan: locks that other threads may hold must be
    /// whole in the child, so they are taken here, and let go in [`after_fork`](Self::after_fork).
    fn prepare_fork(&self) {}

    /// Called in the forking process for every extent of this tier, just before the fork, if the plan is
    /// [`ForkPlan::CopyOnWrite`]: from now on neither process sees the other's writes. Other threads may be reading
    /// and writing the extent meanwhile; none of their writes may be lost.
    ///
    /// # Errors
    /// As the system says; the caller then copies.
    fn before_fork(&self, extent: &Extent) -> Result<(), Error> {
        let _ = extent;
        Ok(())
    }

    /// Called once in the parent (`child == false`) and once in the child (`child == true`) after every fork, on all
    /// addressable providers, before any other method.
    fn after_fork(&self, child: bool) {
        let _ = child;
    }

    /// A counter that changes when something was [set aside](Provider::quarantine) in this process. Cheap, so that an
    /// allocator can look at it each time that it takes memory.
    fn quarantine_events(&self) -> u32 {
        0
    }

    /// Whether a part of the extent is set aside or lost: its holder should place nothing new there.
    fn is_quarantined(&self, extent: &Extent) -> bool {
        let _ = extent;
        false
    }
}
