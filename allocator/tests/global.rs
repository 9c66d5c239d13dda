//! `TierMem` as the allocator of a whole program, with threads, containers and panics.

mod child;

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc;

use child::in_child;
use tiermem::{TierMem, api};

#[global_allocator]
static ALLOCATOR: TierMem = TierMem;

fn words(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|i| format!("word-{}-{}", i % 1000, "x".repeat(i % 70)))
}

/// Counts words in threads that pass what they own on to each other.
fn program() {
    let (send, receive) = mpsc::channel::<Vec<String>>();
    let threads: Vec<_> = (0..6)
        .map(|_| {
            let send = send.clone();
            std::thread::spawn(move || {
                words(20_000).collect::<Vec<_>>().chunks(100).for_each(|c| drop(send.send(c.to_vec())))
            })
        })
        .collect();
    drop(send);
    let mut counts: HashMap<String, usize> = HashMap::new();
    receive.iter().flatten().for_each(|word| *counts.entry(word).or_default() += 1);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let expected = words(20_000).fold(BTreeMap::<String, usize>::new(), |mut counts, word| {
        *counts.entry(word).or_default() += 6;
        counts
    });
    assert_eq!(counts.into_iter().collect::<BTreeMap<_, _>>(), expected);
}

#[test]
fn a_program_runs_on_it() {
    let boxed = Box::new(7u64);
    assert!(api::owns((&raw const *boxed).cast()), "the global allocator is another");
    program();
}

#[test]
fn a_program_runs_on_it_across_tiers() {
    let env = [("TIERMEM_TIERS", "slow=dax-file:memfd,size=512M"), ("TIERMEM_LIMITS", "dram=6M")];
    in_child("a_program_runs_on_it_across_tiers", &env, || {
        tiermem::start();
        program();
        let ballast: Vec<Box<[u8]>> = (0..64).map(|i| vec![i as u8; 300_000].into_boxed_slice()).collect();
        let slow = ballast.iter().filter(|block| api::tier_of(block.as_ptr()) == Some(1)).count();
        assert!(slow > 32, "only {slow} of 64 blocks spilled over a limit of 6 MiB");
        assert!(ballast.iter().enumerate().all(|(i, block)| block.iter().all(|&byte| byte == i as u8)));
    });
}

#[test]
fn a_panic_unwinds_over_it() {
    let caught = std::panic::catch_unwind(|| {
        let _kept = vec![String::from("dropped while unwinding"); 100];
        std::panic::resume_unwind(Box::new(String::from("why")));
    });
    assert_eq!(*caught.expect_err("it panicked").downcast::<String>().expect("a text"), "why");
}

#[test]
fn alignments_that_layouts_ask_for_are_kept() {
    #[repr(align(4096))]
    struct Aligned([u8; 5000]);
    let several: Vec<Box<Aligned>> = (0..20).map(|i| Box::new(Aligned([i; 5000]))).collect();
    for (i, one) in several.iter().enumerate() {
        assert!((&raw const **one).addr().is_multiple_of(4096));
        assert!(one.0.iter().all(|&byte| byte == i as u8));
    }
}

#[test]
fn what_thread_locals_free_at_the_end_of_a_thread_is_freed() {
    struct Late(Vec<u8>);
    impl Drop for Late {
        fn drop(&mut self) {
            // Allocates too, in a thread that is almost gone.
            assert_eq!(vec![1u8; 3000].len() + self.0.len(), 8000);
        }
    }
    thread_local!(static LATE: Late = Late(vec![0; 5000]));
    for _ in 0..200 {
        std::thread::spawn(|| LATE.with(|late| assert_eq!(late.0.len(), 5000))).join().expect("no panic");
    }
}
