//! What the kernel says of this process, asked without allocating from the heap under test where it matters.

use std::fs::File;
use std::io::Read as _;

use super::OS_PAGE_BYTES;

/// `CLOCK_PROCESS_CPUTIME_ID` of Linux.
const PROCESS_CPU: i32 = 2;

/// `struct timespec` of Linux on 64-bit machines.
#[repr(C)]
#[derive(Default)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

unsafe extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

/// CPU time of this process so far, all threads, user and system, in nanoseconds.
pub fn cpu_ns() -> u64 {
    let mut time = Timespec::default();
    // SAFETY: `time` is a live local of the layout that the kernel fills.
    let failed = unsafe { clock_gettime(PROCESS_CPU, &raw mut time) };
    assert!(failed == 0, "Linux has a clock for a process's CPU time");
    time.seconds as u64 * 1_000_000_000 + time.nanoseconds as u64
}

/// This process's resident memory, bytes.
pub fn resident_bytes() -> usize {
    let mut text = [0u8; 128];
    let text = read("/proc/self/statm", &mut text);
    let os_pages = text.split(' ').nth(1).and_then(|field| field.parse::<usize>().ok());
    os_pages.expect("statm's second field is a number") * OS_PAGE_BYTES
}

/// How much of this process's memory lies in transparent huge pages, bytes.
pub fn huge_page_bytes() -> usize {
    let mut text = [0u8; 4096];
    let text = read("/proc/self/smaps_rollup", &mut text);
    field_kib(text, "AnonHugePages:").map_or(0, |kibibytes| kibibytes << 10)
}

/// The most memory that this process had resident since it was executed (`VmHWM`), bytes.
pub fn peak_resident_bytes() -> u64 {
    let mut text = [0u8; 8192];
    let text = read("/proc/self/status", &mut text);
    (field_kib(text, "VmHWM:").expect("the kernel reports VmHWM") as u64) << 10
}

fn field_kib(text: &str, name: &str) -> Option<usize> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().trim_end_matches(" kB").parse().ok()
}

fn read<'a>(path: &str, text: &'a mut [u8]) -> &'a str {
    let read = File::open(path).and_then(|mut file| file.read(text));
    let length = read.unwrap_or_else(|error| panic!("{path} is readable on Linux: {error}"));
    std::str::from_utf8(&text[..length]).expect("the kernel writes ASCII")
}

#[cfg(test)]
mod tests {
    use super::super::Block;
    use super::*;

    #[test]
    fn resident_size_sees_a_touched_block() {
        let before = resident_bytes();
        let mut block = Block::new(64 << 20);
        block.touch();
        let grown = resident_bytes() - before;
        assert!(grown > 60 << 20, "{grown}");
        assert!(peak_resident_bytes() as usize > 60 << 20);
    }

    #[test]
    fn work_takes_cpu_time_and_huge_pages_can_be_asked_for() {
        let before = cpu_ns();
        assert!((0..200_000u64).fold(0, |sum, number| std::hint::black_box(sum ^ number)) < u64::MAX);
        assert!(cpu_ns() > before);
        assert_eq!(field_kib("Rss: 1 kB\nAnonHugePages:   4096 kB\n", "AnonHugePages:"), Some(4096));
        assert!(huge_page_bytes() < 1 << 40);
    }
}
