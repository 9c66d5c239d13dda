//! Where blocks go: rules, weights, limits, hints and containers, each in a process configured for it.

#![expect(unsafe_code, reason = "tests use raw memory")]

mod child;

use std::path::PathBuf;

use child::{in_child, is_child};
use tiermem::{InTier, TierId, api, pop_hint, push_hint, scope, tier};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const SLOW: &str = "version = 1\n[tier.slow]\nsource = \"dax-file:memfd,size=512M\"\n";

fn free(at: *mut u8) {
    // SAFETY: the tests free each block once.
    unsafe { api::free(at) }
}

/// The tier of a new block of this size, which is freed again at once.
fn tier_of_new(size: usize) -> Option<u8> {
    let at = api::allocate(size);
    let tier = api::tier_of(at);
    free(at);
    tier
}

/// Runs `body` in a process under this policy.
#[track_caller]
fn under_policy(name: &str, policy: &str, body: impl FnOnce()) {
    let file: PathBuf = std::env::temp_dir().join(format!("tiermem-{name}-{}.toml", std::process::id()));
    if !is_child(name) {
        std::fs::write(&file, policy).expect("write the policy");
    }
    let path = file.to_string_lossy().into_owned();
    in_child(name, &[("TIERMEM_POLICY", path.as_str())], || {
        tiermem::start();
        assert!(tiermem::tier_count() > 1, "the policy is not in force");
        body();
    });
    if !is_child(name) {
        std::fs::remove_file(file).expect("remove the policy");
    }
}

#[test]
fn size_rules_hold_to_the_byte() {
    let rules = "[[rule]]\nsize = \">= 1 MiB\"\ntier = \"slow\"\n[[rule]]\nsize = \"500..=510\"\ntier = \"slow\"\n";
    under_policy("size_rules_hold_to_the_byte", &format!("{SLOW}{rules}"), || {
        // Several times: what is free in a tier's spans must not lead astray.
        for _ in 0..200 {
            for (size, tier) in [(MIB - 1, 0), (MIB, 1), (MIB + 1, 1), (499, 0), (500, 1), (510, 1), (511, 0), (64, 0)]
            {
                assert_eq!(tier_of_new(size), Some(tier), "{size} bytes");
            }
        }
    });
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tiermem_test_keeps_slow_things(size: usize) -> *mut u8 {
    // More than a call in tail position, so that this function is on the stack.
    std::hint::black_box(api::allocate(std::hint::black_box(size)))
}

#[test]
fn site_rules_find_a_function_by_its_name() {
    let rule = "[[rule]]\nsymbol = \"tiermem_test_keeps_*\"\ntier = \"slow\"\n";
    under_policy("site_rules_find_a_function_by_its_name", &format!("{SLOW}{rule}"), || {
        for _ in 0..20 {
            let at = tiermem_test_keeps_slow_things(MIB);
            assert_eq!(api::tier_of(at), Some(1), "called by the function that the rule names");
            free(at);
            assert_eq!(tier_of_new(MIB), Some(0), "called by another");
        }
    });
}

#[test]
fn site_rules_find_a_module_by_its_name() {
    let own = std::env::current_exe().expect("own path");
    let own = own.file_name().expect("a name").to_string_lossy().into_owned();
    let rule = |module: &str| format!("{SLOW}[[rule]]\nmodule = \"{module}\"\ntier = \"slow\"\n");
    under_policy("site_rules_find_a_module_by_its_name", &rule(&own), || assert_eq!(tier_of_new(MIB), Some(1)));
}

#[test]
fn site_rules_leave_other_modules_alone() {
    let rule = "[[rule]]\nmodule = \"libnobody.so*\"\ntier = \"slow\"\n";
    under_policy("site_rules_leave_other_modules_alone", &format!("{SLOW}{rule}"), || {
        assert_eq!(tier_of_new(MIB), Some(0));
    });
}

#[test]
fn interleaved_bytes_follow_the_weights() {
    let weights = "[placement]\nstrategy = \"interleave\"\nweights = { dram = 3, slow = 1 }\n";
    under_policy("interleaved_bytes_follow_the_weights", &format!("{SLOW}{weights}"), || {
        for size in [MIB, 3 * MIB] {
            let blocks: Vec<_> = (0..96).map(|_| api::allocate(size)).collect();
            let slow = blocks.iter().filter(|&&at| api::tier_of(at) == Some(1)).count();
            // A quarter of 96 is 24; a block of 3 MiB takes two extents, the rest of which serve nobody.
            assert!((21..=27).contains(&slow), "{slow} of 96 blocks of {size} bytes");
            blocks.into_iter().for_each(free);
            tiermem::purge::purge_now();
        }
    });
}

#[test]
fn no_limit_is_passed_by_many_threads() {
    let env = [("TIERMEM_TIERS", "slow=dax-file:memfd,size=64M"), ("TIERMEM_LIMITS", "dram=10M;slow=20M")];
    in_child("no_limit_is_passed_by_many_threads", &env, || {
        tiermem::start();
        let nulls: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|i| {
                    scope.spawn(move || {
                        let sizes = [40, 700, 9 * KIB, 100 * KIB, 900 * KIB, 3 * MIB];
                        let blocks: Vec<_> = (0..400).map(|n| api::allocate(sizes[(n * 7 + i) % 6])).collect();
                        let in_tiers = blocks.iter().filter(|at| !at.is_null()).all(|&at| api::tier_of(at) < Some(2));
                        assert!(in_tiers);
                        let nulls = blocks.iter().filter(|at| at.is_null()).count();
                        blocks.into_iter().for_each(free);
                        nulls
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert!(nulls > 0, "30 MiB were enough, so nothing was tested");
        let directory = PathBuf::from(std::env::var_os("TIERMEM_CONTROL_DIR").expect("set by the parent"));
        let segment = directory.join(std::process::id().to_string());
        tiermem::control::publish();
        let figures = tiermem::control::Attachment::open(&segment).expect("a segment").read().expect("figures");
        for (tier, limit) in figures.tiers.iter().zip([10 * MIB, 20 * MIB]) {
            assert_eq!(tier.limit as usize, limit);
            assert!(tier.committed_max as usize <= limit && tier.committed_max as usize > limit / 2, "{tier:?}");
        }
        assert!(figures.tiers[0].fallbacks > 0 && figures.events.iter().any(|e| e.kind.as_str() == "spilled"));
    });
}

#[test]
fn hints_nest_and_end() {
    under_policy("hints_nest_and_end", SLOW, || {
        let (dram, slow) = (tier("dram").expect("dram"), tier("slow").expect("slow"));
        assert!(!pop_hint(), "nothing to pop");
        for size in [24, 5000, 300 * KIB, 3 * MIB] {
            scope(slow, || {
                assert_eq!(tier_of_new(size), Some(1));
                scope(dram, || assert_eq!(tier_of_new(size), Some(0)));
                assert_eq!(tier_of_new(size), Some(1), "the outer scope goes on");
            });
            assert_eq!(tier_of_new(size), Some(0), "no scope is left");
        }
        // A panic ends a scope too.
        let caught = std::panic::catch_unwind(|| scope(slow, || std::panic::resume_unwind(Box::new(()))));
        assert!(caught.is_err() && tier_of_new(24) == Some(0));
        // Far deeper than is remembered: the depth is, and the way back is right.
        (0..100).for_each(|_| assert!(push_hint(slow)));
        assert_eq!(tier_of_new(24), Some(1));
        (0..100).for_each(|_| assert!(pop_hint()));
        assert!(!pop_hint() && tier_of_new(24) == Some(0));
    });
}

#[test]
fn a_hint_to_a_tier_that_is_not_there_is_no_hint() {
    under_policy("a_hint_to_a_tier_that_is_not_there_is_no_hint", SLOW, || {
        for number in [2, 7, 8, 200] {
            scope(TierId(number), || {
                assert_eq!((tier_of_new(24), tier_of_new(MIB)), (Some(0), Some(0)), "tier {number}");
            });
        }
    });
}

#[test]
fn hints_belong_to_a_thread_and_end_with_it() {
    under_policy("hints_belong_to_a_thread_and_end_with_it", SLOW, || {
        let slow = tier("slow").expect("slow");
        for _ in 0..4 {
            let forgetful = std::thread::spawn(move || {
                assert_eq!(tier_of_new(24), Some(0), "a hint was inherited with the heap");
                push_hint(slow);
                tier_of_new(24)
            });
            assert_eq!(forgetful.join().expect("no panic"), Some(1));
        }
    });
}

#[test]
fn containers_live_in_their_tier() {
    use allocator_api2::vec::Vec;
    under_policy("containers_live_in_their_tier", SLOW, || {
        let slow = tier("slow").expect("slow");
        let mut list = Vec::new_in(InTier(slow));
        for i in 0..200_000u64 {
            list.push(i);
            assert_eq!(tiermem::tier_of(list.as_ptr()), Some(slow), "at {i}");
        }
        assert!(list.iter().copied().eq(0..200_000));
        assert_eq!(tier_of_new(24), Some(0), "only the container");
        list.truncate(10);
        list.shrink_to_fit();
        assert_eq!(&list[..], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let at = list.as_ptr().cast::<u8>();
        drop(list);
        // The freed block is the next one of its size.
        let again = scope(slow, || api::allocate(80));
        assert_eq!(again.cast_const(), at, "the container's memory was not freed");
        free(again);
        let empty: Vec<u8, InTier> = Vec::with_capacity_in(0, InTier(slow));
        drop(empty);
    });
}

/// Two classes with room on different tiers once made the thread change its tier, and take the slow path, at nearly
/// every call: each of them counted as a fallback.
#[test]
fn classes_on_different_tiers_do_not_hinder_each_other() {
    const ROUNDS: usize = 200_000;
    let limit = "[tier.dram]\nlimit = \"4 MiB\"\n";
    let policy = format!("version = 1\n{limit}{}", SLOW.trim_start_matches("version = 1\n"));
    under_policy("classes_on_different_tiers_do_not_hinder_each_other", &policy, || {
        let kept: Vec<*mut u8> = (0..ROUNDS)
            .map(|_| {
                let passing = api::allocate(32);
                let kept = api::allocate(64);
                free(passing);
                kept
            })
            .collect();
        let slow = tier("slow").expect("the tier").0;
        assert_eq!(api::tier_of(kept[ROUNDS - 1]), Some(slow), "the limit was not reached");
        let fallbacks = tiermem::fallbacks(TierId(0)) as usize;
        assert!(fallbacks * 20 < ROUNDS, "{fallbacks} fallbacks in {ROUNDS} rounds");
        kept.into_iter().for_each(free);
    });
}
