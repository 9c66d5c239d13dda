//! The provider of everything that is mapped: files (`dax_file`) and DAX devices (`devdax`).
//!
//! Forking: an extent of a file is mapped shared at first. Just before the fork the mapping is replaced by a private one
//! of the same bytes. What any thread wrote before is in the file; what either process writes later goes to copies of its
//! own, in DRAM. The file's bytes are then a snapshot that both read, until the last one of them lets go; see
//! `extent_table`. A DAX device can only be mapped shared, so there the child has to copy.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use tiermem_sys::map::{self, Placement, Sharing};
use tiermem_sys::sync::atomic::{AtomicBool, Ordering};
use tiermem_sys::{Errno, Result, file};

use super::backing_file::BackingFile;
use super::extent_table::{ExtentTable, Past, Sidecar, Thoroughness};
use super::open::{Obstacle, OpenError, tier};
use super::watch::Watched;
use super::window::Window;
use super::{Access, Addressable, ForkPlan, Provider, Usage, check};
use crate::{Attribute, Bytes, Error, ErrorKind, Extent, GRANULE, Health, Provenance, Source, Tier, TierId, TierSpec};

/// What is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    /// A file: space is promised by fallocate, and erased by punching holes.
    File,
    /// A DAX device: all its space is there, and keeps what was in it, so extents are zeroed when they are reserved.
    Device,
}

/// Provider over something that is mapped.
#[derive(Debug)]
pub(super) struct Mapped {
    tier: Tier,
    medium: Medium,
    file: BackingFile,
    table: Arc<ExtentTable>,
    /// Where extents go whose address is ours to choose.
    window: Window,
    /// What the kernel has said about their memory.
    watch: Watched,
    /// The device was met missing.
    is_gone: AtomicBool,
}

/// What is mapped, opened and measured, with its sidecar still locked.
pub(super) struct Parts {
    pub medium: Medium,
    pub file: BackingFile,
    pub sidecar: Sidecar,
    pub size: Bytes,
    pub past: Past,
    pub made_here: bool,
}

impl Mapped {
    /// Builds the provider and its table.
    pub(super) fn new(spec: &TierSpec, id: TierId, parts: Parts) -> std::result::Result<Self, OpenError> {
        let failed = |errno| OpenError::system(spec, "setting up the extent table", errno);
        let Parts { medium, file, sidecar, size, past, made_here } = parts;
        let granules = u32::try_from(size.0 / GRANULE.0)
            .map_err(|_| OpenError::new(spec, Obstacle::BadSize, "more than 8 PiB: give a smaller size"))?;
        let table = sidecar.into_table(file.fd().map_err(failed)?, granules, past, made_here).map_err(failed)?;
        let table = Arc::new(table);
        let watch = Watched::new(table.clone()).map_err(failed)?;
        let mut tier = tier(spec, id);
        tier.attributes.capacity.get_or_insert(Attribute::new(size, Source::Kernel));
        let (window, is_gone) = (Window::new(granules), AtomicBool::new(false));
        let this = Self { tier, medium, file, table, window, watch, is_gone };
        if this.table.has_former_self() {
            this.sweep(Thoroughness::Quick);
        }
        Ok(this)
    }

    /// Whether no other living process uses the tier.
    pub(super) fn is_alone(&self) -> bool {
        self.table.is_alone()
    }

    fn erase(&self, first: u32, count: u32) -> Result<()> {
        match self.medium {
            Medium::File => file::punch_hole(self.file.fd()?, offset_of(first), offset_of(count)),
            Medium::Device => Ok(()),
        }
    }

    fn promise_space(&self, first: u32, count: u32) -> Result<()> {
        match self.medium {
            Medium::File => file::reserve_space(self.whole()?, offset_of(first), offset_of(count)),
            Medium::Device => Ok(()),
        }
    }

    /// The file, if all of the tier is still in it.
    fn whole(&self) -> Result<BorrowedFd<'_>> {
        match self.medium {
            Medium::File => self.file.fd_with(offset_of(self.table.granules())),
            // Its length is not in its inode.
            Medium::Device => self.file.fd(),
        }
    }

    fn sweep(&self, thoroughness: Thoroughness) -> bool {
        self.table.sweep(thoroughness, &|first, count| self.erase(first, count))
    }

    /// Takes granules with space of their own in the file.
    fn take(&self, len: Bytes) -> std::result::Result<u32, Error> {
        let count = u32::try_from(len.0 / GRANULE.0).unwrap_or(u32::MAX);
        let full = || check::error(&self.tier, ErrorKind::Full { wanted: len });
        if count > self.table.granules() {
            return Err(full());
        }
        let fail = |call, errno| check::system(&self.tier, call, errno, len);
        let mut swept = false;
        loop {
            let errno = match self.table.claim(count).map_err(|errno| fail("taking a seat", errno))? {
                None => Errno::ENOSPC,
                Some(first) => {
                    let reserved = self.promise_space(first, count);
                    let Err(errno) = reserved else { return Ok(first) };
                    self.give_up(first, count);
                    errno
                }
            };
            match errno {
                // The dead may hold what we need.
                Errno::ENOSPC if !swept && self.sweep(Thoroughness::Full) => swept = true,
                Errno::ENOSPC => return Err(full()),
                errno => return Err(fail("fallocate", errno)),
            }
        }
    }

    /// Releases granules on a path that already has an error to report.
    fn give_up(&self, first: u32, count: u32) {
        let _ = self.table.release(first, count, &|first, count| self.erase(first, count));
    }

    fn map_granules(
        &self,
        at: NonNull<u8>,
        first: u32,
        count: u32,
        sharing: Sharing,
        placement: Placement,
    ) -> Result<()> {
        let fd = self.file.fd()?;
        // SAFETY: passed on: callers own the range, or replace a mapping of the same bytes.
        unsafe { map::file_at(at, offset_of(count) as usize, fd, offset_of(first), sharing, placement) }
    }

    /// Maps granules that were taken, or gives them up.
    fn commit(
        &self,
        at: NonNull<u8>,
        first: u32,
        len: Bytes,
        placement: Placement,
        provenance: Provenance,
    ) -> std::result::Result<Extent, Error> {
        let count = granule_of(len.0);
        if let Err(errno) = self.map_granules(at, first, count, Sharing::Shared, placement) {
            self.give_up(first, count);
            return Err(check::system(&self.tier, "mmap", errno, len));
        }
        self.watch.mapped(first, count, at);
        let extent = Extent::from_parts(self.tier.id, offset_of(first), len, Some(at), provenance);
        match self.blank(&extent) {
            Ok(()) => Ok(extent),
            Err(error) => {
                let _ = self.release(extent);
                Err(error)
            }
        }
    }

    /// Zeroes a new extent of a medium that keeps old contents.
    fn blank(&self, extent: &Extent) -> std::result::Result<(), Error> {
        static ZEROES: [u8; 65536] = [0; 65536];
        if self.medium == Medium::File {
            return Ok(());
        }
        (0..extent.len().0).step_by(ZEROES.len()).try_for_each(|offset| self.write(extent, offset, &ZEROES))
    }

    fn note(&self, extent: &Extent, outcome: std::result::Result<(), Error>) -> std::result::Result<(), Error> {
        match outcome.map_err(|error| error.kind()) {
            Err(ErrorKind::Poisoned { offset, .. }) => self.watch.set_aside(granule_of(extent.offset() + offset)),
            // Of a file a part may be gone; a device is gone as a whole, and comes back as another one.
            // Relaxed: a flag that says nothing about other memory.
            Err(ErrorKind::Gone) if self.medium == Medium::Device => self.is_gone.store(true, Ordering::Relaxed),
            _ => {}
        }
        outcome
    }

    /// How much of a range can be copied, and the error if that is not all: the kernel has said that the rest is broken.
    fn sound(
        &self,
        extent: &Extent,
        offset: u64,
        len: usize,
    ) -> std::result::Result<(usize, std::result::Result<(), Error>), Error> {
        check::range(&self.tier, extent, offset, len)?;
        let start = extent.offset() + offset;
        Ok(match self.watch.first_broken(start, len as u64) {
            None => (len, Ok(())),
            Some(broken) => {
                let kind = ErrorKind::Poisoned { extent: extent.offset(), offset: broken - extent.offset() };
                ((broken - start) as usize, Err(check::error(&self.tier, kind)))
            }
        })
    }
}

/// Bytes of this many granules.
const fn offset_of(granules: u32) -> u64 {
    granules as u64 * GRANULE.0
}

const fn granule_of(offset: u64) -> u32 {
    (offset / GRANULE.0) as u32
}

const fn span_of(extent: &Extent) -> (u32, u32) {
    (granule_of(extent.offset()), granule_of(extent.len().0))
}

impl Provider for Mapped {
    fn tier(&self) -> &Tier {
        &self.tier
    }

    fn access(&self) -> Access {
        Access::Load
    }

    fn usage(&self) -> Usage {
        Usage { capacity: Bytes(offset_of(self.table.granules())), reserved: Bytes(offset_of(self.table.used())) }
    }

    fn health(&self) -> Health {
        match self.whole() {
            Err(_) => Health::Failed,
            // Relaxed: as in `note`.
            Ok(_) if self.is_gone.load(Ordering::Relaxed) => Health::Failed,
            // Whoever it was that met poison.
            Ok(_) if self.table.quarantined() > 0 => Health::Degraded,
            Ok(_) => Health::Good,
        }
    }

    fn reserve(&self, len: Bytes, provenance: Provenance) -> std::result::Result<Extent, Error> {
        check::request(&self.tier, len)?;
        let first = self.take(len)?;
        let at = self.window.address(first).map_err(|errno| {
            self.give_up(first, granule_of(len.0));
            check::system(&self.tier, "mmap", errno, len)
        })?;
        self.commit(at, first, len, Placement::Replace, provenance)
    }

    fn release(&self, extent: Extent) -> std::result::Result<(), Error> {
        check::own(&self.tier, &extent)?;
        let Some(at) = extent.address() else { return Err(check::error(&self.tier, ErrorKind::Gone)) };
        let fail = |call, errno| check::system(&self.tier, call, errno, extent.len());
        // Also right for our own choice of address: it lies in the window, which is a reservation too.
        // SAFETY: the extent's holder gives up what is in its range.
        unsafe { map::decommit(at, extent.len().0 as usize) }.map_err(|errno| fail("mmap", errno))?;
        let (first, count) = span_of(&extent);
        self.watch.unmapped(first, count);
        self.table
            .release(first, count, &|first, count| self.erase(first, count))
            .map_err(|errno| fail("fallocate(FALLOC_FL_PUNCH_HOLE)", errno))
    }

    fn read(&self, extent: &Extent, offset: u64, into: &mut [u8]) -> std::result::Result<(), Error> {
        let (sound, rest) = self.sound(extent, offset, into.len())?;
        self.note(extent, check::read_mapped(&self.tier, extent, offset, &mut into[..sound]))?;
        rest
    }

    fn write(&self, extent: &Extent, offset: u64, from: &[u8]) -> std::result::Result<(), Error> {
        let (sound, rest) = self.sound(extent, offset, from.len())?;
        self.note(extent, check::write_mapped(&self.tier, extent, offset, &from[..sound]))?;
        rest
    }

    fn quarantine(&self, extent: &Extent, offset: u64) -> std::result::Result<(), Error> {
        check::range(&self.tier, extent, offset, 1)?;
        self.watch.set_aside(granule_of(extent.offset() + offset));
        Ok(())
    }

    fn quarantine_place(&self, offset: u64) -> std::result::Result<(), Error> {
        if offset >= offset_of(self.table.granules()) {
            return Err(check::error(&self.tier, ErrorKind::OutOfRange));
        }
        self.watch.set_aside(granule_of(offset));
        Ok(())
    }

    fn quarantined(&self) -> Bytes {
        Bytes(offset_of(self.table.quarantined()))
    }

    fn repair(&self) -> std::result::Result<Bytes, Error> {
        Ok(Bytes(offset_of(self.table.repair())))
    }

    fn addressable(&self) -> Option<&dyn Addressable> {
        Some(self)
    }
}

impl Addressable for Mapped {
    unsafe fn reserve_at(
        &self,
        at: NonNull<u8>,
        len: Bytes,
        exclusive: bool,
        provenance: Provenance,
    ) -> std::result::Result<Extent, Error> {
        check::request(&self.tier, len)?;
        let first = self.take(len)?;
        let placement = if exclusive { Placement::Exclusive } else { Placement::Replace };
        self.commit(at, first, len, placement, provenance)
    }

    fn can_purge(&self) -> bool {
        false
    }

    fn fork_plan(&self) -> ForkPlan {
        match self.medium {
            Medium::File => ForkPlan::CopyOnWrite,
            Medium::Device => ForkPlan::CopyInChild,
        }
    }

    fn before_fork(&self, extent: &Extent) -> std::result::Result<(), Error> {
        check::own(&self.tier, extent)?;
        if self.medium == Medium::Device {
            let reason = "a DAX device can only be mapped shared: copy in the child";
            return Err(check::error(&self.tier, ErrorKind::Unsupported { reason }));
        }
        let Some(start) = extent.address() else { return Err(check::error(&self.tier, ErrorKind::Gone)) };
        let (first, count) = span_of(extent);
        let make_private = |run: u32, len: u32| {
            // SAFETY: the run lies in the extent.
            let at = unsafe { start.add(offset_of(run - first) as usize) };
            self.map_granules(at, run, len, Sharing::CopyOnWrite, Placement::Replace)
        };
        self.table
            .share((first, count), make_private, &|first, count| self.erase(first, count))
            .map_err(|errno| check::system(&self.tier, "mmap", errno, extent.len()))
    }

    fn after_fork(&self, child: bool) {
        Watched::after_fork(child);
        self.table.after_fork(child);
    }

    fn quarantine_events(&self) -> u32 {
        self.watch.events()
    }

    fn is_quarantined(&self, extent: &Extent) -> bool {
        let (first, count) = span_of(extent);
        (first..first + count).any(|granule| self.table.is_quarantined(granule))
    }
}
