//! Short-lived threads: start-up and tear-down of the allocator's thread state, and what becomes of blocks whose
//! thread has gone.

use std::thread;

use serde_json::{Value, json};

use super::{Block, Parameters, Random};

/// Threads alive at a time.
const TOGETHER: usize = 4;

/// `ops` threads in all, each of which allocates `live` blocks, frees half and leaves half.
pub fn run(parameters: &Parameters) -> Value {
    let threads = parameters.number("ops", 16_000);
    let live = parameters.number("live", 100);
    for round in 0..threads / TOGETHER {
        let orphans: Vec<Vec<Block>> = thread::scope(|scope| {
            let workers: Vec<_> =
                (0..TOGETHER).map(|index| scope.spawn(move || work(live, (round * TOGETHER + index) as u64))).collect();
            workers.into_iter().map(|worker| worker.join().expect("a worker stopped on a broken block")).collect()
        });
        drop(orphans);
    }
    json!({ "threads": threads / TOGETHER * TOGETHER })
}

fn work(live: usize, seed: u64) -> Vec<Block> {
    let mut random = Random::new(seed);
    let mut blocks: Vec<Block> = (0..live).map(|_| Block::new(random.skewed(16, 6))).collect();
    blocks.truncate(live / 2);
    blocks
}
