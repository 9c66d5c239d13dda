//! Short-lived threads: start-up and tear-down of the allocator's thread state, and what becomes of blocks whose
//! thread has gone.

use std::thread;

use serde_json::{Value, json};

use super::process::cpu_ns;
use super::{Block, Parameters, Random};

/// Threads alive at a time in [`run`], and in the second half of [`cycle`].
const TOGETHER: usize = 4;
const CYCLE_TOGETHER: usize = 8;

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

/// `ops` threads, each of which allocates `live` blocks, frees them and exits: half of them one after the other, half of
/// them eight at a time. What is left is what the allocator's thread state costs.
pub fn cycle(parameters: &Parameters) -> Value {
    let threads = parameters.number("ops", 24_000) / 2;
    let live = parameters.number("live", 16);
    let per_thread = |together: usize| {
        let rounds = (threads / together).max(1);
        let before = cpu_ns();
        for round in 0..rounds {
            thread::scope(|scope| {
                for index in 0..together {
                    scope.spawn(move || drop(work(live, (round * together + index) as u64)));
                }
            });
        }
        (cpu_ns() - before) as f64 / 1e3 / (rounds * together) as f64
    };
    json!({ "cpu_us_per_thread_alone": per_thread(1), "cpu_us_per_thread_of_eight": per_thread(CYCLE_TOGETHER) })
}
