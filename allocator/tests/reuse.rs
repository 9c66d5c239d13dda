//! Memory that is used again: whatever was there before, a new block is aligned, whole, and zero if that was asked.
//! Each test tells the fault that it was written for.

#![expect(unsafe_code, reason = "tests use raw memory")]

mod child;

use child::in_child;
use tiermem::api;
use tiermem::purge::purge_now;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn take(size: usize) -> *mut u8 {
    take_aligned(size, 16)
}

fn take_aligned(size: usize, align: usize) -> *mut u8 {
    let at = api::allocate_aligned(size, align);
    assert!(!at.is_null(), "no memory for {size} bytes");
    at
}

fn free(at: *mut u8) {
    // SAFETY: the tests free each block once.
    unsafe { api::free(at) }
}

fn fill(at: *mut u8, size: usize, byte: u8) {
    // SAFETY: the tests fill blocks that they hold, within their size.
    unsafe { at.write_bytes(byte, size) }
}

fn bytes<'a>(at: *const u8, size: usize) -> &'a [u8] {
    // SAFETY: the tests read initialised blocks that they hold, within their size.
    unsafe { std::slice::from_raw_parts(at, size) }
}

#[track_caller]
fn assert_zero(at: *const u8, size: usize) {
    let first = bytes(at, size).iter().position(|&byte| byte != 0);
    assert_eq!(first, None, "a zeroed block of {size} bytes is not zero from this byte on");
}

/// A block over several extents gave the rest of its last extent back as clean, although old data was in it: the next
/// large zeroed block there was handed out without being cleared.
#[test]
fn the_rest_of_a_large_blocks_last_extent_is_not_taken_for_clean() {
    in_child("the_rest_of_a_large_blocks_last_extent_is_not_taken_for_clean", &[], || {
        let old = take(8 * MIB);
        fill(old, 8 * MIB, 0xA5);
        free(old);
        let held: Vec<_> = (0..4).map(|_| take(MIB + MIB / 2 + 64 * KIB * 5)).chain([take(3 * MIB)]).collect();
        for _ in 0..16 {
            let zeroed = api::allocate_zeroed(192 * KIB, 16);
            assert_zero(zeroed, 192 * KIB);
            fill(zeroed, 192 * KIB, 0x5A);
        }
        held.into_iter().for_each(free);
    });
}

/// Locked memory cannot be given back with `MADV_DONTNEED`; it was taken for clean all the same, and handed out as
/// zeroed.
#[test]
fn memory_that_the_kernel_does_not_take_back_is_not_taken_for_zero() {
    const MCL_CURRENT: i32 = 1;
    const MCL_ONFAULT: i32 = 4;
    unsafe extern "C" {
        fn mlockall(flags: i32) -> i32;
    }
    in_child("memory_that_the_kernel_does_not_take_back_is_not_taken_for_zero", &[], || {
        let kept = take(64 * KIB * 3);
        let old = take(512 * KIB);
        fill(old, 512 * KIB, 0xA5);
        // SAFETY: no memory of this process is touched by it.
        if unsafe { mlockall(MCL_CURRENT | MCL_ONFAULT) } != 0 {
            eprintln!("SKIP memory_that_the_kernel_does_not_take_back: no right to lock memory");
            return;
        }
        free(old);
        purge_now();
        let zeroed = api::allocate_zeroed(512 * KIB, 16);
        assert_zero(zeroed, 512 * KIB);
        free(zeroed);
        free(kept);
    });
}

/// 128 KiB is a size class, but its spans start at any unit of 64 KiB: every other aligned block was misaligned.
#[test]
fn blocks_of_the_largest_classes_are_aligned_as_asked() {
    let odd = take(64 * KIB * 3);
    let blocks: Vec<_> = (0..64).map(|i| take_aligned(1 + i * 2048, 128 * KIB)).collect();
    for &at in &blocks {
        assert!(at.addr().is_multiple_of(128 * KIB), "{at:?}");
    }
    blocks.into_iter().for_each(free);
    free(odd);
}

/// Looking for neighbouring free extents read the record after the last accessible one: at each full GiB of arena, a
/// request for more than an extent could crash.
#[test]
fn the_end_of_the_extent_table_is_not_crossed() {
    in_child("the_end_of_the_extent_table_is_not_crossed", &[], || {
        let mut held: Vec<_> = (0..511).map(|_| take(2 * MIB)).collect();
        let last = take(2 * MIB);
        assert_eq!(last.addr() - held[0].addr(), 511 * 2 * MIB, "the arena does not begin with these blocks");
        free(last);
        held.push(take(4 * MIB));
        held.into_iter().for_each(free);
    });
}

/// A program may use all that `usable_size` says; growing a large block kept only the bytes that were asked for.
#[test]
fn reallocating_keeps_all_usable_bytes() {
    for size in [130 * KIB, 200_000, 3 * MIB + 1] {
        let at = take(size);
        let usable = api::usable_size(at);
        fill(at, usable, 0x77);
        // SAFETY: `at` is ours, and used only through the result from here on.
        let moved = unsafe { api::reallocate(at, 4 * size, 16) };
        assert!(bytes(moved, usable).iter().all(|&byte| byte == 0x77), "of {usable} usable bytes some were lost");
        free(moved);
    }
}

/// Two threads that give memory back at once released the same extents: the second one unlinked records that were
/// linked nowhere any more, or in another tier's lists.
#[test]
fn several_purges_at_once_do_not_disturb_each_other() {
    in_child("several_purges_at_once_do_not_disturb_each_other", &[], || {
        std::thread::scope(|scope| {
            for seed in 0..4usize {
                scope.spawn(move || {
                    for round in 0..150 {
                        let sizes = [300 * KIB, 2 * MIB, 700 * KIB, 5 * MIB, 100 * KIB];
                        let size = |i: usize| sizes[(i + seed + round) % sizes.len()];
                        let blocks: Vec<_> = (0..12).map(|i| (take(size(i)), size(i))).collect();
                        for &(at, size) in &blocks {
                            fill(at, 64, seed as u8 + 1);
                            fill(at.wrapping_add(size - 64), 64, seed as u8 + 1);
                        }
                        for (at, size) in blocks {
                            assert!(bytes(at, 64).iter().all(|&byte| byte == seed as u8 + 1));
                            assert!(bytes(at.wrapping_add(size - 64), 64).iter().all(|&b| b == seed as u8 + 1));
                            free(at);
                        }
                        purge_now();
                    }
                });
            }
        });
    });
}

/// A size rule put in force while a class was in use left the fast path pointing to that class's old span. When its
/// memory became another class's span, small blocks were handed out for larger requests.
#[test]
fn a_rule_that_comes_late_does_not_leave_old_spans_in_the_fast_path() {
    const NAME: &str = "a_rule_that_comes_late_does_not_leave_old_spans_in_the_fast_path";
    let policy = std::env::temp_dir().join(format!("tiermem-reuse-{}.toml", std::process::id()));
    let text = "version = 1\n[tier.slow]\nsource = \"dax-file:memfd,size=64M\"\n[[rule]]\nsize = \"900..=1024\"\ntier = \"slow\"\n";
    if !child::is_child(NAME) {
        std::fs::write(&policy, text).expect("write the policy");
    }
    let path = policy.to_string_lossy().into_owned();
    in_child(NAME, &[("TIERMEM_POLICY", path.as_str())], || {
        let early = take(1000);
        tiermem::start();
        assert_eq!(tiermem::tier_count(), 2, "the policy is not in force");
        let mut blocks: Vec<_> = (0..300).map(|_| take(1000)).collect();
        blocks.push(early);
        blocks.into_iter().for_each(free);
        purge_now();
        // The same units for smaller blocks, again from the start.
        let mut small: Vec<_> = (0..6000).map(|_| take(48)).collect();
        small.drain(..600).for_each(free);
        let mut large: Vec<_> = (0..200).map(|_| take(1000)).collect();
        for &at in &large {
            assert!(api::usable_size(at) >= 1000, "a block of {} bytes for 1000", api::usable_size(at));
            assert_eq!(api::tier_of(at), Some(1), "the rule does not hold");
        }
        large.extend(small);
        large.into_iter().for_each(free);
    });
    if !child::is_child(NAME) {
        std::fs::remove_file(policy).expect("remove the policy");
    }
}

/// A request that is larger than the machine was served, where other allocators refuse it, after seconds spent on its
/// records; and a refused one made the tier look full to small requests for a tenth of a second.
#[test]
fn a_request_that_is_too_large_is_refused_and_harms_no_other() {
    in_child(
        "a_request_that_is_too_large_is_refused_and_harms_no_other",
        &[("TIERMEM_TIERS", "slow=dax-file:memfd,size=64M"), ("TIERMEM_LIMITS", "dram=1T")],
        || {
            tiermem::start();
            assert!(api::allocate(900 << 30).is_null(), "900 GiB are more than any test machine has");
            let small: Vec<_> = (0..64).map(|_| take(MIB)).collect();
            for &at in &small {
                assert_eq!(api::tier_of(at), Some(0), "DRAM has room");
            }
            small.into_iter().for_each(free);
        },
    );
}
