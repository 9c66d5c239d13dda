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

/// For tests that clear marks, or look at them: they are the whole process's.
#[cfg(test)]
pub(crate) static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;

    /// How often, of `rounds`, an OS page that is read all the time has its mark after the marks were cleared.
    fn seen(rounds: usize, forget: Option<&Translations>) -> usize {
        let at = map::anonymous(map::os_page_size()).unwrap();
        // SAFETY: our own fresh mapping.
        let touch = || unsafe { at.as_ptr().read_volatile() };
        // SAFETY: as above. It is to be memory of its own and not the kernel's zero page.
        unsafe { at.as_ptr().write_volatile(1) };
        let has_mark = || {
            touch();
            clear().unwrap();
            forget.map_or(Ok(()), Translations::forget).unwrap();
            touch();
            is_referenced(at.as_ptr().addr())
        };
        let count = (0..rounds).filter(|_| has_mark()).count();
        // SAFETY: our own mapping, which nobody uses any more.
        unsafe { map::unmap(at, map::os_page_size()) }.unwrap();
        count
    }

    fn is_referenced(address: usize) -> bool {
        let smaps = std::fs::read_to_string("/proc/thread-self/smaps").unwrap();
        let mut is_inside = false;
        for line in smaps.lines() {
            let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            let range = range.map(|(start, end)| [start, end].map(|number| usize::from_str_radix(number, 16)));
            if let Some([Ok(start), Ok(end)]) = range {
                is_inside = (start..end).contains(&address);
            } else if is_inside && let Some(rest) = line.strip_prefix("Referenced:") {
                return rest.trim() != "0 kB";
            }
        }
        panic!("smaps has no mapping at {address:#x}");
    }

    /// With the translations forgotten, each access is seen. The negative control: without, most are not. Where a machine holds
    /// no translations across a system call (page-table isolation without PCIDs), both see all of them; then this says so, and
    /// cannot tell whether they are forgotten.
    #[test]
    fn hot_memory_is_seen_because_translations_are_forgotten() {
        const ROUNDS: usize = 100;
        let _alone = ONE_AT_A_TIME.lock();
        if let Err(errno) = clear() {
            eprintln!("SKIP: no marks of accessed OS pages here: {errno}");
            return;
        }
        let translations = Translations::new().unwrap();
        assert_eq!(seen(ROUNDS, Some(&translations)), ROUNDS);
        let without = seen(ROUNDS, None);
        if without == ROUNDS {
            eprintln!("PASSED OVER the negative control: this machine holds no translations across a system call");
        }
        println!("with translations forgotten {ROUNDS} of {ROUNDS}, without {without}");
    }
}
