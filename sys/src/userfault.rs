//! userfaultfd: faults of a range of memory, delivered to user space.
//!
//! Kernel documents: `admin-guide/mm/userfaultfd`, userfaultfd(2), ioctl_userfaultfd(2). The structures below mirror
//! `include/uapi/linux/userfaultfd.h`.

use std::fs::OpenOptions;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::ptr::NonNull;

use crate::{Errno, Result};

const TYPE: u32 = 0xAA;
const API_VERSION: u64 = 0xAA;

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    len: u64,
}

#[repr(C)]
struct Register {
    range: Range,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct Transfer {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    done: i64,
}

#[repr(C)]
struct WriteProtect {
    range: Range,
    mode: u64,
}

#[repr(C)]
struct Continue {
    range: Range,
    mode: u64,
    mapped: i64,
}

const IOCTL_API: libc::Ioctl = libc::_IOWR::<Api>(TYPE, 0x3F);
const IOCTL_REGISTER: libc::Ioctl = libc::_IOWR::<Register>(TYPE, 0x00);
const IOCTL_UNREGISTER: libc::Ioctl = libc::_IOR::<Range>(TYPE, 0x01);
const IOCTL_WAKE: libc::Ioctl = libc::_IOR::<Range>(TYPE, 0x02);
const IOCTL_COPY: libc::Ioctl = libc::_IOWR::<Transfer>(TYPE, 0x03);
const IOCTL_MOVE: libc::Ioctl = libc::_IOWR::<Transfer>(TYPE, 0x05);
const IOCTL_WRITEPROTECT: libc::Ioctl = libc::_IOWR::<WriteProtect>(TYPE, 0x06);
const IOCTL_CONTINUE: libc::Ioctl = libc::_IOWR::<Continue>(TYPE, 0x07);
/// `USERFAULTFD_IOC_NEW` of `/dev/userfaultfd`.
const IOCTL_NEW: libc::Ioctl = libc::_IO(TYPE, 0x00);

/// How much the handler is trusted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Faults of user code and of the kernel acting for it: a system call that touches the range waits like a load.
    /// Needs root, `CAP_SYS_PTRACE`, access to `/dev/userfaultfd`, or `vm.unprivileged_userfaultfd = 1`.
    Full,
    /// Faults of user code only; a system call that touches the range fails with `EFAULT`. Needs no rights.
    UserModeOnly,
}

/// Which faults of a range are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Mode {
    /// OS pages that do not exist yet.
    Missing = 1,
    /// Writes to OS pages that were protected with [`Userfault::write_protect`].
    WriteProtect = 2,
    /// OS pages of a shared file that exist but are not mapped here.
    Minor = 4,
}

/// Optional abilities of the kernel, as `UFFD_FEATURE_*` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub u64);

impl Features {
    /// None.
    pub const NONE: Self = Self(0);
    /// Write protection of anonymous memory.
    pub const WRITE_PROTECT: Self = Self(1);
    /// Minor faults on shared memory files.
    pub const MINOR_SHMEM: Self = Self(1 << 10);
    /// Write protection of shared memory files and hugetlb.
    pub const WRITE_PROTECT_SHMEM: Self = Self(1 << 12);
    /// Write protection of OS pages that do not exist yet (Linux 6.4).
    pub const WRITE_PROTECT_UNPOPULATED: Self = Self(1 << 13);
    /// The kernel resolves write-protect faults itself and only remembers them (Linux 6.7).
    pub const WRITE_PROTECT_ASYNC: Self = Self(1 << 15);
    /// [`Userfault::move_pages`] (Linux 6.8).
    pub const MOVE: Self = Self(1 << 16);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are there.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A fault that waits to be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Address, rounded down to an OS page.
    pub address: usize,
    /// It was a write.
    pub is_write: bool,
    /// It hit a write-protected OS page.
    pub is_write_protect: bool,
    /// It is a minor fault.
    pub is_minor: bool,
}

/// A userfaultfd. Opened non-blocking, because a blocking read could hang its handler when a fault is resolved by
/// another thread in between. Dropping it resolves everything: registered ranges become ordinary memory again.
#[derive(Debug)]
pub struct Userfault {
    fd: OwnedFd,
}

impl Userfault {
    /// Opens one with these features.
    ///
    /// # Errors
    /// `EPERM` without the rights, `ENOSYS` where the kernel has none, `EINVAL` where it lacks a feature.
    pub fn open(rights: Rights, features: Features) -> Result<Self> {
        let fd = match rights {
            Rights::UserModeOnly => syscall(libc::O_CLOEXEC | libc::O_NONBLOCK | 1)?,
            Rights::Full => match syscall(libc::O_CLOEXEC | libc::O_NONBLOCK) {
                // The system call and the device have separate permissions.
                Err(Errno::EPERM) => from_device().map_err(|_| Errno::EPERM)?,
                other => other?,
            },
        };
        let this = Self { fd };
        let mut api = Api { api: API_VERSION, features: features.0, ioctls: 0 };
        // SAFETY: IOCTL_API reads and writes one `Api`.
        unsafe { this.ioctl(IOCTL_API, &mut api)? };
        Ok(this)
    }

    /// Its descriptor moved out of the way of programs: [`file::move_up`](crate::file::move_up).
    #[must_use]
    pub fn moved_up(self, least: i32) -> Self {
        Self { fd: crate::file::move_up(self.fd, least) }
    }

    /// The features that the kernel offers.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn available(rights: Rights) -> Result<Features> {
        let fd = match rights {
            Rights::UserModeOnly => syscall(libc::O_CLOEXEC | libc::O_NONBLOCK | 1)?,
            Rights::Full => {
                syscall(libc::O_CLOEXEC | libc::O_NONBLOCK).or_else(|_| from_device().map_err(|_| Errno::EPERM))?
            }
        };
        let this = Self { fd };
        let mut api = Api { api: API_VERSION, features: 0, ioctls: 0 };
        // SAFETY: IOCTL_API reads and writes one `Api`.
        unsafe { this.ioctl(IOCTL_API, &mut api)? };
        Ok(Features(api.features))
    }

    /// # Safety
    /// `request` reads and writes at most a `T`.
    unsafe fn ioctl<T>(&self, request: libc::Ioctl, argument: &mut T) -> Result<()> {
        // SAFETY: the descriptor is ours, the argument is valid for reads and writes as the caller promises.
        let rc = unsafe { libc::ioctl(self.fd.as_raw_fd(), request, &raw mut *argument) };
        Errno::result(rc).map(drop)
    }

    /// Delivers the faults of a range from now on.
    ///
    /// # Errors
    /// `EINVAL` for memory of an unsuitable kind, `EBUSY` if another userfaultfd has it.
    ///
    /// # Safety
    /// The caller owns the range, and answers every fault or drops `self`: until then the faulting thread waits.
    pub unsafe fn register(&self, at: NonNull<u8>, len: usize, mode: Mode) -> Result<()> {
        let mut argument = Register { range: range(at, len), mode: mode as u64, ioctls: 0 };
        // SAFETY: IOCTL_REGISTER reads and writes one `Register`.
        unsafe { self.ioctl(IOCTL_REGISTER, &mut argument) }
    }

    /// Makes a range ordinary memory again and wakes whoever waits in it.
    ///
    /// # Errors
    /// As ioctl_userfaultfd(2).
    pub fn unregister(&self, at: NonNull<u8>, len: usize) -> Result<()> {
        // SAFETY: IOCTL_UNREGISTER reads one `Range`.
        unsafe { self.ioctl(IOCTL_UNREGISTER, &mut range(at, len)) }
    }

    /// Wakes the threads that wait in a range; they fault again if nothing has changed.
    ///
    /// # Errors
    /// As ioctl_userfaultfd(2).
    pub fn wake(&self, at: NonNull<u8>, len: usize) -> Result<()> {
        // SAFETY: IOCTL_WAKE reads one `Range`.
        unsafe { self.ioctl(IOCTL_WAKE, &mut range(at, len)) }
    }

    /// Protects a range (registered with [`Mode::WriteProtect`]) against writes, or lifts that and wakes the writers.
    ///
    /// # Errors
    /// `EAGAIN` if the address space is just changing (retry); `ENOENT` if the range is not registered.
    pub fn write_protect(&self, at: NonNull<u8>, len: usize, protect: bool) -> Result<()> {
        let mut argument = WriteProtect { range: range(at, len), mode: u64::from(protect) };
        // SAFETY: IOCTL_WRITEPROTECT reads one `WriteProtect`.
        unsafe { self.ioctl(IOCTL_WRITEPROTECT, &mut argument) }
    }

    /// Fills missing OS pages with the bytes of `from` and wakes whoever waits for them.
    ///
    /// # Errors
    /// `EEXIST` if an OS page is there already; `EAGAIN` as above.
    ///
    /// # Safety
    /// The caller owns the registered range `at .. at + from.len()`.
    pub unsafe fn copy(&self, at: NonNull<u8>, from: &[u8]) -> Result<()> {
        let mut argument =
            Transfer { dst: at.as_ptr() as u64, src: from.as_ptr() as u64, len: from.len() as u64, mode: 0, done: 0 };
        // SAFETY: IOCTL_COPY reads and writes one `Transfer`; the kernel only reads `from`.
        unsafe { self.ioctl(IOCTL_COPY, &mut argument) }
    }

    /// Moves OS pages of anonymous memory from `from` to missing ones at `to`, without copying. `from` then reads as
    /// zeroes. Needs [`Features::MOVE`].
    ///
    /// # Errors
    /// `EBUSY` for OS pages that are shared or pinned; `EEXIST` if one is there already at `to`.
    ///
    /// # Safety
    /// The caller owns both ranges; `to` is registered with [`Mode::Missing`]; nothing relies on what is at `from`.
    pub unsafe fn move_pages(&self, to: NonNull<u8>, from: NonNull<u8>, len: usize) -> Result<()> {
        let mut argument =
            Transfer { dst: to.as_ptr() as u64, src: from.as_ptr() as u64, len: len as u64, mode: 0, done: 0 };
        // SAFETY: IOCTL_MOVE reads and writes one `Transfer`.
        unsafe { self.ioctl(IOCTL_MOVE, &mut argument) }
    }

    /// Maps the existing OS pages of a shared file into a range registered with [`Mode::Minor`], and wakes.
    ///
    /// # Errors
    /// `EEXIST` if mapped already; `EFAULT` if the file has no OS page there.
    pub fn resume_minor(&self, at: NonNull<u8>, len: usize) -> Result<()> {
        let mut argument = Continue { range: range(at, len), mode: 0, mapped: 0 };
        // SAFETY: IOCTL_CONTINUE reads and writes one `Continue`.
        unsafe { self.ioctl(IOCTL_CONTINUE, &mut argument) }
    }

    /// The next fault, waiting for at most `timeout_ms`; `None` if there was none.
    ///
    /// # Errors
    /// As poll(2) and read(2).
    pub fn next_fault(&self, timeout_ms: u16) -> Result<Option<Fault>> {
        const MESSAGE: usize = 32;
        const EVENT_PAGEFAULT: u8 = 0x12;
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        let ready = Errno::result(unsafe { libc::poll(&raw mut poll, 1, i32::from(timeout_ms)) });
        match ready {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(errno),
        }
        let mut message = [0u8; MESSAGE];
        match nix::unistd::read(&self.fd, &mut message) {
            Ok(MESSAGE) if message[0] == EVENT_PAGEFAULT => {}
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        let word = |at: usize| message.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes);
        let flags = word(8);
        Ok(Some(Fault {
            address: usize::try_from(word(16)).unwrap_or(0),
            is_write: flags & 1 != 0,
            is_write_protect: flags & 2 != 0,
            is_minor: flags & 4 != 0,
        }))
    }
}

impl AsFd for Userfault {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn range(at: NonNull<u8>, len: usize) -> Range {
    Range { start: at.as_ptr() as u64, len: len as u64 }
}

fn syscall(flags: i32) -> Result<OwnedFd> {
    // SAFETY: userfaultfd takes flags only.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_userfaultfd, flags) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn from_device() -> io::Result<OwnedFd> {
    let device = OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open("/dev/userfaultfd")?;
    // SAFETY: this request takes open flags as its argument and returns a new descriptor.
    let fd = unsafe { libc::ioctl(device.as_raw_fd(), IOCTL_NEW, libc::O_CLOEXEC | libc::O_NONBLOCK) };
    let fd = Errno::result(fd)?;
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

const _: () = assert!(size_of::<Api>() == 24 && size_of::<Register>() == 32 && size_of::<Transfer>() == 40);
const _: () = assert!(size_of::<WriteProtect>() == 24 && size_of::<Continue>() == 32);
const _: () = assert!(offset_of!(Transfer, done) == 32);
