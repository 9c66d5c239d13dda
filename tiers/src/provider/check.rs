//! What every provider checks and reports in the same way. Nothing here allocates.

use tiermem_sys::{Errno, guarded};

use crate::{Bytes, Error, ErrorKind, Extent, GRANULE, Tier};

/// The error for a failed system call, with its tier.
pub(super) fn system(tier: &Tier, call: &'static str, errno: Errno, wanted: Bytes) -> Error {
    let kind = match errno {
        Errno::ENOMEM | Errno::ENOSPC | Errno::EDQUOT => ErrorKind::Full { wanted },
        Errno::EACCES | Errno::EPERM => ErrorKind::NoRights,
        Errno::ENOENT => ErrorKind::NotFound,
        Errno::ENODEV | Errno::ENXIO | Errno::ESTALE | Errno::EBADF => ErrorKind::Gone,
        _ => ErrorKind::System { call },
    };
    Error::new(kind).of_tier(tier.name).with_os_code(errno as i32)
}

/// An error without a system call.
pub(super) const fn error(tier: &Tier, kind: ErrorKind) -> Error {
    Error::new(kind).of_tier(tier.name)
}

/// Whether a request is whole granules.
pub(super) fn request(tier: &Tier, len: Bytes) -> Result<(), Error> {
    if len.0 == 0 || !len.0.is_multiple_of(GRANULE.0) {
        let reason = "an extent is whole granules: ask for a multiple of 2 MiB, above zero";
        return Err(error(tier, ErrorKind::Unsuitable { reason }));
    }
    Ok(())
}

/// Whether an extent is one of this tier's.
pub(super) fn own(tier: &Tier, extent: &Extent) -> Result<(), Error> {
    if extent.tier() != tier.id {
        return Err(error(tier, ErrorKind::Unsuitable { reason: "the extent belongs to another tier" }));
    }
    Ok(())
}

/// Whether `offset .. offset + len` lies in the extent.
pub(super) fn range(tier: &Tier, extent: &Extent, offset: u64, len: usize) -> Result<(), Error> {
    own(tier, extent)?;
    match offset.checked_add(len as u64) {
        Some(end) if end <= extent.len().0 => Ok(()),
        _ => Err(error(tier, ErrorKind::OutOfRange)),
    }
}

/// Copies out of a mapped extent.
pub(super) fn read_mapped(tier: &Tier, extent: &Extent, offset: u64, into: &mut [u8]) -> Result<(), Error> {
    range(tier, extent, offset, into.len())?;
    let at = extent.address().ok_or(error(tier, ErrorKind::Gone))?;
    // SAFETY: `range` has checked that the bytes lie in the extent.
    let from = unsafe { at.add(offset as usize) };
    // SAFETY: the holder of the extent keeps it mapped while it borrows it to us.
    unsafe { guarded::read(from, into) }.map_err(|fault| faulted(tier, extent, offset, fault))
}

/// Copies into a mapped extent.
pub(super) fn write_mapped(tier: &Tier, extent: &Extent, offset: u64, from: &[u8]) -> Result<(), Error> {
    range(tier, extent, offset, from.len())?;
    let at = extent.address().ok_or(error(tier, ErrorKind::Gone))?;
    // SAFETY: `range` has checked that the bytes lie in the extent.
    let into = unsafe { at.add(offset as usize) };
    // SAFETY: the holder of the extent keeps it mapped while it borrows it to us.
    unsafe { guarded::write(into, from) }.map_err(|fault| faulted(tier, extent, offset, fault))
}

fn faulted(tier: &Tier, extent: &Extent, offset: u64, fault: guarded::Fault) -> Error {
    let kind = if fault.hardware {
        ErrorKind::Poisoned { extent: extent.offset(), offset: offset + fault.copied as u64 }
    } else {
        ErrorKind::Gone
    };
    error(tier, kind).with_os_code(Errno::EFAULT as i32)
}
