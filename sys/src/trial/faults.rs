//! Trials of userfaultfd.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use super::{Obstacle, Outcome, Scratch, scratch, scratch_file};
use crate::map::os_page_size;
use crate::pagemap::{After, Categories, Pagemap, Region};
use crate::userfault::{Fault, Features, Mode, Rights, Userfault};

/// How long a fault may take to arrive.
const PATIENCE: Duration = Duration::from_millis(500);

/// Who touches the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toucher {
    /// A store instruction.
    UserCode,
    /// A system call that writes into a buffer.
    SystemCall,
}

/// Waits for the fault that a thread has been sent into.
fn await_fault(faults: &Userfault, step: &'static str) -> Outcome<Fault> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(fault) = faults.next_fault(20).map_err(Obstacle::at(step))? {
            return Ok(fault);
        }
    }
    Err(Obstacle::silent(step))
}

/// Write-protects an OS page, lets someone write to it, sees the fault, lifts the protection, sees the write land.
///
/// # Errors
/// Where it stopped.
pub fn write_protect_fault(rights: Rights, toucher: Toucher) -> Outcome {
    let faults = Userfault::open(rights, Features::WRITE_PROTECT).map_err(Obstacle::at("opening a userfaultfd"))?;
    let zeroes = File::open("/dev/zero").map_err(Obstacle::io("opening /dev/zero"))?;
    let memory = scratch(1)?;
    memory.set(0, 1);
    let (at, len) = (memory.os_page(0), memory.len);
    // SAFETY: our own range; every way out of the scope below answers the fault or drops `faults`.
    unsafe { faults.register(at, len, Mode::WriteProtect) }
        .map_err(Obstacle::at("registering for write protection"))?;
    faults.write_protect(at, len, true).map_err(Obstacle::at("write-protecting an OS page"))?;
    thread::scope(|scope| {
        let writer = scope.spawn(|| match toucher {
            Toucher::UserCode => {
                memory.set(0, 0);
                Ok(())
            }
            Toucher::SystemCall => memory.set_by_system_call(0, &zeroes),
        });
        let seen = await_fault(&faults, "waiting for the write fault").and_then(|fault| {
            let lifted = faults.write_protect(at, len, false).map_err(Obstacle::at("lifting the write protection"));
            if fault.is_write_protect { lifted } else { Err(Obstacle::silent("getting a write-protect fault")) }
        });
        // From here on the range is ordinary memory, so the writer ends in any case.
        drop(faults);
        let wrote = writer.join().unwrap_or(Err(crate::Errno::EIO));
        // What the writer was told explains more than the fault that never came.
        wrote.map_err(Obstacle::at("writing into protected memory from a system call"))?;
        seen
    })?;
    if memory.get(0) == 0 { Ok(()) } else { Err(Obstacle::silent("finding the write that was let through")) }
}

/// Maps a shared file twice, writes through one mapping, and sees the first read through the other as a minor fault.
///
/// # Errors
/// Where it stopped.
pub fn minor_fault(rights: Rights) -> Outcome {
    let faults = Userfault::open(rights, Features::MINOR_SHMEM).map_err(Obstacle::at("opening a userfaultfd"))?;
    let len = os_page_size();
    let file = scratch_file(len)?;
    let map = || Scratch::of_file(&file, len).map_err(Obstacle::at("mapping a memory file"));
    let (writer, reader) = (map()?, map()?);
    writer.set(0, 7);
    let at = reader.os_page(0);
    // SAFETY: our own range; every way out of the scope below answers the fault or drops `faults`.
    unsafe { faults.register(at, len, Mode::Minor) }.map_err(Obstacle::at("registering for minor faults"))?;
    thread::scope(|scope| {
        let read = scope.spawn(|| reader.get(0));
        let seen = await_fault(&faults, "waiting for the minor fault").and_then(|fault| {
            let resumed = faults.resume_minor(at, len).map_err(Obstacle::at("resolving the minor fault"));
            if fault.is_minor { resumed } else { Err(Obstacle::silent("getting a minor fault")) }
        });
        drop(faults);
        let value = read.join().unwrap_or(0);
        seen?;
        if value == 7 { Ok(()) } else { Err(Obstacle::silent("reading through the second mapping")) }
    })
}

/// Lets the kernel track writes to four OS pages, writes to two of them (a store and a system call), and sees exactly
/// those two, once.
///
/// # Errors
/// Where it stopped.
pub fn track_writes() -> Outcome {
    let wanted = Features::WRITE_PROTECT.and(Features::WRITE_PROTECT_ASYNC).and(Features::WRITE_PROTECT_UNPOPULATED);
    // No handler ever sees these faults, so the lesser rights do.
    let faults = Userfault::open(Rights::UserModeOnly, wanted).map_err(Obstacle::at("opening a userfaultfd"))?;
    let pagemap = Pagemap::open().map_err(Obstacle::at("opening /proc/self/pagemap"))?;
    let zeroes = File::open("/dev/zero").map_err(Obstacle::io("opening /dev/zero"))?;
    let memory = scratch(4)?;
    let (at, len) = (memory.os_page(0), memory.len);
    // SAFETY: our own range; the kernel answers asynchronous write-protect faults itself.
    unsafe { faults.register(at, len, Mode::WriteProtect) }
        .map_err(Obstacle::at("registering for write protection"))?;
    faults.write_protect(at, len, true).map_err(Obstacle::at("write-protecting"))?;
    memory.set(0, 1);
    memory.set_by_system_call(2, &zeroes).map_err(Obstacle::at("writing from a system call"))?;
    let mut regions = [Region::default(); 4];
    let scanning = Obstacle::at("scanning for written OS pages (PAGEMAP_SCAN)");
    let mut written = || -> Outcome<Vec<u64>> {
        let scan = pagemap.scan(at, len, Categories::WRITTEN, After::Protect, &mut regions).map_err(&scanning)?;
        let first = at.as_ptr() as u64;
        let found = regions.iter().take(scan.regions);
        Ok(found
            .flat_map(|r| (r.start..r.end).step_by(os_page_size()))
            .map(|a| (a - first) / os_page_size() as u64)
            .collect())
    };
    if written()? != [0, 2] {
        return Err(Obstacle::silent("finding the two OS pages that were written"));
    }
    if written()?.is_empty() { Ok(()) } else { Err(Obstacle::silent("protecting again what was found")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Errno;

    /// True if the trial could not be made here for want of rights or kernel; says so.
    fn skipped(test: &str, outcome: &Outcome) -> bool {
        match outcome {
            Err(obstacle)
                if matches!(obstacle.errno, Some(Errno::EPERM | Errno::ENOSYS | Errno::EINVAL | Errno::ENOTTY)) =>
            {
                eprintln!("SKIP {test}: {obstacle}");
                true
            }
            _ => false,
        }
    }

    #[test]
    fn a_store_is_held_back_and_let_through() {
        let outcome = write_protect_fault(Rights::UserModeOnly, Toucher::UserCode);
        if !skipped("a_store_is_held_back_and_let_through", &outcome) {
            assert_eq!(outcome, Ok(()));
        }
    }

    #[test]
    fn user_mode_only_fails_where_a_system_call_writes() {
        let outcome = write_protect_fault(Rights::UserModeOnly, Toucher::SystemCall);
        if !skipped("user_mode_only_fails_where_a_system_call_writes", &outcome) {
            assert_eq!(outcome.map_err(|o| o.errno), Err(Some(Errno::EFAULT)));
        }
        let full = write_protect_fault(Rights::Full, Toucher::SystemCall);
        if !skipped("full rights", &full) {
            assert_eq!(full, Ok(()));
        }
    }

    #[test]
    fn a_minor_fault_is_seen_and_resolved() {
        let outcome = minor_fault(Rights::UserModeOnly);
        if !skipped("a_minor_fault_is_seen_and_resolved", &outcome) {
            assert_eq!(outcome, Ok(()));
        }
    }

    #[test]
    fn tracked_writes_are_found_once() {
        let outcome = track_writes();
        if !skipped("tracked_writes_are_found_once", &outcome) {
            assert_eq!(outcome, Ok(()));
        }
    }

    /// Negative control: without protection no fault comes, and waiting for it ends.
    #[test]
    fn waiting_for_a_fault_that_never_comes_ends() {
        let Ok(faults) = Userfault::open(Rights::UserModeOnly, Features::NONE) else {
            eprintln!("SKIP waiting_for_a_fault_that_never_comes_ends: no userfaultfd");
            return;
        };
        assert_eq!(await_fault(&faults, "waiting"), Err(Obstacle::silent("waiting")));
    }
}
