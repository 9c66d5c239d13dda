//! False sharing, after Berger and others, "Hoard" (ASPLOS 2000): does the allocator hand one cache line to two
//! threads?

use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};

use super::{Block, Parameters};

const BYTES: usize = 16;
const OFFSET: usize = 10;
const WRITES_PER_BLOCK: usize = 1000;

/// One thread allocates a block for each of the others, side by side; they free theirs, then allocate and write their
/// own. An allocator that reuses the foreign block's line for its freer makes the threads share lines.
pub fn scratch(parameters: &Parameters) -> Value {
    let (threads, rounds) = amounts(parameters);
    let inherited: Vec<Block> = (0..threads).map(|_| Block::new(BYTES)).collect();
    run(inherited, rounds)
}

/// As [`scratch`], without the inherited block: lines are shared only if the allocator deals them out alternately.
pub fn thrash(parameters: &Parameters) -> Value {
    let (threads, rounds) = amounts(parameters);
    run((0..threads).map(|_| ()).collect(), rounds)
}

fn amounts(parameters: &Parameters) -> (usize, usize) {
    let threads = parameters.threads();
    (threads, parameters.number("ops", 1_500_000) / threads)
}

fn run<T: Send>(inherited: Vec<T>, rounds: usize) -> Value {
    let threads = inherited.len();
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        for gift in inherited {
            let barrier = &barrier;
            scope.spawn(move || {
                // All threads hold their gift before the first frees its own.
                barrier.wait();
                drop(gift);
                for _ in 0..rounds {
                    Block::new(BYTES).hammer(OFFSET, WRITES_PER_BLOCK);
                }
            });
        }
    });
    json!({ "blocks": rounds * threads })
}
