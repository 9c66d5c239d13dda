//! Locks on single bytes of a file, held by open file descriptions (fcntl(2), "Open file description locks").

use std::os::fd::{AsRawFd, BorrowedFd};

use super::signed;
use crate::{Errno, Result};

fn write_lock_on(byte: u64) -> Result<libc::flock> {
    // SAFETY: the struct is plain integers, for which zero is a value; l_pid must be zero for OFD locks.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = signed(byte)?;
    lock.l_len = 1;
    Ok(lock)
}

/// Takes a lock on one byte for the open file description of `fd`: every copy of the descriptor holds it, those in
/// children included, and it ends with the last of them, however the processes end.
///
/// # Errors
/// `EAGAIN` if another open file description holds it; others as fcntl(2).
pub fn try_lock_description(fd: BorrowedFd<'_>, byte: u64) -> Result<()> {
    let lock = write_lock_on(byte)?;
    // SAFETY: `lock` outlives the call.
    Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) }).map(drop)
}

/// Whether an open file description other than that of `fd` holds a lock on the byte.
///
/// # Errors
/// As fcntl(2).
pub fn is_locked_elsewhere(fd: BorrowedFd<'_>, byte: u64) -> Result<bool> {
    let mut lock = write_lock_on(byte)?;
    // SAFETY: `lock` outlives the call and is a valid place for the answer.
    Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) })?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

/// As [`try_lock_description`], but waits.
///
/// # Errors
/// As fcntl(2).
pub fn lock_description(fd: BorrowedFd<'_>, byte: u64) -> Result<()> {
    let lock = write_lock_on(byte)?;
    loop {
        // SAFETY: `lock` outlives the call.
        match Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLKW, &raw const lock) }) {
            Err(Errno::EINTR) => {}
            answer => return answer.map(drop),
        }
    }
}

/// Ends the lock of this open file description, for all copies of the descriptor.
///
/// # Errors
/// As fcntl(2).
pub fn unlock_description(fd: BorrowedFd<'_>, byte: u64) -> Result<()> {
    let mut lock = write_lock_on(byte)?;
    lock.l_type = libc::F_UNLCK as libc::c_short;
    // SAFETY: `lock` outlives the call.
    Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) }).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::file::{memory_file, reopen};

    #[test]
    fn a_description_lock_ends_with_its_description() {
        let file = memory_file(c"tiermem-test").unwrap();
        let other = reopen(file.as_fd()).unwrap();
        try_lock_description(other.as_fd(), 5).unwrap();
        assert!(is_locked_elsewhere(file.as_fd(), 5).unwrap());
        assert!(!is_locked_elsewhere(file.as_fd(), 6).unwrap());
        assert_eq!(try_lock_description(file.as_fd(), 5), Err(Errno::EAGAIN));
        drop(other);
        assert!(!is_locked_elsewhere(file.as_fd(), 5).unwrap());
    }
}
