//! Block storage as a tier: a file that is read and written past the OS's cache. The CPU cannot address it.
//!
//! In a folder, the file has no name and vanishes with the provider; a named file may be used by several processes, each
//! with extents of its own (`extent_table`). Unlike the other providers this one may allocate: nothing calls it from
//! inside `malloc`.
//!
//! After a fork, extents belong to the process that reserved them.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tiermem_sys::direct_io::{ALIGNMENT, AlignedBuffer, DirectIo};
use tiermem_sys::file;
use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicU32, Ordering};
use tiermem_sys::{Errno, Result, process};

use super::backing_file::BackingFile;
use super::blank::{self, Opened};
use super::dax_file::sidecar_path;
use super::extent_table::{ExtentTable, Past, Sidecar, Thoroughness};
use super::open::{Obstacle, OpenError, tier};
use super::{Access, Provider, Usage, check};
use crate::spec::IoChoice;
use crate::{Attribute, Bytes, Error, ErrorKind, Extent, GRANULE, Health, Provenance, Source, Tier, TierId, TierSpec};

/// Bytes that go through one buffer at a time.
const BUFFER: usize = 1 << 20;
/// I/O that may be under way at the same time in this process.
const LANES: usize = 4;

/// Provider over block storage.
#[derive(Debug)]
pub(super) struct Nvme {
    tier: Tier,
    file: BackingFile,
    table: ExtentTable,
    lanes: [Lock<Lane>; LANES],
    next_lane: AtomicU32,
    /// The process that the lanes and the seat in the table belong to.
    owner: AtomicU32,
    /// Held while a child makes itself at home; never by a process that forks, unless its own parent just forked it.
    forked: Lock<()>,
    prefer_uring: bool,
    notice: Option<String>,
}

/// One request at a time: a way to do I/O, and a buffer that is aligned as it wants it.
#[derive(Debug)]
struct Lane {
    io: DirectIo,
    buffer: AlignedBuffer,
    /// A ring is shared with the parent after a fork, so a child must not use it.
    owner: u32,
}

/// Opens the tier.
pub(super) fn open(spec: &TierSpec, id: TierId) -> std::result::Result<Nvme, OpenError> {
    let path = std::path::absolute(&spec.location)
        .map_err(|error| OpenError::new(spec, Obstacle::Unsuitable, format!("bad path: {error}")))?;
    let mut notices = Vec::new();
    let (opened, sidecar) =
        if path.is_dir() { unnamed(spec, &path, &mut notices)? } else { named(spec, &path, &mut notices)? };
    let prefer_uring = match (DirectIo::uring(), spec.io) {
        (_, IoChoice::Pread) => {
            notices.push("reads and writes with pread and pwrite, as asked for (io=pread)".to_owned());
            false
        }
        (Ok(_), _) => true,
        (Err(errno), IoChoice::Uring) => {
            let advice = format!("io_uring is not allowed here ({}): leave io=uring out, or allow it", errno.desc());
            return Err(OpenError::new(spec, Obstacle::Unsupported, advice));
        }
        (Err(errno), IoChoice::Best) => {
            notices.push(format!("io_uring is not allowed here ({}): uses pread and pwrite", errno.desc()));
            false
        }
    };
    let failed = |errno| OpenError::system(spec, "setting up the tier", errno);
    let granules = u32::try_from(opened.size.0 / GRANULE.0)
        .map_err(|_| OpenError::new(spec, Obstacle::BadSize, "more than 8 PiB: give a smaller size"))?;
    let fd = opened.file.fd().map_err(failed)?;
    let table = sidecar.into_table(fd, granules, opened.past, opened.made_here).map_err(failed)?;
    let mut tier = tier(spec, id);
    tier.attributes.capacity.get_or_insert(Attribute::new(opened.size, Source::Kernel));
    let this = Nvme {
        tier,
        file: opened.file,
        table,
        lanes: std::array::from_fn(|_| Lock::new(Lane::new(prefer_uring))),
        next_lane: AtomicU32::new(0),
        owner: AtomicU32::new(process::id()),
        forked: Lock::new(()),
        prefer_uring,
        notice: (!notices.is_empty()).then(|| notices.join("; ")),
    };
    if this.table.has_former_self() {
        this.sweep(Thoroughness::Quick);
    }
    Ok(this)
}

const NO_DIRECT: &str = "this file system has no direct I/O (O_DIRECT): goes through the OS's cache";

/// A file without a name in a folder.
fn unnamed(
    spec: &TierSpec,
    folder: &Path,
    notices: &mut Vec<String>,
) -> std::result::Result<(Opened, Sidecar), OpenError> {
    let size = spec.size().ok_or_else(|| {
        OpenError::new(spec, Obstacle::BadSize, "a folder has no size of its own: give size=, for example size=16G")
    })?;
    let size = Bytes(size.0 / GRANULE.0 * GRANULE.0);
    let failed = |errno| match errno {
        Errno::EOPNOTSUPP | Errno::EISDIR => OpenError::new(
            spec,
            Obstacle::Unsupported,
            "this file system has no files without a name (O_TMPFILE): name a file in the folder",
        ),
        errno => blank::explain(spec, errno, folder),
    };
    let c_folder = CString::new(folder.as_os_str().as_bytes()).map_err(|_| failed(Errno::EINVAL))?;
    let fd = file::open_unnamed(&c_folder, true).or_else(|errno| {
        if errno != Errno::EINVAL {
            return Err(errno);
        }
        notices.push(NO_DIRECT.to_owned());
        file::open_unnamed(&c_folder, false)
    });
    let fd = fd.map_err(failed)?;
    file::set_size(fd.as_fd(), size.0).map_err(failed)?;
    blank::must_promise_space(spec, fd.as_fd())?;
    let file = BackingFile::new(fd, None, true).map_err(failed)?;
    let sidecar = Sidecar::anonymous().map_err(failed)?;
    Ok((Opened { file, size, past: Past::Unknown, made_here: true }, sidecar))
}

fn named(spec: &TierSpec, path: &Path, notices: &mut Vec<String>) -> std::result::Result<(Opened, Sidecar), OpenError> {
    let mut sidecar = blank::open_sidecar(spec, &sidecar_path(path))?;
    let direct = blank::open_file(spec, path, &mut sidecar, true);
    let opened = match direct {
        Err(error) if error.obstacle() == Obstacle::System(Errno::EINVAL as i32) => {
            notices.push(NO_DIRECT.to_owned());
            blank::open_file(spec, path, &mut sidecar, false)
        }
        opened => opened,
    };
    match opened {
        Ok(opened) => Ok((opened, sidecar)),
        Err(error) => {
            sidecar.discard_if_unused();
            Err(error)
        }
    }
}

impl Lane {
    fn new(prefer_uring: bool) -> Self {
        let ring = if prefer_uring { DirectIo::uring().ok() } else { None };
        Self { io: ring.unwrap_or(DirectIo::Pread), buffer: AlignedBuffer::new(BUFFER), owner: process::id() }
    }
}

/// What to do with the part of a block that the caller asked for.
enum Transfer<'a> {
    Read(&'a mut [u8]),
    Write(&'a [u8]),
}

impl Transfer<'_> {
    const fn len(&self) -> usize {
        match self {
            Self::Read(into) => into.len(),
            Self::Write(from) => from.len(),
        }
    }
}

impl Nvme {
    fn erase(&self, first: u32, count: u32) -> Result<()> {
        file::punch_hole(self.file.fd()?, u64::from(first) * GRANULE.0, u64::from(count) * GRANULE.0)
    }

    /// The file, if all of the tier is still in it.
    fn whole(&self) -> Result<BorrowedFd<'_>> {
        self.file.fd_with(u64::from(self.table.granules()) * GRANULE.0)
    }

    fn sweep(&self, thoroughness: Thoroughness) -> bool {
        self.table.sweep(thoroughness, &|first, count| self.erase(first, count))
    }

    /// A child of fork must not go on in its parent's name, nor wait for threads that only the parent has.
    fn notice_fork(&self) {
        let now = process::id();
        // Acquire pairs with the Release below: whoever sees the new owner sees what was done for it.
        if self.owner.load(Ordering::Acquire) == now {
            return;
        }
        let _one = self.forked.lock();
        if self.owner.load(Ordering::Acquire) == now {
            return;
        }
        self.table.after_fork(true);
        for lane in &self.lanes {
            if lane.try_lock().is_none() {
                // SAFETY: no thread of this process has used a lane yet, so the holder is the parent's. What it was doing
                // with the lane does not matter: a lane of another owner is replaced before it is used.
                unsafe { lane.release() };
            }
        }
        self.owner.store(now, Ordering::Release);
    }

    /// Carries out `transfer` at a byte of the file, through an aligned buffer.
    fn transfer(&self, at: u64, mut transfer: Transfer<'_>) -> Result<()> {
        self.notice_fork();
        let fd = self.whole()?;
        // Relaxed: spreads callers over the lanes.
        let lane = self.next_lane.fetch_add(1, Ordering::Relaxed) as usize % LANES;
        let mut lane = self.lanes[lane].lock();
        if lane.owner != process::id() {
            // The old one is the parent's: dropping it here would only close our copy of its descriptor.
            *lane = Lane::new(self.prefer_uring);
        }
        let Lane { io, buffer, .. } = &mut *lane;
        let mut done = 0;
        while done < transfer.len() {
            let start = at + done as u64;
            let block = start / ALIGNMENT as u64 * ALIGNMENT as u64;
            let skip = (start - block) as usize;
            let part = (transfer.len() - done).min(BUFFER - skip);
            let bytes = &mut buffer.bytes()[..(skip + part).next_multiple_of(ALIGNMENT)];
            match &mut transfer {
                Transfer::Read(into) => {
                    io.read(fd, bytes, block)?;
                    into[done..done + part].copy_from_slice(&bytes[skip..skip + part]);
                }
                Transfer::Write(from) => {
                    if part != bytes.len() {
                        io.read(fd, bytes, block)?; // Neighbours in the first and last block stay as they are.
                    }
                    bytes[skip..skip + part].copy_from_slice(&from[done..done + part]);
                    io.write(fd, bytes, block)?;
                }
            }
            done += part;
        }
        Ok(())
    }

    /// The error for a transfer. A block that the drive itself cannot read (`ENODATA`, which the kernel's block layer gives
    /// for a medium error, and only for that) is poison; which one of the transfer is not told, so its first byte is named.
    fn failed(&self, call: &'static str, errno: Errno, extent: &Extent, offset: u64) -> Error {
        if errno != Errno::ENODATA {
            return check::system(&self.tier, call, errno, Bytes::ZERO);
        }
        self.table.quarantine(granule_at(extent, offset));
        let kind = ErrorKind::Poisoned { extent: extent.offset(), offset };
        check::error(&self.tier, kind).with_os_code(errno as i32)
    }

    fn give_up(&self, first: u32, count: u32) {
        let _ = self.table.release(first, count, &|first, count| self.erase(first, count));
    }
}

const fn granule_at(extent: &Extent, offset: u64) -> u32 {
    ((extent.offset() + offset) / GRANULE.0) as u32
}

impl Provider for Nvme {
    fn tier(&self) -> &Tier {
        &self.tier
    }

    fn access(&self) -> Access {
        Access::Copy { unit: Bytes(ALIGNMENT as u64) }
    }

    fn usage(&self) -> Usage {
        let bytes = |granules: u32| Bytes(u64::from(granules) * GRANULE.0);
        Usage { capacity: bytes(self.table.granules()), reserved: bytes(self.table.used()) }
    }

    fn health(&self) -> Health {
        match self.whole() {
            Err(_) => Health::Failed,
            Ok(_) if self.table.quarantined() > 0 => Health::Degraded,
            Ok(_) => Health::Good,
        }
    }

    fn reserve(&self, len: Bytes, provenance: Provenance) -> std::result::Result<Extent, Error> {
        check::request(&self.tier, len)?;
        self.notice_fork();
        let full = || check::error(&self.tier, ErrorKind::Full { wanted: len });
        let count = u32::try_from(len.0 / GRANULE.0).map_err(|_| full())?;
        if count > self.table.granules() {
            return Err(full());
        }
        let mut swept = false;
        loop {
            let claimed = self.table.claim(count).map_err(|e| check::system(&self.tier, "taking a seat", e, len))?;
            let errno = match claimed {
                None => Errno::ENOSPC,
                Some(first) => {
                    let offset = u64::from(first) * GRANULE.0;
                    let reserved = self.whole().and_then(|fd| file::reserve_space(fd, offset, len.0));
                    let Err(errno) = reserved else {
                        return Ok(Extent::from_parts(self.tier.id, offset, len, None, provenance));
                    };
                    self.give_up(first, count);
                    errno
                }
            };
            // The dead may hold what we need.
            if errno != Errno::ENOSPC || swept || !self.sweep(Thoroughness::Full) {
                return Err(check::system(&self.tier, "fallocate", errno, len));
            }
            swept = true;
        }
    }

    fn release(&self, extent: Extent) -> std::result::Result<(), Error> {
        check::own(&self.tier, &extent)?;
        self.notice_fork();
        let (first, count) = ((extent.offset() / GRANULE.0) as u32, (extent.len().0 / GRANULE.0) as u32);
        self.table
            .release(first, count, &|first, count| self.erase(first, count))
            .map_err(|errno| check::system(&self.tier, "fallocate(FALLOC_FL_PUNCH_HOLE)", errno, extent.len()))
    }

    fn read(&self, extent: &Extent, offset: u64, into: &mut [u8]) -> std::result::Result<(), Error> {
        check::range(&self.tier, extent, offset, into.len())?;
        self.transfer(extent.offset() + offset, Transfer::Read(into))
            .map_err(|errno| self.failed("read", errno, extent, offset))
    }

    fn write(&self, extent: &Extent, offset: u64, from: &[u8]) -> std::result::Result<(), Error> {
        check::range(&self.tier, extent, offset, from.len())?;
        self.transfer(extent.offset() + offset, Transfer::Write(from))
            .map_err(|errno| self.failed("write", errno, extent, offset))
    }

    fn quarantine(&self, extent: &Extent, offset: u64) -> std::result::Result<(), Error> {
        check::range(&self.tier, extent, offset, 1)?;
        self.table.quarantine(granule_at(extent, offset));
        Ok(())
    }

    fn quarantined(&self) -> Bytes {
        Bytes(u64::from(self.table.quarantined()) * GRANULE.0)
    }

    fn repair(&self) -> std::result::Result<Bytes, Error> {
        Ok(Bytes(u64::from(self.table.repair()) * GRANULE.0))
    }

    fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }
}
