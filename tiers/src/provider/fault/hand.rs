//! What a fault does to memory that the CPU loads from: it plays the part of the failing hardware.
//!
//! Memory that is gone or poisoned is covered by a mapping of an empty file. Each access to it raises SIGBUS (mmap(2): a
//! part of a mapping beyond the end of its file), as hardware poison does once the kernel has taken the OS page out of
//! service, with `si_code` `BUS_ADRERR` instead of `BUS_MCEERR_AR`; a system call gets EFAULT. This works without
//! userfaultfd or any right, on any kernel, for every kind of mapping, and a child of fork inherits it.

use std::ptr::NonNull;

use tiermem_sys::map::{self, Placement, Sharing};
use tiermem_sys::process;

use super::state::Granule;
use crate::provider::backing_file::BackingFile;
use crate::{Extent, GRANULE, Provenance, Provider};

/// The means to do it.
pub(super) struct Hand<'a> {
    pub inner: &'a dyn Provider,
    /// An empty file; `None` if the tier is not addressable.
    pub empty: Option<&'a BackingFile>,
}

impl Hand<'_> {
    pub(super) fn os_page_size(&self) -> u64 {
        map::os_page_size() as u64
    }

    /// Makes an OS page unreadable.
    pub(super) fn poison(&self, granule: &Granule, from: u64) {
        self.cover(granule, from, self.os_page_size());
    }

    /// Makes a whole granule unreadable, for good.
    pub(super) fn take_away(&self, granule: &Granule) {
        self.cover(granule, 0, GRANULE.0);
    }

    /// Makes a granule inaccessible, or accessible again with what was in it.
    pub(super) fn link(&self, granule: &Granule, is_down: bool) {
        if let Some(at) = address(granule, 0) {
            // Without more mappings than the process may have this fails: loads then go on as if the link were up.
            // SAFETY: the granule is the holder's; that accesses end in a signal meanwhile is what is wanted.
            let _ = unsafe { map::protect(at, GRANULE.0 as usize, !is_down) };
        }
    }

    /// Covers a part of a granule by the empty file. Where that fails (no descriptor any more, too many mappings), only what
    /// goes through the provider sees the fault.
    fn cover(&self, granule: &Granule, from: u64, len: u64) {
        let (Some(at), Some(fd)) = (address(granule, from), self.empty.and_then(|file| file.fd().ok())) else { return };
        // SAFETY: the range is part of an extent that is held, so nothing but its contents is replaced, and those are
        // lost: that is what is wanted of a fault.
        let _ = unsafe { map::file_at(at, len as usize, fd, 0, Sharing::Shared, Placement::Replace) };
    }

    /// Tells the tier, as a device's event tells the kernel: the granule is set aside.
    pub(super) fn report(&self, granule: &Granule, from: u64) {
        let tier = self.inner.tier().id;
        let extent = Extent::from_parts(tier, granule.offset, GRANULE, address(granule, 0), Provenance::Unknown);
        // A tier that cannot set it aside hands out other memory anyway (`Provider::quarantine`).
        let _ = self.inner.quarantine(&extent, from);
    }

    /// Ends the process as a power failure would.
    pub(super) fn crash(&self) {
        // It cannot fail for one's own process; if it did, the test that wants the crash would say so.
        let _ = process::kill_now(process::id());
    }
}

fn address(granule: &Granule, from: u64) -> Option<NonNull<u8>> {
    let start = NonNull::new(std::ptr::with_exposed_provenance_mut::<u8>(granule.address))?;
    // SAFETY: `from` lies in the granule, which is mapped from `start` on.
    Some(unsafe { start.add(from as usize) })
}
