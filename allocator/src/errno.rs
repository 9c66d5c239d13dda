//! `errno`, for the C functions.

use tiermem_sys::Errno;

/// Bad argument.
pub const EINVAL: i32 = Errno::EINVAL as i32;
/// No memory.
pub const ENOMEM: i32 = Errno::ENOMEM as i32;

/// Poisoned memory.
pub const POISONED: i32 = Errno::EHWPOISON as i32;
/// Memory whose device is gone.
pub const GONE: i32 = Errno::ENODEV as i32;
/// Any other failure to read or write.
pub const OTHER: i32 = Errno::EIO as i32;

/// Sets the calling thread's `errno`.
pub fn set(value: i32) {
    Errno::set_raw(value);
}
