//! Files of `/proc`, line by line, without allocating.

use std::ffi::CStr;
use std::os::fd::AsFd;

use tiermem_sys::{Errno, file};

/// Longest line that is read: a path of `PATH_MAX` bytes, and what stands before it.
const LINE_MAX: usize = 4096 + 128;

/// Room for reading: a thread may have little stack.
pub struct Buffer([u8; LINE_MAX]);

impl Buffer {
    pub const fn new() -> Self {
        Self([0; LINE_MAX])
    }

    /// Calls `visit` with each line of a file.
    ///
    /// # Errors
    /// As open(2) and read(2).
    pub fn each_line(&mut self, path: &CStr, mut visit: impl FnMut(&[u8])) -> Result<(), Errno> {
        let fd = file::open_read_only(path)?;
        let Self(buffer) = self;
        let (mut held, mut at) = (0, 0);
        loop {
            let got = file::read_at(fd.as_fd(), &mut buffer[held..], at)?;
            if got == 0 {
                return Ok(());
            }
            at += got as u64;
            held += got;
            let mut start = 0;
            while let Some(len) = buffer[start..held].iter().position(|&byte| byte == b'\n') {
                visit(&buffer[start..start + len]);
                start += len + 1;
            }
            // A line without an end that fills the buffer is no line of these files.
            buffer.copy_within(start..held, 0);
            held -= start;
        }
    }
}
