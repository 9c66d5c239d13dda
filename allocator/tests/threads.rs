//! Threads that come and go by the hundred thousand use the same few heaps.

#![expect(unsafe_code, reason = "tests use raw memory")]

mod child;

use child::{in_child, scale};
use tiermem::api;
use tiermem_sys::sync::Lock;

const AT_ONCE: u32 = 8;
const THREADS: u32 = 100_000;

/// Blocks on their way from thread to thread, by address.
static PASSED_ON: Lock<Vec<usize>> = Lock::new(Vec::new());

fn take(size: usize) -> usize {
    let at = api::allocate(size);
    assert!(!at.is_null());
    // SAFETY: a new block.
    unsafe { at.write_bytes(1, size) };
    at.expose_provenance()
}

fn free(at: usize) {
    // SAFETY: each block is freed once.
    unsafe { api::free(std::ptr::with_exposed_provenance_mut(at)) }
}

/// Allocates, frees what another thread has left, and leaves a block behind.
fn brief(number: u32) {
    let own: Vec<_> = (1..8).map(|i| take(i * 100 + number as usize % 64)).collect();
    let left = PASSED_ON.lock().pop();
    left.into_iter().for_each(free);
    PASSED_ON.lock().push(take(300));
    own.into_iter().for_each(free);
}

#[test]
fn a_hundred_thousand_threads_share_a_few_heaps() {
    let said = in_child("a_hundred_thousand_threads_share_a_few_heaps", &[], || {
        for round in 0..THREADS / AT_ONCE * scale() {
            let threads: Vec<_> = (0..AT_ONCE).map(|i| std::thread::spawn(move || brief(round + i))).collect();
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        }
        let made = tiermem::statistics().heaps;
        eprintln!("MEASURED {made} heaps");
        // Beside the threads, the test's own and the purger. A joined thread has given its heap back.
        assert!((1..=AT_ONCE + 4).contains(&made), "{made} heaps for {AT_ONCE} threads at a time");
    });
    said.lines().filter(|line| line.starts_with("MEASURED")).for_each(|line| eprintln!("{line}"));
}

/// The count counts: threads that live at the same time have a heap each.
#[test]
fn threads_side_by_side_have_a_heap_each() {
    in_child("threads_side_by_side_have_a_heap_each", &[], || {
        const THREADS: u32 = 40;
        let barrier = std::sync::Barrier::new(THREADS as usize);
        std::thread::scope(|scope| {
            for number in 0..THREADS {
                let barrier = &barrier;
                scope.spawn(move || {
                    brief(number);
                    barrier.wait();
                });
            }
        });
        assert!(tiermem::statistics().heaps >= THREADS);
    });
}
