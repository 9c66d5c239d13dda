//! The heap profile of what the allocator really hands out: every path counts, and nothing evades the sampler.

#![expect(unsafe_code, reason = "tests use raw memory")]

mod child;

use std::path::PathBuf;

use child::in_child;
use tiermem::control::{Attachment, SiteTierUse, publish};
use tiermem::{api, profile};

const INTERVAL: u64 = 32 << 10;

/// The profile's sums over all sites, by tier.
fn sums() -> Vec<SiteTierUse> {
    publish();
    let directory = PathBuf::from(std::env::var_os("TIERMEM_CONTROL_DIR").expect("set by the parent"));
    let attachment = Attachment::open(&directory.join(std::process::id().to_string())).expect("attach");
    let snapshot = attachment.read().expect("read");
    let mut sums = vec![SiteTierUse::default(); 8];
    for site in &snapshot.sites {
        for (sum, tier) in sums.iter_mut().zip(&site.tiers) {
            sum.allocated_objects += tier.allocated_objects;
            sum.allocated_bytes += tier.allocated_bytes;
            sum.live_objects += tier.live_objects;
            sum.live_bytes += tier.live_bytes;
        }
    }
    sums
}

fn free(at: *mut u8) {
    // SAFETY: a block that the test holds, freed once.
    unsafe { api::free(at) }
}

/// `count` blocks of `size` bytes, of which a class holds `held`, sampled one by one: the estimate's standard error.
fn error(count: f64, held: f64) -> f64 {
    let p = -(-held / INTERVAL as f64).exp_m1();
    (count * (1.0 - p) / p).sqrt() + count / 512.0
}

/// Fails unless `estimate` is within four standard errors of what it should be.
fn near(what: &str, estimate: f64, truth: f64, held: f64) {
    let errors = (estimate - truth).abs() / error(truth, held).max(1.0);
    assert!(errors < 4.0, "{what}: {estimate} instead of {truth}, {errors:.1} standard errors off");
}

#[test]
fn staying_and_passing_blocks_count_alike() {
    let env = [("TIERMEM_PROFILE", "32K"), ("TIERMEM_TIERS", "slow=dax-file:memfd,size=256M")];
    in_child("staying_and_passing_blocks_count_alike", &env, || {
        tiermem::start();
        assert_eq!(profile::interval(), INTERVAL);
        let before = sums();
        let blocks: Vec<_> = (0..400_000).map(|_| api::allocate(64)).collect();
        let kept = sums();
        near("allocated", kept[0].allocated_objects - before[0].allocated_objects, 400_000.0, 64.0);
        // The same block over and over, which a fast path never has to ask anybody for.
        for _ in 0..2_000_000 {
            free(std::hint::black_box(api::allocate(64)));
        }
        let churned = sums();
        near("come and gone", churned[0].allocated_objects - kept[0].allocated_objects, 2_000_000.0, 64.0);
        near("live", churned[0].live_objects - before[0].live_objects, 400_000.0, 64.0);
        // Freed by another thread.
        let blocks: Vec<usize> = blocks.into_iter().map(|at| at.expose_provenance()).collect();
        std::thread::spawn(move || {
            blocks[..300_000].iter().for_each(|&at| free(std::ptr::with_exposed_provenance_mut(at)));
        })
        .join()
        .expect("the thread");
        near("left", sums()[0].live_objects - before[0].live_objects, 100_000.0, 64.0);
    });
}

#[test]
fn all_sizes_and_tiers_are_counted() {
    let env = [("TIERMEM_PROFILE", "32K"), ("TIERMEM_TIERS", "slow=dax-file:memfd,size=512M")];
    in_child("all_sizes_and_tiers_are_counted", &env, || {
        tiermem::start();
        let slow = tiermem::tier("slow").expect("slow");
        let before = sums();
        let mut blocks = Vec::new();
        tiermem::scope(slow, || {
            for _ in 0..3000 {
                blocks.push(api::allocate(5120));
                blocks.push(api::allocate_aligned(1000, 256));
                blocks.push(api::allocate_zeroed(2000, 16));
            }
            blocks.extend((0..200).map(|_| api::allocate(200 << 10)));
        });
        let now = sums();
        let bytes = (3000 * (5120 + 1000 + 2000) + 200 * (200 << 10)) as f64;
        let found = (now[1].allocated_bytes - before[1].allocated_bytes) as f64;
        assert!((found / bytes - 1.0).abs() < 0.15, "{found} of {bytes} bytes");
        let live = (now[1].live_bytes - before[1].live_bytes) as f64;
        assert!((live / bytes - 1.0).abs() < 0.15, "{live} of {bytes} bytes live");
        blocks.into_iter().for_each(free);
        let end = sums();
        assert_eq!(end[1].live_bytes, 0, "everything was freed");
    });
}

/// A sample's span fell asleep, no new one could be had, and its last block was freed: the next sample was taken out of
/// whatever the unit had become.
#[test]
fn a_full_tier_leaves_no_stale_span_of_samples() {
    let env = [("TIERMEM_PROFILE", "4K"), ("TIERMEM_LIMITS", "dram=8M")];
    in_child("a_full_tier_leaves_no_stale_span_of_samples", &env, || {
        const SIZE: usize = 53_000;
        tiermem::start();
        let mut held: Vec<*mut u8> = Vec::new();
        for round in 0..200 {
            // Full to the brim, so that samples find no span of their own.
            held.extend(std::iter::from_fn(|| Some(api::allocate(SIZE)).filter(|at| !at.is_null())));
            for (i, &at) in held.iter().enumerate() {
                assert!(api::usable_size(at) >= SIZE, "round {round}, block {i}");
                // SAFETY: a block of this size that the test holds.
                unsafe { at.write_bytes(i as u8, SIZE) };
            }
            let mut sorted = held.clone();
            sorted.sort_unstable();
            let apart = |pair: &[*mut u8]| pair[1].addr() - pair[0].addr() >= SIZE;
            assert!(sorted.windows(2).all(apart), "round {round}: two blocks overlap");
            // All but a few go, in an order of its own each time, and other sizes come in between.
            let keep = round % 5;
            held.drain(keep..).rev().for_each(free);
            let others: Vec<_> = (0..200).map(|i| api::allocate(16 + i * 97)).collect();
            others.into_iter().filter(|at| !at.is_null()).for_each(free);
        }
        held.into_iter().for_each(free);
    });
}
