//! Writes, by an asynchronous userfaultfd: OS pages are write-protected, the kernel lifts that at the first write by itself,
//! and `PAGEMAP_SCAN` tells where it did and protects them again in the same step.

use std::os::fd::AsFd;
use std::ptr::NonNull;

use tiermem_sys::file::{self, Identity};
use tiermem_sys::pagemap::{After, Categories, Pagemap, Region};
use tiermem_sys::trial::{Obstacle, Outcome};
use tiermem_sys::userfault::{Features, Mode, Rights, Userfault};
use tiermem_sys::{Errno, clock, map};

use super::{Seen, Trial, at};
use crate::arena;
use crate::geometry::EXTENT_SIZE;

/// Above what programs number their descriptors with.
const DESCRIPTOR_MIN: i32 = 900;

/// What is looked for. What is not there yet has not been written; when it comes, it counts as written.
const WANTED: Categories = Categories::WRITTEN.and(Categories::PRESENT);

/// See the module.
pub struct Written {
    /// `None` once it has left its owner's hands.
    faults: Option<Userfault>,
    identity: Identity,
}

impl Written {
    /// Makes it.
    pub fn make() -> Outcome<Self> {
        let base = Features::WRITE_PROTECT.and(Features::WRITE_PROTECT_ASYNC).and(Features::WRITE_PROTECT_UNPOPULATED);
        // No handler ever sees these faults, so the lesser rights do. Files need one more of the kernel's abilities.
        let faults = Userfault::open(Rights::UserModeOnly, base.and(Features::WRITE_PROTECT_SHMEM))
            .or_else(|_| Userfault::open(Rights::UserModeOnly, base))
            .map_err(at("opening a userfaultfd that remembers writes (Linux 6.7)"))?
            .moved_up(DESCRIPTOR_MIN);
        let identity = file::status(faults.as_fd()).map_err(at("fstat of a userfaultfd"))?.identity;
        Ok(Self { faults: Some(faults), identity })
    }

    /// Writes to one of two OS pages and finds just that.
    pub fn try_out(&self) -> Outcome {
        let scratch = Trial::new()?;
        scratch.touch(0);
        scratch.touch(1);
        let pagemap = open_pagemap()?;
        let range = scratch.range();
        self.protect(range.start, range.len()).map_err(at("write-protecting"))?;
        scratch.touch(1);
        let scanning = "scanning for written OS pages (PAGEMAP_SCAN)";
        for expected in [map::os_page_size(), 0] {
            if bytes_written(&pagemap, range.start, range.len()).map_err(at(scanning))? != expected {
                return Err(Obstacle { step: "finding the OS page that was written", errno: None });
            }
        }
        Ok(())
    }

    /// Tells how much of each extent was written since the last call, and begins anew: from when on. Of extents that are new,
    /// nothing.
    pub fn look(&mut self, mut visit: impl FnMut(Seen)) -> Outcome<u64> {
        let since = clock::monotonic_ns();
        if !self.is_ours() {
            self.abandon();
            return Err(Obstacle { step: "using the userfaultfd", errno: Some(Errno::EBADF) });
        }
        let pagemap = open_pagemap()?;
        let os_page = map::os_page_size();
        arena::each_held(|index| {
            let address = arena::address_of(index).addr();
            match bytes_written(&pagemap, address, EXTENT_SIZE) {
                Ok(written) => visit(Seen {
                    address,
                    len: EXTENT_SIZE,
                    hits: (written / os_page) as u32,
                    looks: (EXTENT_SIZE / os_page) as u32,
                }),
                // Not protected yet, or a new mapping. Memory that the kernel cannot protect is never told; nor is an extent
                // that was given back meanwhile.
                Err(_) => drop(self.protect(address, EXTENT_SIZE)),
            }
        });
        Ok(since)
    }

    /// A program that closes all descriptors closed this one, and may have another file there, which is not ours to close.
    fn abandon(&mut self) {
        if let Some(faults) = self.faults.take() {
            std::mem::forget(faults);
        }
    }

    fn is_ours(&self) -> bool {
        let status = self.faults.as_ref().map(|faults| file::status(faults.as_fd()));
        matches!(status, Some(Ok(status)) if status.identity == self.identity)
    }

    /// In a child of fork: the descriptor is that of the parent's memory.
    pub fn leave_to_parent(mut self) {
        if !self.is_ours() {
            self.abandon();
        }
    }

    fn protect(&self, address: usize, len: usize) -> Result<(), Errno> {
        let (Some(faults), Some(at)) = (&self.faults, place(address)) else { return Err(Errno::EBADF) };
        // SAFETY: the range is the arena's or a trial's, and the kernel answers these faults itself.
        unsafe { faults.register(at, len, Mode::WriteProtect) }?;
        faults.write_protect(at, len, true)
    }
}

fn place(address: usize) -> Option<NonNull<u8>> {
    NonNull::new(std::ptr::with_exposed_provenance_mut(address))
}

fn open_pagemap() -> Outcome<Pagemap> {
    Pagemap::open().map_err(at("opening /proc/self/pagemap"))
}

/// Bytes of OS pages of a protected range that were written since; they are protected again.
fn bytes_written(pagemap: &Pagemap, address: usize, len: usize) -> Result<usize, Errno> {
    let end = address + len;
    let (mut from, mut bytes) = (address, 0);
    let mut regions = [Region::default(); 64];
    while from < end {
        let start = place(from).ok_or(Errno::EFAULT)?;
        let scan = pagemap.scan(start, end - from, WANTED, After::Protect, &mut regions)?;
        bytes += regions[..scan.regions].iter().map(|region| (region.end - region.start) as usize).sum::<usize>();
        if scan.stopped_at <= from {
            return Err(Errno::EIO);
        }
        from = scan.stopped_at;
    }
    Ok(bytes)
}
