//! The heap profile: estimates are as far from the truth as chance allows and no further, whatever is freed, and the
//! process does what its user and `tierctl` ask for.

#![expect(unsafe_code, reason = "tests use raw memory")]

mod child;

use std::cell::Cell;
use std::hint::black_box;
use std::path::PathBuf;

use child::in_child;
use tiermem::control::{Attachment, SiteTierUse, SiteUse, Snapshot, publish};
use tiermem::{api, profile};

const INTERVAL: u64 = 64 << 10;
const TIERS: (&str, &str) = ("TIERMEM_TIERS", "slow=dax-file:memfd,size=128M");

fn attachment() -> Attachment {
    let directory = PathBuf::from(std::env::var_os("TIERMEM_CONTROL_DIR").expect("set by the parent"));
    Attachment::open(&directory.join(std::process::id().to_string())).expect("attach")
}

fn read() -> Snapshot {
    publish();
    attachment().read().expect("read")
}

/// Decides as an allocator does which blocks are samples. Its blocks are numbers: nothing here looks into a block.
struct Sampler {
    random: Cell<u64>,
    left: u64,
    interval: u64,
    next_block: usize,
}

impl Sampler {
    fn new(interval: u64) -> Self {
        let random = Cell::new(0x5eed);
        let left = profile::distance(&random, interval);
        Self { random, left, interval, next_block: 0x10_0000 }
    }

    #[inline(never)]
    fn allocate(&mut self, size: u64, tier: u8) -> usize {
        let block = self.next_block;
        self.next_block += 16;
        if size < self.left {
            self.left -= size;
        } else {
            self.left = profile::distance(&self.random, self.interval);
            assert!(profile::record(block, size as usize, tier) && profile::is_tracked(block));
        }
        block
    }
}

/// One site's blocks of one size in one tier.
struct Truth {
    size: u64,
    tier: u8,
    count: u64,
    freed: u64,
}

const TRUTHS: [Truth; 3] = [
    Truth { size: 48, tier: 0, count: 1_600_000, freed: 800_000 },
    Truth { size: 5000, tier: 1, count: 80_000, freed: 40_000 },
    Truth { size: 300 << 10, tier: 1, count: 100, freed: 50 },
];

fn allocate_all(sampler: &mut Sampler, truth: &Truth) {
    let mut blocks = Vec::new();
    // Without closures, which in an unoptimised build would leave no frame for the site.
    for _ in 0..truth.count {
        blocks.push(sampler.allocate(truth.size, truth.tier));
    }
    let every = truth.count / truth.freed;
    blocks.iter().step_by(every as usize).for_each(|&block| profile::forget(block));
    assert!(blocks.iter().step_by(every as usize).all(|&block| !profile::is_tracked(block)));
}

#[inline(never)]
fn small_ones(sampler: &mut Sampler) {
    allocate_all(sampler, &TRUTHS[0]);
    black_box(());
}

#[inline(never)]
fn middling_ones(sampler: &mut Sampler) {
    allocate_all(sampler, &TRUTHS[1]);
    black_box(1);
}

#[inline(never)]
fn large_ones(sampler: &mut Sampler) {
    allocate_all(sampler, &TRUTHS[2]);
    black_box([2; 2]);
}

const SITES: [fn(&mut Sampler); 3] = [small_ones, middling_ones, large_ones];

/// What was found of each of [`SITES`], with its samples. Each must be one site of the profile, and in one tier only.
fn found(snapshot: &Snapshot) -> [(SiteTierUse, u64); 3] {
    [0, 1, 2].map(|index| {
        let truth = &TRUTHS[index];
        // Each site allocates blocks of one size, which says whose it is.
        let is_size = |tier: &SiteTierUse| {
            let size = tier.allocated_bytes as f64 / tier.allocated_objects;
            (size / truth.size as f64 - 1.0).abs() < 0.01
        };
        let sites: Vec<&SiteUse> = snapshot.sites.iter().filter(|site| site.tiers.iter().any(is_size)).collect();
        assert_eq!(sites.len(), 1, "blocks of {} bytes: {sites:?}", truth.size);
        let others = sites[0].tiers.iter().enumerate().filter(|&(tier, _)| tier != usize::from(truth.tier));
        others.for_each(|(_, tier)| assert_eq!(*tier, SiteTierUse::default(), "in another tier"));
        assert!(sites[0].samples > 90, "too few samples: {sites:?}");
        (sites[0].tiers[usize::from(truth.tier)], sites[0].samples)
    })
}

/// How many standard errors `estimate` blocks are from `count`, if each is sampled with probability `p`.
fn deviation(estimate: f64, count: u64, size: u64) -> f64 {
    let p = -(-(size as f64 / INTERVAL as f64)).exp_m1();
    let error = (count as f64 * (1.0 - p) / p).sqrt();
    // A block's weight is kept in 256ths: for blocks that are all sampled, there is no other error.
    (estimate - count as f64).abs() / (error + count as f64 / 512.0)
}

/// The largest deviation of a profile's figures, in standard errors.
fn worst(found: &[(SiteTierUse, u64); 3]) -> f64 {
    let of_site = |(truth, (used, _)): (&Truth, &(SiteTierUse, u64))| {
        let live = truth.count - truth.freed;
        let size = truth.size as f64;
        [
            deviation(used.allocated_objects, truth.count, truth.size),
            deviation(used.allocated_bytes as f64 / size, truth.count, truth.size),
            deviation(used.live_objects, live, truth.size),
            deviation(used.live_bytes as f64 / size, live, truth.size),
        ]
    };
    TRUTHS.iter().zip(found).flat_map(of_site).fold(0.0, f64::max)
}

#[test]
fn estimates_are_within_four_standard_errors() {
    in_child("estimates_are_within_four_standard_errors", &[("TIERMEM_PROFILE", "64K"), TIERS], || {
        tiermem::start();
        assert_eq!(profile::interval(), INTERVAL);
        // The thread gets its heap, without which no stack is walked.
        black_box(api::allocate(1));
        let mut sampler = Sampler::new(INTERVAL);
        SITES.iter().for_each(|site| site(&mut sampler));
        let found = found(&read());
        assert!(worst(&found) < 4.0, "{}: {found:?}", worst(&found));
        // Negative control: without upscaling, the same samples are far off.
        let raw = found.map(|(used, samples)| {
            let share = samples as f64 / used.allocated_objects;
            let scaled = |bytes: u64| (bytes as f64 * share) as u64;
            let raw = SiteTierUse {
                allocated_objects: used.allocated_objects * share,
                allocated_bytes: scaled(used.allocated_bytes),
                live_objects: used.live_objects * share,
                live_bytes: scaled(used.live_bytes),
            };
            (raw, samples)
        });
        assert!(worst(&raw) > 4.0, "{raw:?}");
    });
}

/// Negative control: a sampler that looks a tenth too rarely is found out.
#[test]
fn a_biased_sampler_is_caught() {
    in_child("a_biased_sampler_is_caught", &[("TIERMEM_PROFILE", "64K"), TIERS], || {
        tiermem::start();
        black_box(api::allocate(1));
        let mut sampler = Sampler::new(INTERVAL * 11 / 10);
        SITES.iter().for_each(|site| site(&mut sampler));
        let found = found(&read());
        assert!(worst(&found) > 4.0, "{}: {found:?}", worst(&found));
    });
}

/// Blocks that are larger than many intervals are all sampled, so the figures are exact.
#[test]
fn large_blocks_are_counted_one_by_one() {
    const SIZE: usize = 3 << 20;
    in_child("large_blocks_are_counted_one_by_one", &[("TIERMEM_PROFILE", "64K"), TIERS], || {
        tiermem::start();
        let slow = tiermem::tier("slow").expect("slow");
        // The first one only starts the count.
        let first = api::allocate(SIZE);
        let blocks: Vec<*mut u8> = (0..20).map(|_| tiermem::scope(slow, || api::allocate(SIZE))).collect();
        let sum = |snapshot: &Snapshot| {
            let bytes = |of: fn(&SiteTierUse) -> u64| {
                let sites = snapshot.sites.iter().map(|site: &SiteUse| of(&site.tiers[1]));
                sites.sum::<u64>() as usize
            };
            (bytes(|tier| tier.allocated_bytes), bytes(|tier| tier.live_bytes))
        };
        assert_eq!(sum(&read()), (20 * SIZE, 20 * SIZE));
        for &at in blocks[..15].iter().chain([&first]) {
            // SAFETY: freed once.
            unsafe { api::free(at) };
        }
        let now = read();
        assert_eq!(sum(&now), (20 * SIZE, 5 * SIZE));
        assert_eq!((now.profile.interval, now.profile.lost), (INTERVAL, 0));
        assert!(blocks[15..].iter().all(|at| profile::is_tracked(at.addr())));
    });
}

#[test]
fn a_running_process_does_what_it_is_asked() {
    in_child("a_running_process_does_what_it_is_asked", &[("TIERMEM_PROFILE", "off")], || {
        tiermem::start();
        let attachment = attachment();
        let now = || read().profile;
        assert_eq!((now().interval, now().since_ms), (0, 0));
        attachment.want_profile(1 << 20);
        assert!(now().interval == 1 << 20 && now().since_ms > 0);
        // Nonsense is brought within bounds, and does not come back.
        attachment.want_profile(u64::MAX);
        assert_eq!([now().interval, now().interval], [profile::INTERVAL_MAX; 2]);
        attachment.want_profile(3);
        assert_eq!(now().interval, profile::INTERVAL_MIN);
        attachment.want_profile(0);
        let off = now();
        assert_eq!(off.interval, 0);
        std::thread::sleep(std::time::Duration::from_millis(50));
        attachment.want_profile(INTERVAL);
        let on = now();
        assert!(on.interval == INTERVAL && on.since_ms == off.since_ms && on.off_ms >= off.off_ms + 30, "{on:?}");
    });
}

#[test]
fn the_environment_decides() {
    const NAME: &str = "the_environment_decides";
    let check = || {
        tiermem::start();
        eprintln!("INTERVAL {}", profile::interval());
    };
    if child::is_child(NAME) {
        return check();
    }
    for (value, interval, complaint) in [
        ("", 512 << 10, false),
        ("off", 0, false),
        ("1M", 1 << 20, false),
        ("3", 512 << 10, true),
        ("2G", 512 << 10, true),
        ("yes", 512 << 10, true),
    ] {
        let said = in_child(NAME, &[("TIERMEM_PROFILE", value)], || {});
        assert!(said.contains(&format!("INTERVAL {interval}\n")), "{value:?}: {said}");
        let lines = said.matches("tiermem: TIERMEM_PROFILE: ").count();
        assert_eq!(lines, usize::from(complaint), "{value:?}: {said}");
    }
}

/// A full table loses the live figures of what it cannot hold, and says so; what is held is forgotten as before.
#[test]
fn too_many_tracked_blocks_are_counted_as_lost() {
    const BLOCKS: usize = 200_000;
    in_child("too_many_tracked_blocks_are_counted_as_lost", &[("TIERMEM_PROFILE", "4K")], || {
        tiermem::start();
        let address = |n: usize| 0x100_0000 + n * 1024;
        let tracked = (0..BLOCKS).filter(|&n| profile::record(address(n), 1 << 20, 0)).count();
        assert!(tracked > 110_000 && tracked < 140_000, "{tracked}");
        let now = read();
        assert_eq!(now.profile.lost as usize, BLOCKS - tracked);
        let live: u64 = now.sites.iter().map(|site| site.tiers[0].live_bytes >> 20).sum();
        assert!((live as usize).abs_diff(tracked) < 10, "{live}");
        (0..BLOCKS).for_each(|n| profile::forget(address(n)));
        assert!((0..BLOCKS).all(|n| !profile::is_tracked(address(n))));
    });
}

/// A child of fork that frees its parent's blocks counts only its own.
#[test]
fn a_child_of_fork_begins_anew() {
    in_child("a_child_of_fork_begins_anew", &[("TIERMEM_PROFILE", "4K")], || {
        tiermem::start();
        // The first one only starts the count.
        let blocks = [(); 3].map(|()| api::allocate(1 << 20));
        let inherited = blocks[2];
        assert!(profile::is_tracked(inherited.addr()));
        let own_before = read();
        unsafe extern "C" {
            fn fork() -> i32;
            fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
            fn _exit(code: i32) -> !;
        }
        // SAFETY: the child ends with `_exit`.
        let child = unsafe { fork() };
        if child == 0 {
            assert_eq!(profile::interval(), 0, "a short-lived child walks no stacks");
            // SAFETY: the child's copy, freed once.
            unsafe { api::free(inherited) };
            let mut good = !profile::is_tracked(inherited.addr());
            std::thread::sleep(std::time::Duration::from_millis(150));
            let own = [(); 4].map(|()| api::allocate(2 << 20));
            let now = read();
            let live: u64 = now.sites.iter().map(|site| site.tiers[0].live_bytes).sum();
            good &= profile::interval() == 4096 && (4 << 20..=(8 << 20) + (64 << 10)).contains(&live);
            good &= profile::is_tracked(own[3].addr());
            // SAFETY: ends the child without running the test's exit handlers.
            unsafe { _exit(i32::from(!good)) };
        }
        let mut status = 0;
        // SAFETY: our own child.
        unsafe { waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
        assert_eq!(read().sites.len(), own_before.sites.len());
        assert!(profile::is_tracked(inherited.addr()));
    });
}
