//! Trials of storage access.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::{Obstacle, Outcome};

/// Sends a request that does nothing through an io_uring of its own.
///
/// # Errors
/// Where it stopped; `EPERM` or `ENOSYS` where it is forbidden.
pub fn io_uring() -> Outcome {
    let mut ring = io_uring::IoUring::new(2).map_err(Obstacle::io("setting up an io_uring"))?;
    let request = io_uring::opcode::Nop::new().build().user_data(42);
    // SAFETY: a request without buffers.
    let pushed = unsafe { ring.submission().push(&request) };
    pushed.map_err(|_| Obstacle::silent("queueing a request"))?;
    ring.submit_and_wait(1).map_err(Obstacle::io("submitting a request"))?;
    match ring.completion().next() {
        Some(answer) if answer.user_data() == 42 && answer.result() == 0 => Ok(()),
        _ => Err(Obstacle::silent("getting the answer")),
    }
}

/// Writes 4 KiB to an unnamed file in a directory past the OS's cache, and reads it back.
///
/// # Errors
/// Where it stopped; `EINVAL` where the file system cannot.
pub fn direct_io(directory: &Path) -> Outcome {
    const SIZE: usize = 4096;
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE | libc::O_DIRECT | libc::O_CLOEXEC)
        .mode(0o600)
        .open(directory)
        .map_err(Obstacle::io("opening an unnamed file with O_DIRECT"))?;
    let mut buffer = Aligned::new().ok_or(Obstacle::silent("allocating an aligned buffer"))?;
    let bytes = buffer.bytes();
    bytes.fill(42);
    file.write_all_at(bytes, 0).map_err(Obstacle::io("writing 4 KiB with O_DIRECT"))?;
    bytes.fill(0);
    file.read_exact_at(bytes, 0).map_err(Obstacle::io("reading 4 KiB with O_DIRECT"))?;
    if bytes.iter().all(|&b| b == 42) && bytes.len() == SIZE {
        Ok(())
    } else {
        Err(Obstacle::silent("reading it back"))
    }
}

/// 4 KiB at an address that every device takes.
struct Aligned(std::ptr::NonNull<u8>);

impl Aligned {
    const LAYOUT: Layout = match Layout::from_size_align(4096, 4096) {
        Ok(layout) => layout,
        Err(_) => panic!("4096 is a power of two"),
    };

    fn new() -> Option<Self> {
        // SAFETY: the layout is not empty.
        std::ptr::NonNull::new(unsafe { alloc_zeroed(Self::LAYOUT) }).map(Self)
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: 4096 initialised bytes that this value owns, borrowed as long as it is.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr(), 4096) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`.
        unsafe { dealloc(self.0.as_ptr(), Self::LAYOUT) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_there_is_an_obstacle() {
        let obstacle = direct_io(Path::new("/nonexistent/tiermem")).unwrap_err();
        assert_eq!(obstacle.errno, Some(crate::Errno::ENOENT));
    }
}
