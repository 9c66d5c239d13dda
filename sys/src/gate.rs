//! Letting a parent wait for the child it has just forked, without knowing its process id.

use std::io::ErrorKind;
use std::io::Read;
use std::os::fd::OwnedFd;

use crate::{Errno, Result};

/// Made before a fork, and so held by both sides after it. A pipe: the child opens the gate by closing its end, or by
/// ending; if the fork failed, nobody holds it shut.
#[derive(Debug)]
pub struct Gate {
    waiting: OwnedFd,
    shut: OwnedFd,
}

impl Gate {
    /// A gate, shut.
    ///
    /// # Errors
    /// As pipe2(2).
    pub fn new() -> Result<Self> {
        let (waiting, shut) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        Ok(Self { waiting, shut })
    }

    /// In the parent: waits until the child has opened the gate or has ended. Does not allocate.
    pub fn wait(self) {
        drop(self.shut);
        let mut end = std::fs::File::from(self.waiting);
        loop {
            match end.read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }

    /// In the child: lets the parent go on.
    pub fn open(self) {
        drop(self);
    }
}

/// Copies `len` bytes of a mapping into private anonymous memory, which then takes the mapping's place. For a child
/// of fork, whose parent waits meanwhile.
///
/// # Errors
/// As mmap(2) and mremap(2); the mapping is then as it was.
///
/// # Safety
/// The caller owns the range, and no other thread of this process writes to it.
pub unsafe fn replace_by_copy(at: std::ptr::NonNull<u8>, len: usize) -> Result<()> {
    let copy = crate::map::anonymous(len)?;
    // SAFETY: both ranges are mapped, `len` bytes long and disjoint.
    unsafe { std::ptr::copy_nonoverlapping(at.as_ptr(), copy.as_ptr(), len) };
    const FLAGS: i32 = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the copy is ours and moves onto a range that the caller owns.
    let got = unsafe { libc::mremap(copy.as_ptr().cast(), len, len, FLAGS, at.as_ptr()) };
    if got == libc::MAP_FAILED {
        let errno = Errno::last();
        // SAFETY: our own mapping of above, unused.
        unsafe { crate::map::unmap(copy, len) }?;
        return Err(errno);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{file, map};
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn the_parent_waits_until_the_child_has_its_copy() {
        let fd = file::memory_file(c"tiermem-test").unwrap();
        file::set_size(fd.as_fd(), 8192).unwrap();
        let at = map::file_shared(8192, fd.as_fd(), 0).unwrap();
        // SAFETY: mapped above, shared with the child, used as an atomic only.
        let word = unsafe { at.cast::<AtomicU32>().as_ref() };
        word.store(7, Ordering::SeqCst);
        let gate = Gate::new().unwrap();
        // SAFETY: the child does not return.
        let child = unsafe { libc::fork() };
        if child == 0 {
            std::thread::sleep(std::time::Duration::from_millis(50));
            // SAFETY: the child's own mapping and only thread.
            let copied = unsafe { replace_by_copy(at, 4096) };
            gate.open();
            // The parent writes now; the copy must not show it.
            std::thread::sleep(std::time::Duration::from_millis(50));
            let code = i32::from(copied.is_err() || word.load(Ordering::SeqCst) != 7);
            // SAFETY: ends the child without running the test's exit handlers.
            unsafe { libc::_exit(code) };
        }
        gate.wait();
        word.store(8, Ordering::SeqCst);
        let mut status = 0;
        // SAFETY: our own child.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
    }

    #[test]
    fn a_gate_without_a_child_is_open() {
        Gate::new().unwrap().wait();
    }
}
