//! Making, checking and removing the sidecar. May allocate: it happens when a tier is opened.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tiermem_sys::file::{self, Existing, FileType};
use tiermem_sys::sync::atomic::{AtomicI32, AtomicU32};
use tiermem_sys::sync::{Guard, Lock};
use tiermem_sys::{Errno, Result, map, process};

use super::super::backing_file::BackingFile;
use super::ExtentTable;
use super::format::{FileMark, Fixed, Seat, fnv1a, sidecar_len};

/// Only one thread of a process opens a tier at a time, so that the order of two locks is never in question.
static OPENING: Lock<()> = Lock::new(());
/// The byte whose lock excludes other openers; no record lies there.
const OPENING_BYTE: u64 = 0;

/// An open sidecar under its opening lock: what the table is about can be looked at and changed in peace.
pub(in crate::provider) struct Sidecar {
    fd: OwnedFd,
    path: Option<CString>,
    _thread: Guard<'static, ()>,
}

/// What the sidecar says about the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) enum Past {
    /// Nothing: what the file holds is a stranger's.
    Unknown,
    /// The file is ours, its free granules are blank, and there may be living members.
    Known {
        /// Whether tiermem made the file.
        made_here: bool,
    },
    /// The file was ours before the machine was restarted: what it holds means nothing.
    Stale {
        /// Whether tiermem made the file.
        made_here: bool,
    },
}

impl Past {
    /// Whether tiermem made the file.
    pub(in crate::provider) const fn made_here(self) -> bool {
        matches!(self, Self::Known { made_here: true } | Self::Stale { made_here: true })
    }
}

impl Sidecar {
    /// Opens or makes the sidecar of a named file or device, and waits for its lock.
    pub(in crate::provider) fn named(path: &Path) -> Result<Self> {
        let thread = OPENING.lock();
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
        let fd = open_locked(&path)?;
        Ok(Self { fd, path: Some(path), _thread: thread })
    }

    /// Makes a sidecar for a file without a name: children inherit it, strangers cannot come.
    pub(in crate::provider) fn anonymous() -> Result<Self> {
        let thread = OPENING.lock();
        let fd = file::memory_file(c"tiermem-extents")?;
        file::lock_description(fd.as_fd(), OPENING_BYTE)?;
        Ok(Self { fd, path: None, _thread: thread })
    }

    /// What is known about `file`. A sidecar that is about another file (that one was replaced) is left to those who
    /// still use it, and a new one made.
    ///
    /// # Errors
    /// `EBADMSG` if it is no sidecar of this version.
    pub(in crate::provider) fn past(&mut self, file: BorrowedFd<'_>) -> Result<Past> {
        let Some(fixed) = self.fixed()? else { return Ok(Past::Unknown) };
        let made_here = fixed.made_here != 0;
        if fixed.file() == mark(file)? {
            let same_boot = fixed.boot == boot();
            return Ok(if same_boot { Past::Known { made_here } } else { Past::Stale { made_here } });
        }
        if let Some(path) = &self.path {
            remove_file(path)?;
            self.fd = open_locked(path)?;
        }
        Ok(Past::Unknown)
    }

    /// How many granules the file had when it was used last; 0 if nothing is known about it.
    pub(in crate::provider) fn granules_known(&self) -> Result<u64> {
        Ok(self.fixed()?.map_or(0, |fixed| fixed.granules))
    }

    fn fixed(&self) -> Result<Option<Fixed>> {
        let mut bytes = [0; Fixed::LEN];
        file::read_at(self.fd.as_fd(), &mut bytes, 0)?;
        if bytes == [0; Fixed::LEN] {
            return Ok(None);
        }
        Fixed::from_bytes(&bytes).map(Some).ok_or(Errno::EBADMSG)
    }

    /// Makes the table: anew, unless the past is known. Ends the opening lock.
    pub(in crate::provider) fn into_table(
        self,
        file: BorrowedFd<'_>,
        granules: u32,
        past: Past,
        made_here: bool,
    ) -> Result<ExtentTable> {
        let fd = self.fd.as_fd();
        let mut most = granules;
        if let (Past::Known { .. }, Some(fixed)) = (past, self.fixed()?) {
            most = most.max(fixed.granules as u32);
        } else {
            file::set_size(fd, 0)?; // New, or of an earlier boot: nobody maps it.
        }
        let len = sidecar_len(most) as u64;
        if file::status(fd)?.size < len {
            file::set_size(fd, len)?;
        }
        match file::reserve_space(fd, 0, len) {
            Err(Errno::EOPNOTSUPP) | Ok(()) => {}
            Err(errno) => return Err(errno),
        }
        file::write_at(fd, &Fixed::new(most, mark(file)?, boot(), made_here).to_bytes(), 0)?;
        let map_len = sidecar_len(granules).next_multiple_of(map::os_page_size());
        let map = map::file_shared(map_len, fd, 0)?;
        let maps_tell = process::maps_file(process::id(), file::status(fd)?.identity) == Ok(true);
        file::unlock_description(fd, OPENING_BYTE)?;
        Ok(ExtentTable {
            map,
            map_len,
            sidecar: BackingFile::new(self.fd, self.path, false)?,
            granules,
            seat: AtomicU32::new(Seat::pack(None)),
            seating: Lock::new(()),
            embryo: AtomicU32::new(Seat::pack(None)),
            embryo_fd: AtomicI32::new(-1),
            hint: AtomicU32::new(0),
            maps_tell,
        })
    }

    /// Removes the sidecar if it was made for an opening that failed.
    pub(in crate::provider) fn discard_if_unused(self) {
        if let (Ok(None), Some(path)) = (self.fixed(), &self.path) {
            let _ = remove_file(path); // Harmless where it stays: an empty table is no table.
        }
    }

    /// Removes the sidecar and the file that it is about. Whoever still has them open goes on with what has no name any
    /// more; whoever waits for the lock sees that it was removed, and makes a new one.
    pub(in crate::provider) fn remove_with(self, file: &Path) -> Result<()> {
        let gone =
            fs::remove_file(file).or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) });
        gone.map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        self.path.as_ref().map_or(Ok(()), remove_file)
    }
}

fn remove_file(path: &CString) -> Result<()> {
    fs::remove_file(OsStr::from_bytes(path.as_bytes()))
        .map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

fn open_locked(path: &CString) -> Result<OwnedFd> {
    loop {
        let fd = file::open(path, Existing::OrCreate, false)?;
        let status = file::status(fd.as_fd())?;
        let owner_fits = status.uid == process::user() || process::user() == 0;
        if status.file_type != FileType::Regular || !owner_fits {
            return Err(Errno::EPERM);
        }
        file::lock_description(fd.as_fd(), OPENING_BYTE)?;
        if file::status(fd.as_fd())?.links > 0 {
            return Ok(fd);
        }
        // Removed while we waited: the name leads to a new one, or to none.
    }
}

fn mark(file: BorrowedFd<'_>) -> Result<FileMark> {
    let status = file::status(file)?;
    if status.file_type == FileType::CharDevice {
        // The node in /dev is made anew by each boot; the device number is what names it.
        return Ok(FileMark { inode: 0, birth_ns: 0, device: status.device_number });
    }
    let birth_ns = file::birth_ns(file).unwrap_or(0);
    Ok(FileMark { inode: status.identity.inode, birth_ns, device: status.identity.device })
}

fn boot() -> u64 {
    fs::read("/proc/sys/kernel/random/boot_id").map_or(0, |id| fnv1a(&id))
}
