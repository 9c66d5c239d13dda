//! Forking: parent and child go their own ways, whatever the tier and whoever allocates meanwhile.

#![expect(unsafe_code, reason = "tests use raw memory and fork")]

mod child;

use std::time::{Duration, Instant};
use tiermem_sys::sync::atomic::{AtomicBool, Ordering};

use child::in_child;
use tiermem::api;

const TWO_TIERS: [(&str, &str); 2] =
    [("TIERMEM_TIERS", "slow=dax-file:memfd,size=256M"), ("TIERMEM_LIMITS", "dram=8M")];

unsafe extern "C" {
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn _exit(code: i32) -> !;
    fn kill(pid: i32, signal: i32) -> i32;
}

/// Forks; the copy runs `body` and exits. True if `body` was and said so within its time.
fn in_copy(body: impl FnOnce() -> bool) -> bool {
    const WNOHANG: i32 = 1;
    const SIGKILL: i32 = 9;
    // SAFETY: the copy uses the allocator under test, which is made for it, and ends without unwinding.
    let pid = unsafe { fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        let good = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(false);
        // SAFETY: ends the process.
        unsafe { _exit(i32::from(!good)) }
    }
    let start = Instant::now();
    let mut status = -1;
    // SAFETY: our own child, and a valid place.
    while unsafe { waitpid(pid, &raw mut status, WNOHANG) } == 0 {
        if start.elapsed() > Duration::from_secs(20) {
            // SAFETY: our own child, which hangs.
            unsafe { kill(pid, SIGKILL) };
            // SAFETY: as above.
            unsafe { waitpid(pid, &raw mut status, 0) };
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    status == 0
}

fn free(at: *mut u8) {
    // SAFETY: the tests free each block once, in each process.
    unsafe { api::free(at) }
}

fn fill(at: *mut u8, size: usize, byte: u8) {
    // SAFETY: a block that the test holds.
    unsafe { at.write_bytes(byte, size) }
}

fn holds(at: *const u8, size: usize, byte: u8) -> bool {
    // SAFETY: an initialised block that the test holds.
    unsafe { std::slice::from_raw_parts(at, size) }.iter().all(|&b| b == byte)
}

/// Takes, fills, checks and frees blocks of many sizes.
fn work(seed: u8) -> bool {
    let sizes = [24, 120, 800, 5000, 70_000, 200_000];
    let blocks: Vec<_> = (0..60).map(|i| (api::allocate(sizes[i % 6]), sizes[i % 6])).collect();
    let all = blocks.iter().all(|(at, _)| !at.is_null());
    blocks.iter().filter(|(at, _)| !at.is_null()).for_each(|&(at, size)| fill(at, size, seed));
    let kept = blocks.iter().all(|&(at, size)| at.is_null() || holds(at, size, seed));
    blocks.into_iter().for_each(|(at, _)| free(at));
    all && kept
}

#[test]
fn each_side_sees_its_own_writes_again_and_again() {
    in_child("each_side_sees_its_own_writes_again_and_again", &TWO_TIERS, || {
        tiermem::start();
        let slow = tiermem::tier("slow").expect("slow");
        let sizes = [100, 9000, 300 << 10, 3 << 20];
        let blocks = sizes.map(|size| tiermem::scope(slow, || api::allocate(size)));
        for round in 1..25u8 {
            for (at, size) in blocks.into_iter().zip(sizes) {
                assert_eq!(api::tier_of(at), Some(1));
                fill(at, size, round);
            }
            let good = in_copy(|| {
                let before = blocks.iter().zip(sizes).all(|(&at, size)| holds(at, size, round));
                for (&at, size) in blocks.iter().zip(sizes) {
                    fill(at, size, 200 + round % 50);
                    free(at);
                }
                // And a child of the child.
                before && work(7) && (round % 8 != 0 || in_copy(|| work(9)))
            });
            assert!(good, "the copy of round {round} failed or hung");
            for (at, size) in blocks.into_iter().zip(sizes) {
                assert!(holds(at, size, round), "the copy's writes are seen in round {round}");
            }
            assert!(work(round));
        }
        blocks.into_iter().for_each(free);
    });
}

#[test]
fn forking_while_others_allocate_and_purge() {
    in_child("forking_while_others_allocate_and_purge", &TWO_TIERS, || {
        tiermem::start();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for seed in 1..4 {
                let done = &done;
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        assert!(work(seed));
                        if seed == 1 {
                            tiermem::purge::purge_now();
                        }
                        if seed == 2 {
                            std::thread::spawn(move || assert!(work(50))).join().expect("no panic");
                        }
                    }
                });
            }
            let bad = (0..60).find(|_| {
                !in_copy(|| {
                    tiermem::purge::purge_now();
                    // Not a thread in the copy: the C library under the test is not the one that is tested.
                    work(99) && api::allocate_zeroed(1 << 20, 64).addr() != 0
                })
            });
            done.store(true, Ordering::Relaxed);
            assert_eq!(bad, None, "the copy of this fork failed or hung");
        });
    });
}
