//! A file that stays usable although the program around it closes descriptors that it does not know (daemons close
//! "all" of them).

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use tiermem_sys::file::{self, Existing, Identity, Status};
use tiermem_sys::sync::atomic::{AtomicI32, Ordering};
use tiermem_sys::{Errno, Result};

/// Descriptors are moved up to this number at least, away from those that programs expect to be free.
const LEAST_DESCRIPTOR: RawFd = 700;

/// An open file. Before each use the descriptor is checked against the file's identity; if it has been closed, or leads
/// elsewhere by now, the file is opened again by its path.
#[derive(Debug)]
pub(super) struct BackingFile {
    fd: AtomicI32,
    identity: Identity,
    /// `None` for files without a name: those are gone when their descriptor is.
    path: Option<CString>,
    direct: bool,
}

impl BackingFile {
    /// Takes over an open file.
    pub(super) fn new(fd: OwnedFd, path: Option<CString>, direct: bool) -> Result<Self> {
        let identity = file::status(fd.as_fd())?.identity;
        let fd = file::move_up(fd, LEAST_DESCRIPTOR);
        Ok(Self { fd: AtomicI32::new(fd.into_raw_fd()), identity, path, direct })
    }

    /// Which file it is.
    pub(super) const fn identity(&self) -> Identity {
        self.identity
    }

    /// The descriptor, checked. `ESTALE` if the file cannot be reached any more.
    pub(super) fn fd(&self) -> Result<BorrowedFd<'_>> {
        // Relaxed: a number; the kernel orders what it stands for.
        let fd = self.fd.load(Ordering::Relaxed);
        match self.matching(fd) {
            Some(_) => Ok(borrow(fd)),
            None => self.open_again(fd),
        }
    }

    /// The descriptor, checked. `ESTALE` also if the file is shorter than `len`: somebody has cut it, and a load from
    /// the missing part would be a signal.
    pub(super) fn fd_with(&self, len: u64) -> Result<BorrowedFd<'_>> {
        // Relaxed: as in `fd`.
        let fd = self.fd.load(Ordering::Relaxed);
        let (fd, size) = match self.matching(fd) {
            Some(status) => (borrow(fd), status.size),
            None => {
                let fd = self.open_again(fd)?;
                (fd, file::status(fd)?.size)
            }
        };
        if size < len { Err(Errno::ESTALE) } else { Ok(fd) }
    }

    fn matching(&self, fd: RawFd) -> Option<Status> {
        file::status(borrow(fd)).ok().filter(|status| status.identity == self.identity)
    }

    #[cold]
    fn open_again(&self, lost: RawFd) -> Result<BorrowedFd<'_>> {
        let path = self.path.as_deref().ok_or(Errno::ESTALE)?;
        let fresh = file::move_up(file::open(path, Existing::Required, self.direct)?, LEAST_DESCRIPTOR);
        if self.matching(fresh.as_raw_fd()).is_none() {
            return Err(Errno::ESTALE);
        }
        // Relaxed: as above. If another thread was faster, ours is closed again.
        match self.fd.compare_exchange(lost, fresh.as_raw_fd(), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Ok(borrow(fresh.into_raw_fd())),
            Err(theirs) => Ok(borrow(theirs)),
        }
    }
}

/// The descriptor as the kernel calls want it.
fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the descriptor is only passed to system calls, which check it; whether it still leads to our file is
    // what this module checks. It is never -1.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

impl Drop for BackingFile {
    fn drop(&mut self) {
        let fd = self.fd.load(Ordering::Relaxed);
        if self.matching(fd).is_some() {
            // SAFETY: the descriptor still leads to our file, and nothing else of ours uses it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn survives_a_program_that_closes_all_descriptors() {
        let folder = tempfile::tempdir().unwrap();
        let path = CString::new(folder.path().join("f").as_os_str().as_bytes()).unwrap();
        let fd = file::open(&path, Existing::Forbidden, false).unwrap();
        let backing = BackingFile::new(fd, Some(path.clone()), false).unwrap();
        let number = backing.fd().unwrap().as_raw_fd();
        // SAFETY: plays the part of the careless program: the number is closed and leads to another file afterwards.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
        let _other = file::move_up(file::memory_file(c"other").unwrap(), number);
        assert_eq!(file::status(backing.fd().unwrap()).unwrap().identity, backing.identity());
        // Once the path leads elsewhere too, it says so instead of writing into a stranger's file.
        let lost = backing.fd().unwrap().as_raw_fd();
        std::fs::remove_file(folder.path().join("f")).unwrap();
        std::fs::write(folder.path().join("f"), "stranger").unwrap();
        // SAFETY: as above.
        drop(unsafe { OwnedFd::from_raw_fd(lost) });
        assert_eq!(backing.fd().err(), Some(Errno::ESTALE));
    }
}
