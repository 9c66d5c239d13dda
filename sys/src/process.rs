//! Which process this is, its children, and whether another one still lives. Nothing here allocates.

mod children;
mod others;

use std::mem::MaybeUninit;

use crate::file;
use crate::text::leading_number;
use crate::{Errno, Result};

pub use children::{Ended, exit_by_kernel, exit_now, fork, kill_now, wait};
pub use others::{exists, maps_file, start_time};

/// This process's id, from the kernel (never cached, so right after any kind of fork).
pub fn id() -> u32 {
    // SAFETY: getpid has no preconditions.
    unsafe { libc::syscall(libc::SYS_getpid) }.unsigned_abs() as u32
}

/// The id of the process that started this one, from the kernel.
pub fn parent_id() -> u32 {
    // SAFETY: getppid has no preconditions.
    unsafe { libc::getppid() }.unsigned_abs()
}

/// Writes to standard error, without a lock and without allocating: for the last words of a process.
pub fn say(text: &[u8]) {
    // SAFETY: `text` is readable for its whole length. If it cannot be written, there is nobody to tell.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

/// Writes to a stdio stream (`FILE *`) of the C library. What cannot be written is lost, as `ferror` tells its owner.
///
/// # Safety
/// `stream` is an open stdio stream.
pub unsafe fn write_stream(stream: *mut std::ffi::c_void, text: &[u8]) {
    // SAFETY: `text` is readable for its whole length; the stream is passed on to the caller.
    unsafe { libc::fwrite(text.as_ptr().cast(), 1, text.len(), stream.cast()) };
}

/// What the kernel has counted for this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Highest resident set, bytes.
    pub resident_max: u64,
    /// Page faults that needed no input or output.
    pub faults_minor: u64,
    /// Page faults that waited for some.
    pub faults_major: u64,
}

/// What the kernel has counted for this process (getrusage(2)); zeroes if it does not say.
pub fn usage() -> Usage {
    let mut answer = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `answer` is a valid place for the answer.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, answer.as_mut_ptr()) };
    // SAFETY: plain data, zeroed above and filled in by the call.
    let answer = unsafe { answer.assume_init() };
    let count = |value: libc::c_long| u64::try_from(value).unwrap_or(0);
    Usage {
        resident_max: count(answer.ru_maxrss) * 1024,
        faults_minor: count(answer.ru_minflt),
        faults_major: count(answer.ru_majflt),
    }
}

/// The resident set of this process, bytes (the second field of `statm`, proc(5)).
///
/// # Errors
/// As open(2) and read(2): needs `/proc`.
pub fn resident() -> Result<u64> {
    let mut text = [0u8; 128];
    let len = file::read_small(c"/proc/self/statm", &mut text)?;
    let field = text[..len].split(|&b| b == b' ').nth(1).ok_or(Errno::EIO)?;
    Ok(leading_number(field).ok_or(Errno::EIO)? * crate::map::os_page_size() as u64)
}

/// The effective user id.
pub fn user() -> u32 {
    // SAFETY: geteuid has no preconditions.
    unsafe { libc::geteuid() }
}

/// The effective group id.
pub fn group() -> u32 {
    // SAFETY: getegid has no preconditions.
    unsafe { libc::getegid() }
}

/// A number that differs between the program images that a process runs one after another (exec), and that children
/// of fork share. From the 16 random bytes that the kernel gives to each image.
pub fn image() -> u64 {
    // SAFETY: getauxval has no preconditions.
    let address = unsafe { libc::getauxval(libc::AT_RANDOM) };
    if address == 0 {
        return 0;
    }
    // SAFETY: the kernel placed 16 readable bytes there for the life of the image; they need not be aligned.
    unsafe { std::ptr::with_exposed_provenance::<u64>(address as usize).read_unaligned() }
}

/// 64 bits that nobody outside can guess. Does not allocate; on a kernel without getrandom(2), or before its generator
/// is ready, they come from the 16 bytes that the kernel gave to the process's image.
pub fn secret() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: `bytes` is writable for its whole length.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    if got == 8 { u64::from_ne_bytes(bytes) } else { image().wrapping_mul(0x9e37_79b9_7f4a_7c15) }
}

/// The value of an environment variable, without a lock and without allocating: for a process that has only just begun,
/// before anything changes its environment.
pub fn early_variable(name: &[u8]) -> Option<&'static [u8]> {
    unsafe extern "C" {
        static mut environ: *const *const libc::c_char;
    }
    // SAFETY: a word of the C library's, read whole.
    let mut entry = unsafe { environ };
    loop {
        if entry.is_null() {
            return None;
        }
        // SAFETY: the list ends with a null pointer, which ends this loop.
        let text = unsafe { *entry };
        if text.is_null() {
            return None;
        }
        // SAFETY: entries are C strings.
        let text = unsafe { std::ffi::CStr::from_ptr(text) }.to_bytes();
        if let Some(value) = text.strip_prefix(name).and_then(|rest| rest.strip_prefix(b"=")) {
            return Some(value);
        }
        entry = entry.wrapping_add(1);
    }
}

/// Ends the process by SIGABRT, for a program that must not go on.
pub fn abort() -> ! {
    // SAFETY: abort has no preconditions.
    unsafe { libc::abort() }
}

/// The number of the PID namespace in which [`id`] counts.
///
/// # Errors
/// As stat(2); needs `/proc`.
pub fn pid_namespace() -> Result<u32> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path ends in NUL, and `stat` is a valid place for the answer.
    Errno::result(unsafe { libc::stat(c"/proc/thread-self/ns/pid".as_ptr(), stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded and filled it in.
    let inode = unsafe { stat.assume_init() }.st_ino;
    u32::try_from(inode).map_err(|_| Errno::EOVERFLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_by_their_whole_name() {
        assert_eq!(early_variable(b"PATH").map(<[u8]>::to_vec), std::env::var("PATH").ok().map(String::into_bytes));
        assert_eq!(early_variable(b"PAT"), None);
        assert_ne!(secret(), secret());
    }
}
