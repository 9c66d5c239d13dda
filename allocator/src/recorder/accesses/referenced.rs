//! Reads and writes, by the kernel's marks of accessed OS pages: how many of each mapping's have one, every time that memory
//! is looked at.
//!
//! The kernel tells it by mapping, and extents that lie side by side are one mapping to it. So that each has a figure of its
//! own, every second one gets a flag that changes nothing for the program: it is left out of core dumps.

use std::ffi::CStr;
use std::ops::Range;
use std::ptr::NonNull;

use tiermem_sys::clock;
use tiermem_sys::map::{self, Advice};
use tiermem_sys::referenced::{self, Translations};
use tiermem_sys::trial::{Obstacle, Outcome};

use super::super::lines::Buffer;
use super::{Seen, Trial, at};
use crate::arena;
use crate::geometry::{EXTENT_SHIFT, EXTENT_SIZE};

/// Not /proc/self, which is empty once the first thread has left with pthread_exit.
const SMAPS: &CStr = c"/proc/thread-self/smaps";

/// Extents that have a figure of their own; those behind them share one by [`GROUP`], because the kernel lets a process have
/// only so many mappings (65,530 if nobody says otherwise).
const SINGLE: usize = 16 << 10;
const GROUP: usize = 32;

/// See the module.
pub struct Referenced {
    translations: Translations,
}

impl Referenced {
    /// Makes it.
    pub fn make() -> Outcome<Self> {
        let translations = Translations::new().map_err(at("mapping OS pages whose translations are forgotten"))?;
        Ok(Self { translations })
    }

    /// Touches one of two OS pages and finds just that.
    pub fn try_out(&self, buffer: &mut Buffer) -> Outcome {
        let scratch = Trial::new()?;
        scratch.touch(0);
        scratch.touch(1);
        self.clear()?;
        let range = scratch.range();
        if bytes_referenced(range.clone(), buffer)? != 0 {
            return Err(Obstacle { step: "clearing the marks of accessed OS pages", errno: None });
        }
        self.clear()?;
        scratch.touch(1);
        if bytes_referenced(range, buffer)? != map::os_page_size() as u64 {
            return Err(Obstacle { step: "finding the OS page that was touched", errno: None });
        }
        Ok(())
    }

    fn clear(&self) -> Outcome {
        referenced::clear().map_err(at("writing /proc/self/clear_refs"))?;
        self.translations.forget().map_err(at("having the CPUs forget translations"))
    }

    /// Tells how much of each mapping of extents was accessed since the last call, and begins anew: from when on.
    pub fn look(&self, buffer: &mut Buffer, mut visit: impl FnMut(Seen)) -> Outcome<u64> {
        let os_page = map::os_page_size();
        each_mapping(buffer, |Mapping { range, referenced }| {
            if !arena::contains(range.start) {
                return;
            }
            visit(Seen {
                address: range.start,
                len: range.len(),
                hits: (referenced / os_page as u64) as u32,
                looks: (range.len() / os_page) as u32,
            });
            split(range);
        })?;
        let since = clock::monotonic_ns();
        self.clear()?;
        Ok(since)
    }
}

fn bytes_referenced(range: Range<usize>, buffer: &mut Buffer) -> Outcome<u64> {
    let mut bytes = 0;
    each_mapping(buffer, |mapping| {
        if mapping.range == range {
            bytes += mapping.referenced;
        }
    })?;
    Ok(bytes)
}

/// Calls `visit` with each mapping that can be written and of which the kernel keeps such marks.
fn each_mapping(buffer: &mut Buffer, mut visit: impl FnMut(Mapping)) -> Outcome {
    let mut here = None;
    let mut has_small = false;
    let reading = buffer.each_line(SMAPS, |line| {
        if let Some(range) = head(line) {
            here = range;
        } else if let Some(bytes) = field(line, b"KernelPageSize:") {
            has_small = bytes == map::os_page_size() as u64;
        } else if let Some(referenced) = field(line, b"Referenced:")
            && let Some(range) = here.take()
            && has_small
        {
            visit(Mapping { range, referenced });
        }
    });
    reading.map_err(at("reading /proc/self/smaps"))
}

struct Mapping {
    range: Range<usize>,
    /// Bytes.
    referenced: u64,
}

/// Makes extents that are one mapping several. Where the kernel refuses that (too many mappings), they go on sharing a figure.
fn split(mapping: Range<usize>) {
    let group = |index: usize| if index < SINGLE { index } else { SINGLE + index / GROUP };
    let (first, behind) = (arena::index_of(mapping.start), arena::index_of(mapping.end - 1) + 1);
    if group(first) == group(behind - 1) {
        return;
    }
    for index in (first..behind).filter(|&index| group(index) % 2 == 1) {
        if let Some(at) = NonNull::new(arena::address_of(index)) {
            // SAFETY: the place is the arena's, and stays it; the advice changes nothing that is in it, whoever has it by now.
            let _ = unsafe { map::advise(at, EXTENT_SIZE, Advice::DontDump) };
        }
    }
}

/// Whether this line begins a mapping, and its addresses if it can be written.
fn head(line: &[u8]) -> Option<Option<Range<usize>>> {
    if !line.first()?.is_ascii_digit() && !(b'a'..=b'f').contains(line.first()?) {
        return None;
    }
    let mut fields = line.splitn(3, |&byte| byte == b' ');
    let addresses = std::str::from_utf8(fields.next()?).ok()?;
    let (start, end) = addresses.split_once('-')?;
    let number = |digits| usize::from_str_radix(digits, 16).ok();
    let range = number(start)?..number(end)?;
    Some((fields.next()?.get(1) == Some(&b'w')).then_some(range))
}

/// The bytes of a line `NAME:   12 kB`.
fn field(line: &[u8], name: &[u8]) -> Option<u64> {
    let rest = std::str::from_utf8(line.strip_prefix(name)?).ok()?;
    rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

const _: () = assert!(EXTENT_SIZE == 1 << EXTENT_SHIFT && SINGLE.is_multiple_of(GROUP));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let writable = head(b"7f00-7f10 rw-p 00000000 00:00 0                  [heap]");
        assert_eq!(writable, Some(Some(0x7f00..0x7f10)));
        assert_eq!(head(b"a000-b000 ---p 00000000 00:00 0 "), Some(None));
        assert_eq!(head(b"Referenced:            4 kB"), None);
        assert_eq!(head(b""), None);
        assert_eq!(field(b"Referenced:           12 kB", b"Referenced:"), Some(12 << 10));
        assert_eq!(field(b"Referenced:           12", b"Referenced:"), None);
        assert_eq!(field(b"Rss:                  12 kB", b"Referenced:"), None);
    }

    /// A page that stays in the CPU's translations all the time is seen each time; and one that is left alone is not.
    #[test]
    fn hot_memory_is_seen_each_time() {
        let (source, mut buffer) = (Referenced::make().unwrap(), Buffer::new());
        if let Err(obstacle) = source.try_out(&mut buffer) {
            return eprintln!("SKIP hot_memory_is_seen_each_time: {obstacle}");
        }
        let [hot, cold] = [(); 2].map(|()| Trial::new().unwrap());
        cold.touch(0);
        for _ in 0..50 {
            hot.touch(0);
            source.clear().unwrap();
            hot.touch(0);
            assert_eq!(bytes_referenced(hot.range(), &mut buffer).unwrap(), map::os_page_size() as u64);
            assert_eq!(bytes_referenced(cold.range(), &mut buffer).unwrap(), 0);
        }
    }
}
