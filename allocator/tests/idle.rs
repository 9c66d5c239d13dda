//! A process that freed its memory and goes idle gives it back, with nobody calling for it.

#![expect(unsafe_code, reason = "tests use raw memory")]

mod child;

use std::time::{Duration, Instant};

use child::in_child;
use tiermem::api;

const COUNT: usize = 4_000_000;
const SIZE: usize = 120;

/// Resident memory of this process, bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    statm.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok()).expect("a number") * tiermem::os_page_size()
}

#[test]
fn an_idle_process_keeps_little_of_what_it_freed() {
    let said = in_child("an_idle_process_keeps_little_of_what_it_freed", &[], || {
        // The list's own memory is there before and after.
        let mut blocks = vec![std::ptr::null_mut::<u8>(); COUNT];
        blocks.iter_mut().for_each(|slot| *slot = std::ptr::dangling_mut());
        let before = resident();
        for slot in &mut blocks {
            *slot = api::allocate(SIZE);
            // SAFETY: a new block.
            unsafe { slot.write_bytes(1, SIZE) };
        }
        let peak = resident() - before;
        assert!(peak > COUNT * SIZE, "only {peak} bytes at the peak");
        for &at in &blocks {
            // SAFETY: allocated above, freed once.
            unsafe { api::free(at) };
        }
        // A constant for the tables of records (128 B per 64 KiB, kept) and the allocator's code, beside the 3 %.
        let allowed = peak * 3 / 100 + (4 << 20);
        let start = Instant::now();
        let mut kept = usize::MAX;
        while kept > allowed && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(100));
            kept = resident().saturating_sub(before);
        }
        eprintln!("MEASURED peak {} KiB, kept {} KiB after {} ms", peak >> 10, kept >> 10, start.elapsed().as_millis());
        assert!(kept <= allowed, "of {peak} bytes {kept} are still resident");
    });
    said.lines().filter(|line| line.starts_with("MEASURED")).for_each(|line| eprintln!("{line}"));
}
