//! What the kernel knows about the OS pages of this process: written since when, present, part of a huge page.
//!
//! Kernel document: `admin-guide/mm/pagemap`. The structures mirror `include/uapi/linux/fs.h`.

use std::fs::{File, OpenOptions};
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use crate::map::os_page_size;
use crate::{Errno, Result};

/// Properties of an OS page, as `PAGE_IS_*` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Categories(pub u64);

impl Categories {
    /// Registered with an asynchronous write-protecting userfaultfd.
    pub const TRACKED: Self = Self(1);
    /// Written since it was last protected.
    pub const WRITTEN: Self = Self(1 << 1);
    /// Of a file.
    pub const FILE: Self = Self(1 << 2);
    /// In memory.
    pub const PRESENT: Self = Self(1 << 3);
    /// Swapped out.
    pub const SWAPPED: Self = Self(1 << 4);
    /// The shared zero page.
    pub const ZERO: Self = Self(1 << 5);
    /// Part of a huge page.
    pub const HUGE: Self = Self(1 << 6);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Consecutive OS pages with the same properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Those of the properties that were asked for.
    pub categories: Categories,
}

/// What the kernel says of one OS page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Entry(u64);

impl Entry {
    /// Of an OS page that is not there.
    pub const EMPTY: Self = Self(0);

    /// It has contents of this process's own, in memory or swapped out: not a file's, nor memory that others share.
    pub const fn is_private(self) -> bool {
        const PRESENT: u64 = 1 << 63;
        const SWAPPED: u64 = 1 << 62;
        const FILE: u64 = 1 << 61;
        self.0 & (PRESENT | SWAPPED) != 0 && self.0 & FILE == 0
    }
}

#[repr(C)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const IOCTL_SCAN: libc::Ioctl = libc::_IOWR::<ScanArg>(b'f' as u32, 16);

/// What a scan does besides looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    Leave,
    /// The OS pages that matched are write-protected again in the same step, so that no write between is missed.
    Protect,
}

/// Where a scan stopped and what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Regions written to the buffer.
    pub regions: usize,
    /// First address that was not looked at; the end of the range if it was finished.
    pub stopped_at: usize,
}

/// `/proc/self/pagemap`.
#[derive(Debug)]
pub struct Pagemap {
    file: File,
}

impl Pagemap {
    /// Opens it.
    ///
    /// # Errors
    /// As open(2), such as where `/proc` is not mounted.
    pub fn open() -> Result<Self> {
        let file = OpenOptions::new().read(true).open("/proc/self/pagemap").map_err(errno)?;
        Ok(Self { file })
    }

    /// Finds OS pages with all properties in `wanted` (Linux 6.7). Regions go into `into`; if it is full the scan stops
    /// early. Does not allocate.
    ///
    /// # Errors
    /// `ENOTTY` where the kernel has no such call; `EPERM` if [`After::Protect`] is asked of memory that is not
    /// registered for it.
    pub fn scan(
        &self,
        at: NonNull<u8>,
        len: usize,
        wanted: Categories,
        after: After,
        into: &mut [Region],
    ) -> Result<Scan> {
        // PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC
        let flags = if after == After::Protect { 3 } else { 0 };
        let start = at.as_ptr() as u64;
        let mut argument = ScanArg {
            size: size_of::<ScanArg>() as u64,
            flags,
            start,
            end: start + len as u64,
            walk_end: 0,
            vec: into.as_mut_ptr() as u64,
            vec_len: into.len() as u64,
            max_pages: 0,
            category_inverted: 0,
            category_mask: wanted.0,
            category_anyof_mask: 0,
            return_mask: wanted.0,
        };
        // SAFETY: the kernel reads and writes one `ScanArg` and at most `vec_len` regions of `into`.
        let rc = unsafe { libc::ioctl(self.file.as_raw_fd(), IOCTL_SCAN, &raw mut argument) };
        let regions = Errno::result(rc)?;
        Ok(Scan {
            regions: usize::try_from(regions).unwrap_or(0),
            stopped_at: usize::try_from(argument.walk_end).unwrap_or(0),
        })
    }

    /// Bytes of the range that have all properties in `wanted`.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub fn count(&self, at: NonNull<u8>, len: usize, wanted: Categories) -> Result<u64> {
        let mut regions = [Region::default(); 64];
        let (mut bytes, mut from) = (0, at);
        let end = at.as_ptr() as usize + len;
        loop {
            let left = end - from.as_ptr() as usize;
            let scan = self.scan(from, left, wanted, After::Leave, &mut regions)?;
            bytes += regions.iter().take(scan.regions).map(|r| r.end - r.start).sum::<u64>();
            if scan.stopped_at >= end || scan.stopped_at <= from.as_ptr() as usize {
                return Ok(bytes);
            }
            from = NonNull::new(std::ptr::with_exposed_provenance_mut(scan.stopped_at)).ok_or(Errno::EFAULT)?;
        }
    }

    /// What the kernel says of each OS page from `at` on, in its own words (`admin-guide/mm/pagemap`), until `into` is full.
    /// Does not allocate.
    ///
    /// # Errors
    /// As pread(2).
    pub fn entries(&self, at: NonNull<u8>, into: &mut [Entry]) -> Result<()> {
        let index = at.as_ptr() as usize / os_page_size();
        // SAFETY: entries are plain words of eight bytes, any of which is a value.
        let bytes = unsafe { std::slice::from_raw_parts_mut(into.as_mut_ptr().cast::<u8>(), size_of_val(into)) };
        self.file.read_exact_at(bytes, index as u64 * 8).map_err(errno)
    }

    /// The frame number of the OS page that holds an address; `None` if it is not in memory, or if the rights to see
    /// frame numbers (`CAP_SYS_ADMIN`) are missing.
    ///
    /// # Errors
    /// As pread(2).
    pub fn frame(&self, at: NonNull<u8>) -> Result<Option<u64>> {
        const PRESENT: u64 = 1 << 63;
        const FRAME: u64 = (1 << 55) - 1;
        let index = at.as_ptr() as usize / os_page_size();
        let mut word = [0u8; 8];
        self.file.read_exact_at(&mut word, index as u64 * 8).map_err(errno)?;
        let word = u64::from_ne_bytes(word);
        Ok((word & PRESENT != 0 && word & FRAME != 0).then_some(word & FRAME))
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

const _: () = assert!(size_of::<ScanArg>() == 96 && size_of::<Region>() == 24);
