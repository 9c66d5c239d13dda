//! Address space: reserving, committing and releasing it. Nothing here allocates.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{Errno, Result};

/// Size of an OS page in bytes (4 KiB on x86-64; 4, 16 or 64 KiB on AArch64).
pub fn os_page_size() -> usize {
    static CACHED: AtomicUsize = AtomicUsize::new(0);
    // Relaxed: the value is the same whoever stores it.
    let known = CACHED.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    // SAFETY: sysconf has no preconditions.
    let answer = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let size = usize::try_from(answer).unwrap_or(4096);
    CACHED.store(size, Ordering::Relaxed);
    size
}

/// How a file is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Writes go to the file.
    Shared,
    /// Writes go to private copies of the OS pages.
    CopyOnWrite,
}

/// What a fixed mapping may do to what is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Replace it (`MAP_FIXED`): the caller owns the range.
    Replace,
    /// Fail with `EEXIST` (`MAP_FIXED_NOREPLACE`): the range is expected to be empty.
    Exclusive,
}

impl Placement {
    const fn flag(self) -> i32 {
        match self {
            Self::Replace => libc::MAP_FIXED,
            Self::Exclusive => libc::MAP_FIXED_NOREPLACE,
        }
    }
}

/// Calls mmap; kernels older than 4.17 take `MAP_FIXED_NOREPLACE` for a hint, so the address is checked.
///
/// # Safety
/// With `MAP_FIXED` in `flags`, the caller owns `at .. at + len`.
unsafe fn mmap(at: *mut u8, len: usize, prot: i32, flags: i32, fd: i32, offset: u64) -> Result<NonNull<u8>> {
    let offset = libc::off_t::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the caller vouches for a fixed range; without MAP_FIXED the kernel only uses free address space.
    let got = unsafe { libc::mmap(at.cast(), len, prot, flags, fd, offset) };
    if got == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    let got = got.cast::<u8>();
    if flags & libc::MAP_FIXED_NOREPLACE != 0 && got != at {
        // SAFETY: the kernel has just made this mapping for us, elsewhere than asked.
        unsafe { libc::munmap(got.cast(), len) };
        return Err(Errno::EEXIST);
    }
    NonNull::new(got).ok_or(Errno::EFAULT)
}

/// Reserves `len` bytes of inaccessible address space, aligned to `align` (a power of two, at least an OS page).
/// Costs neither memory nor commit charge, but counts towards `RLIMIT_AS`.
///
/// # Errors
/// `ENOMEM` if there is no such range; `EINVAL` for a bad alignment.
pub fn reserve(len: usize, align: usize) -> Result<NonNull<u8>> {
    const FLAGS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    if !align.is_power_of_two() || align < os_page_size() {
        return Err(Errno::EINVAL);
    }
    let padded = len.checked_add(align).ok_or(Errno::ENOMEM)?;
    // SAFETY: not a fixed mapping.
    let start = unsafe { mmap(ptr::null_mut(), padded, libc::PROT_NONE, FLAGS, -1, 0)? };
    let head = start.as_ptr().align_offset(align);
    let aligned = start.as_ptr().wrapping_add(head);
    // The two ends that the alignment did not need go back; failing to would only waste address space.
    if head > 0 {
        // SAFETY: `start .. start + head` is the unused front of our own new mapping.
        unsafe { libc::munmap(start.as_ptr().cast(), head) };
    }
    let tail = padded - head - len;
    if tail > 0 {
        // SAFETY: the unused end of our own new mapping.
        unsafe { libc::munmap(aligned.wrapping_add(len).cast(), tail) };
    }
    NonNull::new(aligned).ok_or(Errno::EFAULT)
}

/// Maps `len` bytes of zeroed, readable and writable anonymous memory, anywhere.
///
/// # Errors
/// As mmap(2).
pub fn anonymous(len: usize) -> Result<NonNull<u8>> {
    const FLAGS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: not a fixed mapping.
    unsafe { mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, FLAGS, -1, 0) }
}

/// Maps zeroed anonymous memory at `at`.
///
/// # Errors
/// As mmap(2); `EEXIST` if exclusive and something is there.
///
/// # Safety
/// With [`Placement::Replace`], the caller owns `at .. at + len` and nothing refers to what is in it.
pub unsafe fn anonymous_at(at: NonNull<u8>, len: usize, placement: Placement) -> Result<()> {
    // Without MAP_NORESERVE: the kernel refuses at once what is more than the machine has.
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | placement.flag();
    // SAFETY: passed on to the caller.
    unsafe { mmap(at.as_ptr(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) }.map(drop)
}

/// Maps zeroed memory at `at` from the kernel's reserve of 2 MiB huge pages, which the mapping then has for sure.
///
/// # Errors
/// `ENOMEM` if the reserve has too few left, `EINVAL` where there are no such pages; as [`anonymous_at`].
///
/// # Safety
/// As [`anonymous_at`].
pub unsafe fn reserved_huge_at(at: NonNull<u8>, len: usize, placement: Placement) -> Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB | placement.flag();
    // SAFETY: passed on to the caller.
    unsafe { mmap(at.as_ptr(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) }.map(drop)
}

/// Maps a file from byte `offset` of it at `at`.
///
/// # Errors
/// As mmap(2); `EEXIST` if exclusive and something is there.
///
/// # Safety
/// With [`Placement::Replace`], the caller owns `at .. at + len`. Replacing a mapping of the same part of the same
/// file is sound at any time: what other threads read and write there is not lost.
pub unsafe fn file_at(
    at: NonNull<u8>,
    len: usize,
    file: BorrowedFd<'_>,
    offset: u64,
    sharing: Sharing,
    placement: Placement,
) -> Result<()> {
    let share = match sharing {
        Sharing::Shared => libc::MAP_SHARED,
        Sharing::CopyOnWrite => libc::MAP_PRIVATE | libc::MAP_NORESERVE,
    };
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: passed on to the caller.
    unsafe { mmap(at.as_ptr(), len, prot, share | placement.flag(), file.as_raw_fd(), offset) }.map(drop)
}

/// Maps a file shared, anywhere.
///
/// # Errors
/// As mmap(2).
pub fn file_shared(len: usize, file: BorrowedFd<'_>, offset: u64) -> Result<NonNull<u8>> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: not a fixed mapping.
    unsafe { mmap(ptr::null_mut(), len, prot, libc::MAP_SHARED, file.as_raw_fd(), offset) }
}

/// Turns a range back into an inaccessible reservation, dropping what was in it.
///
/// # Errors
/// As mmap(2).
///
/// # Safety
/// The caller owns the range and nothing refers to what is in it.
pub unsafe fn decommit(at: NonNull<u8>, len: usize) -> Result<()> {
    const FLAGS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: passed on to the caller.
    unsafe { mmap(at.as_ptr(), len, libc::PROT_NONE, FLAGS, -1, 0) }.map(drop)
}

/// Unmaps a range.
///
/// # Errors
/// As munmap(2).
///
/// # Safety
/// The caller owns the range and nothing refers to what is in it.
pub unsafe fn unmap(at: NonNull<u8>, len: usize) -> Result<()> {
    // SAFETY: passed on to the caller.
    let rc = unsafe { libc::munmap(at.as_ptr().cast(), len) };
    Errno::result(rc).map(drop)
}

/// Advice for [`advise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Give the OS pages back now; anonymous memory reads as zeroes afterwards.
    DontNeed,
    /// Back the range with huge pages where possible.
    HugePage,
    /// Do not.
    NoHugePage,
    /// Leave the range out of core dumps.
    DontDump,
    /// A child of fork does not get the range.
    DontFork,
    /// Make the OS pages present and writable now (Linux 5.14).
    PopulateWrite,
    /// Collapse the range into huge pages now (Linux 6.1).
    Collapse,
    /// Punch a hole into the mapped file.
    Remove,
    /// Treat the OS pages as though the hardware had reported an uncorrectable error (needs `CAP_SYS_ADMIN` and
    /// `CONFIG_MEMORY_FAILURE`): whoever maps them loses them. For tests.
    Poison,
}

/// Advises the kernel about a range.
///
/// # Errors
/// As madvise(2); `EINVAL` where the kernel does not know the advice.
///
/// # Safety
/// The caller owns the range; after `DontNeed` and `Remove` nothing may rely on what was in it.
pub unsafe fn advise(at: NonNull<u8>, len: usize, advice: Advice) -> Result<()> {
    let advice = match advice {
        Advice::DontNeed => libc::MADV_DONTNEED,
        Advice::HugePage => libc::MADV_HUGEPAGE,
        Advice::NoHugePage => libc::MADV_NOHUGEPAGE,
        Advice::DontDump => libc::MADV_DONTDUMP,
        Advice::DontFork => libc::MADV_DONTFORK,
        Advice::PopulateWrite => libc::MADV_POPULATE_WRITE,
        Advice::Collapse => libc::MADV_COLLAPSE,
        Advice::Remove => libc::MADV_REMOVE,
        Advice::Poison => libc::MADV_HWPOISON,
    };
    // SAFETY: passed on to the caller.
    let rc = unsafe { libc::madvise(at.as_ptr().cast(), len, advice) };
    Errno::result(rc).map(drop)
}

/// Makes a range inaccessible, or accessible again; what is in it stays.
///
/// # Errors
/// As mprotect(2): `ENOMEM` where the process may not have so many mappings.
///
/// # Safety
/// The caller owns the range; while it is inaccessible nothing may touch it.
pub unsafe fn protect(at: NonNull<u8>, len: usize, accessible: bool) -> Result<()> {
    let protection = if accessible { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_NONE };
    // SAFETY: passed on to the caller.
    Errno::result(unsafe { libc::mprotect(at.as_ptr().cast(), len, protection) }).map(drop)
}

/// Reads memory that may not be mapped, or not be readable. False if it is not, or if the kernel's answer is not to be had.
///
/// Through process_vm_readv(2), so that a wrong address is an error and not a signal.
pub fn read_if_mapped(at: *const u8, into: &mut [u8]) -> bool {
    let own = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let there = libc::iovec { iov_base: at.cast_mut().cast(), iov_len: into.len() };
    // SAFETY: `into` is writable for its whole length; the kernel checks the other range itself.
    let read = unsafe { libc::process_vm_readv(libc::getpid(), &raw const own, 1, &raw const there, 1, 0) };
    usize::try_from(read) == Ok(into.len())
}

/// The process's limit on its address space (`RLIMIT_AS`) in bytes, `None` if unlimited.
pub fn address_space_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    let rc = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) };
    (rc == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}
