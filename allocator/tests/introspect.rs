//! What the process says about its own memory: exact where the allocator can be exact, and without allocating.

#![expect(unsafe_code, reason = "tests use raw memory and count what std allocates")]

mod child;

use std::alloc::{GlobalAlloc, Layout, System};

use child::in_child;
use tiermem::api;
use tiermem::introspect::{Form, render};
use tiermem_sys::sync::atomic::{AtomicU64, Ordering};

const MIB: u64 = 1 << 20;
const SLOW: (&str, &str) = ("TIERMEM_TIERS", "slow=dax-file:memfd,size=64M");

/// Counts what Rust code in this process allocates.
struct Counting;

static ALLOCATED: AtomicU64 = AtomicU64::new(0);

// SAFETY: passes everything on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

#[test]
fn figures_are_those_of_what_was_allocated() {
    in_child("figures_are_those_of_what_was_allocated", &[SLOW], || {
        tiermem::start();
        let slow = tiermem::tier("slow").expect("slow");
        let before = tiermem::statistics();
        let small: Vec<*mut u8> = (0..1000).map(|_| api::allocate(100)).collect();
        let large = tiermem::scope(slow, || api::allocate(3 * MIB as usize));
        let held = tiermem::statistics();
        assert_eq!(held.live - before.live, 112_000 + 3 * MIB);
        assert_eq!((held.allocations - before.allocations, held.frees - before.frees), (1001, 0));
        let [dram, other] = held.tiers() else { panic!("{:?}", held.tiers()) };
        assert_eq!((dram.name.as_str(), other.name.as_str()), ("dram", "slow"));
        assert_eq!((dram.large, other.large, other.large_bytes, other.live), (0, 1, 3 * MIB, 3 * MIB));
        assert_eq!((other.committed, other.active, other.limit), (4 * MIB, 3 * MIB, None));
        assert!(dram.active >= 112_000 && dram.active < MIB && dram.committed >= dram.active);
        assert!(held.resident > MIB && held.resident_max >= held.resident && held.faults_minor > 0);
        assert!(held.metadata >= 256 << 10 && held.heaps >= 1 && held.events >= 1);
        let class = |tier, size| {
            let classes = tiermem::class_statistics(tier).expect("the tier");
            let class = classes.iter().find(|class| class.block_size == size).copied().expect("the class");
            (class.allocations, class.live, class.live_bytes)
        };
        assert_eq!((class(dram.id, 112), class(slow, 0)), ((1000, 1000, 112_000), (1, 1, 3 * MIB)));
        assert!(tiermem::class_statistics(tiermem::TierId(7)).is_none());

        for at in small.into_iter().chain([large]) {
            // SAFETY: allocated above, freed once.
            unsafe { api::free(at) };
        }
        let freed = tiermem::statistics();
        assert_eq!((freed.live, freed.frees - before.frees), (before.live, 1001));
        assert_eq!((freed.tiers()[1].active, freed.tiers()[1].committed_max), (0, 4 * MIB));
        assert!(freed.dirty > 0, "nothing has been given back yet");
        let returned = tiermem::purge::purge_now();
        let purged = tiermem::statistics();
        assert_eq!(purged.returned - freed.returned, returned);
        assert_eq!((purged.tiers()[1].committed, purged.dirty), (0, 0));
    });
}

#[test]
fn nothing_is_allocated_for_it() {
    in_child("nothing_is_allocated_for_it", &[SLOW], || {
        tiermem::start();
        let allocated = || ALLOCATED.load(Ordering::Relaxed);
        let own = || tiermem::statistics().allocations;
        for form in [Form::Text, Form::Json, Form::Xml] {
            let (mut bytes, mut longest) = (0, 0);
            let before = (allocated(), own());
            render(form, &mut |piece| {
                bytes += piece.len();
                longest = longest.max(piece.len());
            });
            assert_eq!((allocated(), own()), before, "{form:?}");
            assert!(bytes > 500 && longest <= 512, "{form:?}: {bytes} bytes, {longest} at once");
        }
        // Negative control: the counter counts.
        let before = allocated();
        drop(std::hint::black_box(Box::new(1)));
        assert_eq!(allocated(), before + 1);
    });
}

#[test]
fn the_environment_asks_for_a_report_at_exit() {
    const NAME: &str = "the_environment_asks_for_a_report_at_exit";
    if child::is_child(NAME) {
        tiermem::start();
        return tiermem::startup::finish();
    }
    let scratch = std::env::temp_dir().join(format!("tiermem-stats-{}.json", std::process::id()));
    let file = scratch.to_string_lossy().into_owned();
    for (value, expected) in [
        ("0", ""),
        ("1", "tiermem statistics (sizes"),
        ("json", "{\"format\":\"tiermem-statistics/1\","),
        ("yes", "tiermem: TIERMEM_STATS: `yes` is none of"),
        ("/no/such/folder/file", "tiermem: TIERMEM_STATS: /no/such/folder/file: No such file"),
        (&file, ""),
        (&file, ""),
    ] {
        let said = in_child(NAME, &[("TIERMEM_STATS", value)], || {});
        let shown =
            ["tiermem statistics", "tiermem-statistics", "TIERMEM_STATS"].iter().any(|word| said.contains(word));
        assert!(said.contains(expected) && shown != expected.is_empty(), "{value}: {said}");
    }
    let written = std::fs::read_to_string(&scratch).expect("the file");
    std::fs::remove_file(&scratch).expect("remove the file");
    assert_eq!(written.lines().filter(|line| line.starts_with('{') && line.ends_with('}')).count(), 2, "{written}");
}
