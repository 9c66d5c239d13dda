use super::*;

/// A table without entries.
fn table() -> Box<[SiteRecord; SITES]> {
    let zeroed = Box::<[SiteRecord; SITES]>::new_zeroed();
    // SAFETY: made of integers only, for which zero is a value.
    unsafe { zeroed.assume_init() }
}

#[test]
fn sites_find_their_entry_again_and_a_full_table_refuses_new_ones() {
    let table = table();
    let stack = |n: usize| [0x40_0000 + n * 16, 0x50_0000];
    let found: Vec<_> = (0..SITES * 2).map_while(|n| find(&table, hash(&stack(n)))).collect();
    assert!(found.len() > SITES / 2, "only {} sites", found.len());
    for (n, &at) in found.iter().enumerate() {
        assert_eq!(find(&table, hash(&stack(n))), Some(at));
    }
    assert!(found.iter().all(|&at| at != OVERFLOW), "the last entry is for what finds no other");
}

#[test]
fn weights_are_those_of_a_poisson_process() {
    const INTERVAL: u64 = 512 << 10;
    // Small blocks stand for an interval's worth of bytes each, large ones for themselves.
    let small = weigh(1, 64, 50, INTERVAL);
    assert!((small.objects_256ths as f64 / 256.0 - 8192.5).abs() < 0.01, "{small:?}");
    assert!((small.bytes as f64 - 50.0 * 8192.5).abs() < 1.0, "{small:?}");
    let large = weigh(1, 64 << 20, 64 << 20, INTERVAL);
    assert_eq!((large.objects_256ths, large.bytes), (256, 64 << 20));
    // A run that is always sampled stands for its blocks.
    let run = weigh(1000, 64 << 10, 50, INTERVAL);
    assert_eq!((run.objects_256ths, run.bytes), (256_000, 50_000));
    // What is counted and what is asked for may be anything.
    for (counted, requested) in [(1, 0), (u64::MAX, u64::MAX), (1, u64::MAX)] {
        weigh(counted, counted, requested, INTERVAL_MAX);
    }
}

#[test]
fn nothing_is_recorded_while_nothing_is_sampled() {
    // The test's process has no segment.
    assert_eq!(interval(), 0);
    assert!(!record(0x1000, 100, 0) && !is_tracked(0x1000));
    forget(0x1000);
    forget(0);
}
