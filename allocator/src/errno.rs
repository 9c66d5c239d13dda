//! `errno`, for the C functions.

use tiermem_sys::Errno;

/// Bad argument.
pub const EINVAL: i32 = Errno::EINVAL as i32;
/// No memory.
pub const ENOMEM: i32 = Errno::ENOMEM as i32;

/// Sets the calling thread's `errno`.
pub fn set(value: i32) {
    Errno::set_raw(value);
}
