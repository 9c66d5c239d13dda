//! Files as memory: opening, space, holes and locks. Nothing here allocates.

mod locks;

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::text::PathBuffer;
use crate::{Errno, Result};

pub use locks::{is_locked_elsewhere, lock_description, try_lock_description, unlock_description};

/// How [`open`] treats a file that does or does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It must exist.
    Required,
    /// It is made (mode 0600) if it does not.
    OrCreate,
    /// It must not exist, and is made (mode 0600).
    Forbidden,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A regular file (or memfd).
    Regular,
    /// A character device.
    CharDevice,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// Names a file for as long as it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Device number of the file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// What fstat(2) says about an open file.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// Which file it is.
    pub identity: Identity,
    /// What it is.
    pub file_type: FileType,
    /// Length in bytes.
    pub size: u64,
    /// Space that it takes, bytes.
    pub allocated: u64,
    /// Owner.
    pub uid: u32,
    /// Names that it has; 0 once it was unlinked.
    pub links: u64,
    /// For a device, its own number.
    pub device_number: u64,
}

/// Opens a file for reading and writing; the last component is not followed if it is a symbolic link.
///
/// # Errors
/// As open(2).
pub fn open(path: &CStr, existing: Existing, direct: bool) -> Result<OwnedFd> {
    let create = match existing {
        Existing::Required => 0,
        Existing::OrCreate => libc::O_CREAT,
        Existing::Forbidden => libc::O_CREAT | libc::O_EXCL,
    };
    let direct = if direct { libc::O_DIRECT } else { 0 };
    open_with(path, libc::O_RDWR | libc::O_NOFOLLOW | create | direct)
}

/// Makes a file without a name in a directory; it vanishes with its last descriptor.
///
/// # Errors
/// As open(2); `EOPNOTSUPP` or `EISDIR` where the file system has no such files.
pub fn open_unnamed(directory: &CStr, direct: bool) -> Result<OwnedFd> {
    let direct = if direct { libc::O_DIRECT } else { 0 };
    open_with(directory, libc::O_RDWR | libc::O_TMPFILE | direct)
}

fn open_with(path: &CStr, flags: i32) -> Result<OwnedFd> {
    let mode: libc::c_uint = 0o600;
    // SAFETY: `path` ends in NUL.
    let fd = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Removes a file.
///
/// # Errors
/// As unlink(2).
pub fn remove(path: &CStr) -> Result<()> {
    // SAFETY: `path` ends in NUL.
    Errno::result(unsafe { libc::unlink(path.as_ptr()) }).map(drop)
}

/// Opens a file for reading only.
///
/// # Errors
/// As open(2).
pub fn open_read_only(path: &CStr) -> Result<OwnedFd> {
    // SAFETY: `path` ends in NUL.
    let fd = Errno::result(unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) })?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a file for writing only, as some of `/proc` must be.
///
/// # Errors
/// As open(2).
pub fn open_write_only(path: &CStr) -> Result<OwnedFd> {
    open_with(path, libc::O_WRONLY)
}

/// Reads the start of a small file (of `/proc` or `/sys`) and gives the number of bytes.
///
/// # Errors
/// As open(2) and read(2).
pub fn read_small(path: &CStr, into: &mut [u8]) -> Result<usize> {
    let fd = open_read_only(path)?;
    read_at(fd.as_fd(), into, 0)
}

/// Calls `with` with the path of the working directory.
///
/// # Errors
/// As getcwd(2).
pub fn working_directory<R>(with: impl FnOnce(&[u8]) -> R) -> Result<R> {
    let mut path = [0u8; libc::PATH_MAX as usize];
    // SAFETY: `path` is writable for its whole length.
    let found = unsafe { libc::getcwd(path.as_mut_ptr().cast(), path.len()) };
    if found.is_null() {
        return Err(Errno::last());
    }
    Ok(with(CStr::from_bytes_until_nul(&path).map_or(b"", CStr::to_bytes)))
}

/// Opens the same file anew, with an open file description (and so with locks) of its own.
///
/// # Errors
/// As open(2); needs `/proc`.
pub fn reopen(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut path = PathBuffer::new();
    // Not /proc/self, which is empty once the first thread has left with pthread_exit.
    path.push(b"/proc/thread-self/fd/").push_number(u64::from(fd.as_raw_fd().unsigned_abs()));
    open_with(path.as_c_str(), libc::O_RDWR)
}

/// Moves a descriptor out of the way of programs, to a number of at least `least` if the limit on open files allows.
pub fn move_up(fd: OwnedFd, least: i32) -> OwnedFd {
    // SAFETY: duplicating a descriptor has no preconditions.
    let up = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) };
    if up < 0 {
        return fd;
    }
    // SAFETY: the kernel has just given us this descriptor.
    unsafe { OwnedFd::from_raw_fd(up) }
}

/// An anonymous file in memory, of length zero.
///
/// # Errors
/// As memfd_create(2).
pub fn memory_file(name: &CStr) -> Result<OwnedFd> {
    // SAFETY: `name` ends in NUL.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What is known about an open file.
///
/// # Errors
/// As fstat(2).
pub fn status(fd: BorrowedFd<'_>) -> Result<Status> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` is a valid place for the answer.
    Errno::result(unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded and filled it in.
    let stat = unsafe { stat.assume_init() };
    let file_type = match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => FileType::Regular,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFDIR => FileType::Directory,
        _ => FileType::Other,
    };
    Ok(Status {
        identity: Identity { device: stat.st_dev, inode: stat.st_ino },
        file_type,
        size: stat.st_size.unsigned_abs(),
        allocated: stat.st_blocks.unsigned_abs() * 512,
        uid: stat.st_uid,
        #[expect(clippy::useless_conversion, reason = "u64 here, u32 on other architectures")]
        links: u64::from(stat.st_nlink),
        device_number: stat.st_rdev,
    })
}

/// When the file was made, nanoseconds since 1970; 0 where the file system does not keep it.
///
/// # Errors
/// As statx(2).
pub fn birth_ns(fd: BorrowedFd<'_>) -> Result<u64> {
    let mut answer = MaybeUninit::<libc::statx>::zeroed();
    let (flags, mask) = (libc::AT_EMPTY_PATH, libc::STATX_BTIME);
    // SAFETY: the path ends in NUL, and `answer` is a valid place for the answer.
    let rc = unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, mask, answer.as_mut_ptr()) };
    Errno::result(rc)?;
    // SAFETY: the call succeeded and filled it in.
    let answer = unsafe { answer.assume_init() };
    if answer.stx_mask & libc::STATX_BTIME == 0 {
        return Ok(0);
    }
    let seconds = u64::try_from(answer.stx_btime.tv_sec).unwrap_or(0);
    Ok(seconds.wrapping_mul(1_000_000_000).wrapping_add(answer.stx_btime.tv_nsec.into()))
}

fn signed(value: u64) -> Result<libc::off_t> {
    libc::off_t::try_from(value).map_err(|_| Errno::EOVERFLOW)
}

fn fallocate(fd: BorrowedFd<'_>, mode: i32, offset: u64, len: u64) -> Result<()> {
    let (offset, len) = (signed(offset)?, signed(len)?);
    loop {
        // SAFETY: no memory is passed.
        match Errno::result(unsafe { libc::fallocate(fd.as_raw_fd(), mode, offset, len) }) {
            Err(Errno::EINTR) => {}
            answer => return answer.map(drop),
        }
    }
}

/// Makes sure that a range of the file has space of its own, so that writing to it cannot fail for want of space. The
/// file keeps its length: one that somebody has cut is not made longer again.
///
/// # Errors
/// As fallocate(2): `ENOSPC`, `EDQUOT`; `EOPNOTSUPP` where the file system cannot promise space.
pub fn reserve_space(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
    fallocate(fd, libc::FALLOC_FL_KEEP_SIZE, offset, len)
}

/// Gives the space of a range back; it reads as zeroes, and the file keeps its length.
///
/// # Errors
/// As fallocate(2); `EOPNOTSUPP` where the file system has no holes.
pub fn punch_hole(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
    fallocate(fd, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, offset, len)
}

/// Sets the length of a file.
///
/// # Errors
/// As ftruncate(2).
pub fn set_size(fd: BorrowedFd<'_>, size: u64) -> Result<()> {
    let size = signed(size)?;
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::ftruncate(fd.as_raw_fd(), size) }).map(drop)
}

/// Start of the first data at or after `from`; `None` if only holes follow.
///
/// # Errors
/// As lseek(2).
pub fn next_data(fd: BorrowedFd<'_>, from: u64) -> Result<Option<u64>> {
    let from = signed(from)?;
    // SAFETY: no memory is passed.
    match Errno::result(unsafe { libc::lseek(fd.as_raw_fd(), from, libc::SEEK_DATA) }) {
        Ok(at) => Ok(Some(at.unsigned_abs())),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Reads at an offset until `into` is full or the file ends; gives the number of bytes read.
///
/// # Errors
/// As pread(2).
pub fn read_at(fd: BorrowedFd<'_>, into: &mut [u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while done < into.len() {
        let rest = &mut into[done..];
        let at = signed(offset + done as u64)?;
        // SAFETY: `rest` is writable for its whole length.
        match Errno::result(unsafe { libc::pread(fd.as_raw_fd(), rest.as_mut_ptr().cast(), rest.len(), at) }) {
            Ok(0) => break,
            Ok(got) => done += got.unsigned_abs(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

/// Writes all of `from` at an offset.
///
/// # Errors
/// As pwrite(2).
pub fn write_at(fd: BorrowedFd<'_>, from: &[u8], offset: u64) -> Result<()> {
    let mut done = 0;
    while done < from.len() {
        let rest = &from[done..];
        let at = signed(offset + done as u64)?;
        // SAFETY: `rest` is readable for its whole length.
        match Errno::result(unsafe { libc::pwrite(fd.as_raw_fd(), rest.as_ptr().cast(), rest.len(), at) }) {
            Ok(0) => return Err(Errno::EIO),
            Ok(put) => done += put.unsigned_abs(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_holes_and_data() {
        let file = memory_file(c"tiermem-test").unwrap();
        set_size(file.as_fd(), 1 << 20).unwrap();
        assert_eq!(next_data(file.as_fd(), 0).unwrap(), None);
        write_at(file.as_fd(), b"x", 70_000).unwrap();
        let data = next_data(file.as_fd(), 0).unwrap().unwrap();
        assert!(data <= 70_000 && data + 65_536 > 70_000);
        reserve_space(file.as_fd(), 0, 1 << 20).unwrap();
        assert!(status(file.as_fd()).unwrap().allocated >= 1 << 20);
        punch_hole(file.as_fd(), 0, 1 << 20).unwrap();
        assert_eq!(status(file.as_fd()).unwrap().allocated, 0);
        reserve_space(file.as_fd(), 1 << 20, 1 << 20).unwrap();
        assert_eq!(status(file.as_fd()).unwrap().size, 1 << 20, "beyond the end it does not grow");
        let mut byte = [1];
        assert_eq!(read_at(file.as_fd(), &mut byte, 70_000).unwrap(), 1);
        assert_eq!(byte, [0]);
    }
}
