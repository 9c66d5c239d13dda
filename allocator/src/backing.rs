//! Where a pool's extents come from: plain anonymous memory from the first call on, or a tier's provider once the
//! process has been configured.

use tiermem_sys::map::{self, Placement};
use tiermem_sys::thread::Uncancelled;
use tiermem_tiers::{Addressable, Bytes, Error, ErrorKind, Extent, ForkPlan, Provenance};

use crate::arena::Claim;
use crate::control::{self, EventKind};
use crate::once::Once;
use crate::pool::huge::{self, HugePages};

/// What a tier has given.
#[derive(Clone, Copy, Debug)]
pub struct Reserved {
    /// Where it lies in the tier, bytes.
    pub offset: u64,
    /// Whether it comes from the kernel's reserve of huge pages.
    pub huge: bool,
}

/// Where extents come from.
pub struct Backing {
    provider: Once<&'static dyn Addressable>,
}

impl Backing {
    /// The offset of extents that are plain anonymous memory and belong to no provider.
    pub const ANONYMOUS: u64 = u64::MAX << 42;

    /// Plain anonymous memory, until a provider is set.
    pub const fn new() -> Self {
        Self { provider: Once::new() }
    }

    /// Takes all further extents from `provider`.
    ///
    /// # Safety
    /// Called once at most, by one thread.
    pub unsafe fn set(&self, provider: &'static dyn Addressable) {
        // SAFETY: passed on to the caller.
        unsafe { self.provider.set(provider) };
    }

    /// The provider, if one was set.
    pub fn provider(&self) -> Option<&'static dyn Addressable> {
        self.provider.get()
    }

    /// Whether parts of an extent can be given back to the OS.
    pub fn can_purge(&self) -> bool {
        self.provider().is_none_or(Addressable::can_purge)
    }

    /// Maps `len` bytes of the tier at the claimed place.
    ///
    /// # Errors
    /// As the provider says.
    pub fn reserve(&self, claim: Claim, len: Bytes, why: Provenance) -> Result<Reserved, Error> {
        match self.provider() {
            // A file mapped now would be shared with the child for good; what was mapped before has become
            // copy-on-write. So a fork handler gets what that would amount to: anonymous memory.
            Some(provider) if provider.fork_plan() == ForkPlan::Inherent || !crate::fork::is_under_way() => {
                // The caller holds its pool's lock.
                let _uncancelled = Uncancelled::new();
                // SAFETY: the place is a reservation that the arena owns, or is claimed exclusively.
                let extent = unsafe { provider.reserve_at(claim.at, len, claim.exclusive, why) }?;
                Ok(Reserved { offset: extent.offset(), huge: false })
            }
            _ => {
                let placement = if claim.exclusive { Placement::Exclusive } else { Placement::Replace };
                if huge::mode() == HugePages::Reserved {
                    // SAFETY: as above. A reservation stays what it was if this fails.
                    if unsafe { map::reserved_huge_at(claim.at, len.0 as usize, placement) }.is_ok() {
                        return Ok(Reserved { offset: Self::ANONYMOUS, huge: true });
                    }
                    control::event(EventKind::Full, Some(0), len.0);
                }
                // SAFETY: as above.
                unsafe { map::anonymous_at(claim.at, len.0 as usize, placement) }
                    .map_err(|errno| Error::new(ErrorKind::Full { wanted: len }).with_os_code(errno as i32))?;
                Ok(Reserved { offset: Self::ANONYMOUS, huge: false })
            }
        }
    }

    /// Gives an extent back to where it came from; its place becomes an inaccessible reservation.
    ///
    /// # Errors
    /// As the provider says.
    pub fn release(&self, extent: Extent) -> Result<(), Error> {
        match self.provider() {
            Some(provider) if extent.offset() < Self::ANONYMOUS => {
                let _uncancelled = Uncancelled::new();
                provider.release(extent)
            }
            _ => {
                let at = extent.address().ok_or(Error::new(ErrorKind::OutOfRange))?;
                // SAFETY: the holder of the extent gives it up.
                unsafe { map::decommit(at, extent.len().0 as usize) }
                    .map_err(|errno| Error::new(ErrorKind::System { call: "mmap" }).with_os_code(errno as i32))
            }
        }
    }
}
