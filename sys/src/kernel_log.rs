//! The kernel's messages. Allocates.

use std::ptr;

use crate::{Errno, Result};

/// syslog(2), `SYSLOG_ACTION_READ_ALL`: what is in the buffer, without taking it out.
const READ_ALL: i32 = 3;
/// `SYSLOG_ACTION_SIZE_BUFFER`.
const SIZE: i32 = 10;

/// What is in the kernel's ring buffer of messages, oldest first.
///
/// # Errors
/// As syslog(2): `EPERM` without `CAP_SYSLOG` where `kernel.dmesg_restrict` is set.
pub fn read() -> Result<String> {
    // SAFETY: this action reads no memory of ours.
    let size = Errno::result(unsafe { libc::klogctl(SIZE, ptr::null_mut(), 0) })?;
    let mut bytes = vec![0_u8; usize::try_from(size).unwrap_or(0)];
    // SAFETY: `bytes` is writable for `size` bytes.
    let len = Errno::result(unsafe { libc::klogctl(READ_ALL, bytes.as_mut_ptr().cast(), size) })?;
    bytes.truncate(usize::try_from(len).unwrap_or(0));
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use crate::Errno;

    #[test]
    fn the_log_is_read_or_refused() {
        match super::read() {
            Ok(_) | Err(Errno::EPERM | Errno::ENOSYS) => {}
            Err(other) => panic!("{other}"),
        }
    }
}
