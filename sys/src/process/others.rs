//! Other processes: whether one lives, since when, and what it maps. Nothing here allocates.

use std::os::fd::AsRawFd;

use crate::file::{self, Identity};
use crate::text::{PathBuffer, leading_number};
use crate::{Errno, Result};

/// When a process started, in clock ticks since boot (field 22 of `/proc/PID/stat`, proc(5)): with the id it names a
/// process for good.
///
/// # Errors
/// `ENOENT` or `ESRCH` if there is no such process; others as read(2).
pub fn start_time(pid: u32) -> Result<u64> {
    let mut path = PathBuffer::new();
    path.push(b"/proc/").push_number(pid.into()).push(b"/stat");
    let mut text = [0u8; 1024];
    let len = file::read_small(path.as_c_str(), &mut text)?;
    parse_start_time(&text[..len]).ok_or(Errno::EIO)
}

fn parse_start_time(stat: &[u8]) -> Option<u64> {
    numeric_field(stat, 22)
}

/// A field of `/proc/PID/stat` after the second, counted from 1 as in proc(5).
fn numeric_field(stat: &[u8], number: usize) -> Option<u64> {
    // The name in field 2 may hold anything, parentheses included; the last one ends it.
    let after_name = stat.iter().rposition(|&b| b == b')')? + 1;
    let field = stat.get(after_name..)?.split(|&b| b == b' ').filter(|f| !f.is_empty()).nth(number - 3)?;
    leading_number(field)
}

/// Threads of a process that still run, the first one counted even if it has left. 0 if there is no such process.
fn thread_count(pid: u32) -> u64 {
    let mut path = PathBuffer::new();
    path.push(b"/proc/").push_number(pid.into()).push(b"/stat");
    let mut text = [0u8; 1024];
    let read = file::read_small(path.as_c_str(), &mut text);
    read.ok().and_then(|len| numeric_field(&text[..len], 20)).unwrap_or(0)
}

/// Whether there is a process with this id, a zombie included.
pub fn exists(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: signal 0 only asks.
    let answer = Errno::result(unsafe { libc::kill(pid, 0) });
    answer != Err(Errno::ESRCH)
}

/// Whether a process maps a file, by the inode numbers in `/proc/PID/maps`. (Device numbers there differ from those of
/// stat(2) on some file systems, so only inodes are compared; a chance match errs towards "yes".) A process whose first
/// thread has left with `pthread_exit` shows no mappings although its other threads have them: that is a "yes" too.
///
/// # Errors
/// As open(2) and read(2): `EACCES` for another user's process.
pub fn maps_file(pid: u32, identity: Identity) -> Result<bool> {
    let mut path = PathBuffer::new();
    path.push(b"/proc/").push_number(pid.into()).push(b"/maps");
    let fd = file::open_read_only(path.as_c_str())?;
    let mut scan = MapsScan::new(identity.inode);
    let mut buffer = [0u8; 4096];
    let mut any = false;
    loop {
        // SAFETY: `buffer` is writable for its whole length. (`pread` would make the kernel start over each time.)
        let got = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        match Errno::result(got) {
            Ok(0) => return Ok(!any && thread_count(pid) > 1),
            Ok(got) => {
                any = true;
                if scan.feed(&buffer[..got.unsigned_abs()]) {
                    return Ok(true);
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Finds an inode number in the fifth column of `/proc/PID/maps`, fed in pieces.
struct MapsScan {
    wanted: u64,
    column: u8,
    in_word: bool,
    number: u64,
}

impl MapsScan {
    const INODE_COLUMN: u8 = 5;

    const fn new(wanted: u64) -> Self {
        Self { wanted, column: 0, in_word: false, number: 0 }
    }

    fn feed(&mut self, text: &[u8]) -> bool {
        for &byte in text {
            let blank = byte.is_ascii_whitespace();
            if !blank && !self.in_word {
                self.column = self.column.saturating_add(1);
                self.number = 0;
            }
            if blank && self.in_word && self.column == Self::INODE_COLUMN && self.number == self.wanted {
                return true;
            }
            if !blank && self.column == Self::INODE_COLUMN && byte.is_ascii_digit() {
                self.number = self.number.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            }
            self.in_word = !blank;
            if byte == b'\n' {
                self.column = 0;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map;
    use crate::process::{id, pid_namespace};
    use std::os::fd::AsFd;

    #[test]
    fn start_time_survives_strange_names() {
        let stat = b"12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 19 20";
        assert_eq!(parse_start_time(stat), Some(777));
        assert_eq!(parse_start_time(b"12 (cut S 1 2"), None);
        assert!(start_time(id()).unwrap() > 0);
        assert_eq!(start_time(id()), start_time(id()));
    }

    #[test]
    fn this_process_exists_and_an_impossible_one_does_not() {
        assert!(exists(id()));
        assert!(!exists(i32::MAX as u32));
        assert!(start_time(i32::MAX as u32).is_err());
        assert!(pid_namespace().unwrap() > 0);
    }

    /// A process whose first thread has left with `pthread_exit` shows an empty `/proc/PID/maps`; its extents were
    /// once taken for a dead process's and given to another.
    #[test]
    fn a_process_that_its_first_thread_has_left_still_maps_its_files() {
        let fd = file::memory_file(c"tiermem-test").unwrap();
        let identity = file::status(fd.as_fd()).unwrap().identity;
        // SAFETY: the child only starts a thread and ends its own.
        let child = unsafe { libc::fork() };
        if child == 0 {
            std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(60)));
            // SAFETY: ends this thread and nothing else.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        let pid = u32::try_from(child).unwrap();
        let mut path = PathBuffer::new();
        path.push(b"/proc/").push_number(pid.into()).push(b"/maps");
        // Until the first thread has left, the maps are those of the test.
        while file::read_small(path.as_c_str(), &mut [0; 64]) != Ok(0) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(maps_file(pid, identity), Ok(true));
        // SAFETY: our own child.
        unsafe { libc::kill(child, libc::SIGKILL) };
        // Dead and not reaped: now nothing is mapped any more.
        while maps_file(pid, identity) != Ok(false) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // SAFETY: our own child, reaped once.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    }

    #[test]
    fn maps_mention_a_file_only_while_it_is_mapped() {
        let fd = file::memory_file(c"tiermem-test").unwrap();
        file::set_size(fd.as_fd(), 4096).unwrap();
        let identity = file::status(fd.as_fd()).unwrap().identity;
        assert!(!maps_file(id(), identity).unwrap());
        let at = map::file_shared(4096, fd.as_fd(), 0).unwrap();
        assert!(maps_file(id(), identity).unwrap());
        // SAFETY: our own mapping, used no more.
        unsafe { map::unmap(at, 4096) }.unwrap();
        assert!(!maps_file(id(), identity).unwrap());
    }

    #[test]
    fn the_scan_looks_at_the_right_column_across_pieces() {
        let text = b"7f-8f r--p 00000000 fd:00 1234 /a 99\n9f-af rw-p 00 00:00 0 \n";
        for cut in 0..text.len() {
            let mut scan = MapsScan::new(1234);
            assert!(scan.feed(&text[..cut]) || scan.feed(&text[cut..]), "cut at {cut}");
            let mut scan = MapsScan::new(99);
            assert!(!scan.feed(&text[..cut]) && !scan.feed(&text[cut..]), "cut at {cut}");
        }
    }
}
