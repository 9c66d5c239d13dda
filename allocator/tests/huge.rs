//! Huge OS pages: asked for when it pays, given up when parts are free.

#![expect(unsafe_code, reason = "tests use raw memory")]

mod child;

use child::in_child;
use tiermem::api;

const MIB: usize = 1 << 20;
const BLOCK: usize = 1000;

fn kib(field: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("smaps_rollup");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
}

fn no_huge_pages_here() -> bool {
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let none = setting.is_empty() || setting.contains("[never]");
    if none {
        println!("SKIP huge pages: this kernel's transparent_hugepage/enabled is `{}`", setting.trim());
    }
    none
}

fn fill(bytes: usize) -> Vec<*mut u8> {
    let blocks: Vec<_> = (0..bytes / BLOCK).map(|_| api::allocate(BLOCK)).collect();
    for &at in &blocks {
        // SAFETY: a block of this size that the test holds.
        unsafe { at.write_bytes(1, BLOCK) };
    }
    blocks
}

fn free(at: *mut u8) {
    // SAFETY: freed once.
    unsafe { api::free(at) }
}

#[test]
fn many_small_blocks_lie_in_huge_pages_and_few_do_not() {
    if no_huge_pages_here() {
        return;
    }
    in_child("many_small_blocks_lie_in_huge_pages_and_few_do_not", &[("TIERMEM_HUGE", "auto")], || {
        tiermem::start();
        let few = fill(16 * MIB);
        assert_eq!(kib("AnonHugePages"), 0, "16 MiB are too few");
        let many = fill(128 * MIB);
        let huge = kib("AnonHugePages");
        assert!(huge > 32 << 10, "only {huge} KiB of 144 MiB are in huge pages");
        few.into_iter().chain(many).for_each(free);
    });
}

#[test]
fn without_them_there_are_none() {
    if no_huge_pages_here() {
        return;
    }
    in_child("without_them_there_are_none", &[("TIERMEM_HUGE", "never")], || {
        tiermem::start();
        let blocks = fill(128 * MIB);
        assert_eq!(kib("AnonHugePages"), 0);
        blocks.into_iter().for_each(free);
    });
}

/// The blow-up that huge pages are known for: most of a page is free, and the kernel keeps or rebuilds all of it.
#[test]
fn free_parts_of_a_huge_page_go_back() {
    if no_huge_pages_here() {
        return;
    }
    in_child("free_parts_of_a_huge_page_go_back", &[("TIERMEM_HUGE", "always")], || {
        tiermem::start();
        let before = kib("Rss");
        let mut blocks = fill(128 * MIB);
        // One run of blocks in ten stays, so that every huge page keeps a part in use.
        let kept: Vec<_> = blocks.chunks(300).step_by(10).flatten().copied().collect();
        let kept_bytes = kept.len() * BLOCK;
        let is_kept: std::collections::HashSet<_> = kept.iter().copied().collect();
        blocks.retain(|at| !is_kept.contains(at));
        blocks.into_iter().for_each(free);
        tiermem::purge::purge_now();
        let now = (kib("Rss") - before) << 10;
        assert!(now < kept_bytes * 2 + 16 * MIB, "{now} bytes resident for {kept_bytes} in use");
        kept.into_iter().for_each(free);
    });
}
