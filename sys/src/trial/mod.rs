//! Mechanisms of the kernel, each tried in miniature on a few OS pages of its own.
//!
//! A trial succeeds only if the effect was seen: a fault that arrived and was resolved, a write that was reported, an
//! OS page that changed its node. All of them are safe to run anywhere, touch no memory but their own, and end within
//! a bounded time even if the mechanism misbehaves.

mod faults;
mod movement;
mod sampling;
mod storage;

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::ptr::NonNull;

use crate::map::{self, Advice};
use crate::{Errno, Result};

pub use faults::{Toucher, minor_fault, track_writes, write_protect_fault};
pub use movement::{
    collapse, move_between_nodes, move_by_binding, move_by_fault, move_by_remap, node_of_own_memory,
    weighted_interleave,
};
pub use sampling::{idle_tracking, referenced_bits, sample_addresses, sample_time};
pub use storage::{direct_io, io_uring};

/// Where a trial stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What was being done.
    pub step: &'static str,
    /// What the kernel said; `None` if it said nothing and the effect was missing.
    pub errno: Option<Errno>,
}

impl Obstacle {
    const fn silent(step: &'static str) -> Self {
        Self { step, errno: None }
    }

    fn at(step: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self { step, errno: Some(errno) }
    }

    fn io(step: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |error| Self { step, errno: error.raw_os_error().map(Errno::from_raw) }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno {
            Some(errno) => write!(f, "{}: {}", self.step, errno.desc()),
            None => write!(f, "{}: nothing happened", self.step),
        }
    }
}

impl std::error::Error for Obstacle {}

/// Outcome of a trial.
pub type Outcome<T = ()> = std::result::Result<T, Obstacle>;

/// A few OS pages of memory to try things on.
struct Scratch {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns its mapping, and all access goes through volatile single-byte operations.
unsafe impl Sync for Scratch {}

impl Scratch {
    fn os_pages(count: usize) -> Result<Self> {
        let len = count * map::os_page_size();
        let this = Self { at: map::anonymous(len)?, len };
        // A flag of its own keeps the kernel from merging the range with a neighbour. Where it is refused (never, by
        // the manual), the trials still hold.
        // SAFETY: our own mapping.
        let _ = unsafe { map::advise(this.at, len, Advice::DontDump) };
        Ok(this)
    }

    fn of_file(file: &File, len: usize) -> Result<Self> {
        Ok(Self { at: map::file_shared(len, file.as_fd(), 0)?, len })
    }

    /// The start of an OS page.
    fn os_page(&self, index: usize) -> NonNull<u8> {
        let offset = index * map::os_page_size();
        assert!(offset < self.len, "OS page {index} is outside the scratch range");
        // SAFETY: inside the mapping, as just checked.
        unsafe { self.at.add(offset) }
    }

    fn get(&self, os_page: usize) -> u8 {
        // SAFETY: inside the mapping; volatile, because other threads and the kernel change it.
        unsafe { self.os_page(os_page).as_ptr().read_volatile() }
    }

    fn set(&self, os_page: usize, value: u8) {
        // SAFETY: inside the mapping; volatile, because other threads and the kernel read it.
        unsafe { self.os_page(os_page).as_ptr().write_volatile(value) }
    }

    /// Makes the CPUs forget the translations of these addresses: the kernel flushes them when rights are taken away.
    fn flush_translations(&self) -> Result<()> {
        for rights in [libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE] {
            // SAFETY: our own mapping, which nobody writes meanwhile; it ends up writable as before.
            Errno::result(unsafe { libc::mprotect(self.at.as_ptr().cast(), self.len, rights) })?;
        }
        Ok(())
    }

    /// Lets a system call write one byte into an OS page: what `read(2)` into a buffer does.
    fn set_by_system_call(&self, os_page: usize, zeroes: &File) -> Result<()> {
        // SAFETY: one byte inside the mapping.
        let got = unsafe { libc::read(zeroes.as_raw_fd(), self.os_page(os_page).as_ptr().cast(), 1) };
        Errno::result(got).and_then(|got| if got == 1 { Ok(()) } else { Err(Errno::EIO) })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: our own mapping, to which no reference is left. A failure would only leak it.
        let _ = unsafe { map::unmap(self.at, self.len) };
    }
}

fn scratch(count: usize) -> Outcome<Scratch> {
    Scratch::os_pages(count).map_err(Obstacle::at("mapping memory for the trial"))
}

fn scratch_file(len: usize) -> Outcome<File> {
    let step = "creating a memory file for the trial";
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"tiermem-trial".as_ptr(), libc::MFD_CLOEXEC) };
    let fd = Errno::result(fd).map_err(Obstacle::at(step))?;
    // SAFETY: a new descriptor that nobody else knows.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(len as u64).map_err(Obstacle::io(step))?;
    Ok(file)
}
