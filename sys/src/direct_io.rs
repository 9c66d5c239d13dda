//! Reading and writing files past the OS's cache (O_DIRECT), through io_uring where it is allowed. May allocate.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use io_uring::{IoUring, opcode, types};

use crate::{Errno, Result, file};

/// Alignment of buffers, offsets and lengths that every block device accepts, bytes.
pub const ALIGNMENT: usize = 4096;

/// Memory that direct I/O can use: aligned to [`ALIGNMENT`].
#[derive(Debug)]
pub struct AlignedBuffer {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: the buffer owns its memory, like a boxed slice.
unsafe impl Send for AlignedBuffer {}

impl AlignedBuffer {
    /// A zeroed buffer of `len` bytes, a multiple of [`ALIGNMENT`] above zero.
    ///
    /// # Panics
    /// If it is not.
    pub fn new(len: usize) -> Self {
        assert!(len > 0 && len.is_multiple_of(ALIGNMENT), "direct I/O wants whole blocks");
        let layout = Self::layout(len);
        // SAFETY: the layout has a size above zero.
        let at = unsafe { alloc_zeroed(layout) };
        let Some(at) = NonNull::new(at) else { handle_alloc_error(layout) };
        Self { at, len }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, ALIGNMENT).unwrap_or_else(|_| Layout::new::<u64>())
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the memory is ours, initialised, and borrowed as long as the buffer.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.at.as_ptr(), Self::layout(self.len)) }
    }
}

/// A way to do I/O, one request at a time.
pub enum DirectIo {
    /// Through a ring of this process.
    Uring(Box<IoUring>),
    /// pread(2) and pwrite(2).
    Pread,
}

impl std::fmt::Debug for DirectIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Uring(_) => "Uring",
            Self::Pread => "Pread",
        })
    }
}

impl DirectIo {
    /// Sets a ring up.
    ///
    /// # Errors
    /// As io_uring_setup(2): `EPERM` or `ENOSYS` where it is forbidden, `ENOMEM` under a tight lock limit.
    pub fn uring() -> Result<Self> {
        let ring = IoUring::new(4).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        Ok(Self::Uring(Box::new(ring)))
    }

    /// Fills `into` from byte `offset` of the file.
    ///
    /// # Errors
    /// As pread(2); `EIO` if the file ends before.
    pub fn read(&mut self, fd: BorrowedFd<'_>, into: &mut [u8], offset: u64) -> Result<()> {
        let Self::Uring(ring) = self else {
            let got = file::read_at(fd, into, offset)?;
            return if got == into.len() { Ok(()) } else { Err(Errno::EIO) };
        };
        let mut done = 0;
        while done < into.len() {
            let rest = &mut into[done..];
            let len = u32::try_from(rest.len()).unwrap_or(1 << 30);
            let request = opcode::Read::new(types::Fd(fd.as_raw_fd()), rest.as_mut_ptr(), len)
                .offset(offset + done as u64)
                .build();
            // SAFETY: `rest` is writable for `len` bytes and borrowed until the request has completed.
            done += unsafe { complete(ring, &request) }?;
        }
        Ok(())
    }

    /// Writes all of `from` to byte `offset` of the file.
    ///
    /// # Errors
    /// As pwrite(2).
    pub fn write(&mut self, fd: BorrowedFd<'_>, from: &[u8], offset: u64) -> Result<()> {
        let Self::Uring(ring) = self else { return file::write_at(fd, from, offset) };
        let mut done = 0;
        while done < from.len() {
            let rest = &from[done..];
            let len = u32::try_from(rest.len()).unwrap_or(1 << 30);
            let request =
                opcode::Write::new(types::Fd(fd.as_raw_fd()), rest.as_ptr(), len).offset(offset + done as u64).build();
            // SAFETY: `rest` is readable for `len` bytes and borrowed until the request has completed.
            done += unsafe { complete(ring, &request) }?;
        }
        Ok(())
    }
}

/// Submits one request and waits until it has completed; gives the number of bytes, above zero.
///
/// # Safety
/// The memory that the request names must stay valid until this returns.
unsafe fn complete(ring: &mut IoUring, request: &io_uring::squeue::Entry) -> Result<usize> {
    // SAFETY: passed on to the caller; we do not return before the completion.
    unsafe { ring.submission().push(request) }.map_err(|_| Errno::EAGAIN)?;
    loop {
        match ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            // The request may be under way with the caller's memory, so giving up is not an option.
            Err(_) if ring.completion().is_empty() => std::thread::yield_now(),
            Err(_) => {}
        }
        if let Some(answer) = ring.completion().next() {
            return match answer.result() {
                0 => Err(Errno::EIO),
                bytes if bytes > 0 => Ok(bytes.unsigned_abs() as usize),
                errno if -errno == libc::EAGAIN || -errno == libc::EINTR => Ok(0),
                errno => Err(Errno::from_raw(-errno)),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn both_ways_read_what_either_wrote() {
        let fd = file::memory_file(c"tiermem-test").unwrap();
        file::set_size(fd.as_fd(), 1 << 20).unwrap();
        let mut ways = vec![DirectIo::Pread];
        match DirectIo::uring() {
            Ok(ring) => ways.push(ring),
            Err(errno) => eprintln!("SKIP both_ways_read_what_either_wrote (io_uring): {errno}"),
        }
        let mut buffer = AlignedBuffer::new(8192);
        for writer in 0..ways.len() {
            buffer.bytes().fill(writer as u8 + 1);
            ways[writer].write(fd.as_fd(), buffer.bytes(), 4096).unwrap();
            for reader in &mut ways {
                buffer.bytes().fill(0);
                reader.read(fd.as_fd(), buffer.bytes(), 4096).unwrap();
                assert!(buffer.bytes().iter().all(|&byte| byte == writer as u8 + 1));
            }
        }
        // Behind the end of the file is an error, not a short answer.
        for reader in &mut ways {
            assert_eq!(reader.read(fd.as_fd(), buffer.bytes(), (1 << 20) - 4096), Err(Errno::EIO));
        }
    }
}
