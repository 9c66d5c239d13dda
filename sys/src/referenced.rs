//! The kernel's marks of OS pages that were accessed: clearing them for the whole process, so that `Referenced` in
//! `/proc/PID/smaps` (proc_pid_smaps(5)) tells what was accessed since.
//!
//! The kernel clears a mark without a word to the CPUs, and an access whose translation a CPU still holds sets none: the
//! hottest memory would seem idle. So the translations have to be forgotten, too ([`Translations`]).

use std::os::fd::AsFd;
use std::ptr::NonNull;

use crate::map::{self, Advice};
use crate::{Errno, Result, file};

/// Clears the marks of all memory of this process (proc_pid_clear_refs(5)). Those of what CPUs hold translations of may not
/// be set again before these are forgotten.
///
/// # Errors
/// As open(2) and write(2): `ENOENT` without `/proc` or a kernel with `CONFIG_PROC_PAGE_MONITOR`; `EACCES` in a process that
/// changed its user.
pub fn clear() -> Result<()> {
    // Not /proc/self, which is empty once the first thread has left with pthread_exit.
    let fd = file::open_write_only(c"/proc/thread-self/clear_refs")?;
    file::write_at(fd.as_fd(), b"1", 0)
}

/// OS pages whose rights are changed to have the CPUs forget translations. From a number of them on that is a matter of
/// tens, the kernel flushes all that the process has instead of single ones (on x86, `tlb_single_page_flush_ceiling`: 33).
/// They are all the kernel's zero page, and so take no memory but their table.
#[derive(Debug)]
pub struct Translations {
    at: NonNull<u8>,
}

// SAFETY: it owns its mapping, and nobody reads or writes there.
unsafe impl Send for Translations {}

impl Translations {
    /// As many as one table of them holds.
    const OS_PAGES: usize = 512;

    fn len() -> usize {
        Self::OS_PAGES * map::os_page_size()
    }

    /// Maps them.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn new() -> Result<Self> {
        let at = map::anonymous(Self::len())?;
        let this = Self { at };
        // One huge page would be one translation. Where there are none, the advice is refused and not needed.
        // SAFETY: our own fresh mapping.
        let _ = unsafe { map::advise(at, Self::len(), Advice::NoHugePage) };
        for os_page in 0..Self::OS_PAGES {
            // SAFETY: inside the mapping.
            let at = unsafe { at.add(os_page * map::os_page_size()) };
            // SAFETY: as above; volatile, because the read is wanted for its own sake.
            let _ = unsafe { at.as_ptr().read_volatile() };
        }
        Ok(this)
    }

    /// Has all CPUs forget this process's translations. In a child of fork, which has another table, it does nothing: make a
    /// new one there.
    ///
    /// # Errors
    /// As mprotect(2).
    pub fn forget(&self) -> Result<()> {
        for rights in [libc::PROT_NONE, libc::PROT_READ] {
            // SAFETY: our own mapping, which nobody reads or writes.
            Errno::result(unsafe { libc::mprotect(self.at.as_ptr().cast(), Self::len(), rights) })?;
        }
        Ok(())
    }
}

impl Drop for Translations {
    fn drop(&mut self) {
        // SAFETY: our own mapping. A failure would only leak it.
        let _ = unsafe { map::unmap(self.at, Self::len()) };
    }
}
