//! A server in the manner of Larson and Krishnan, "Memory Allocation for Long-Running Server Applications" (ISMM'98):
//! connections outlive the thread that served them, so blocks are freed by another thread than allocated them.

use std::thread;

use serde_json::{Value, json};

use super::{Block, Parameters, Random};

const BYTES_MIN: usize = 16;
const OCTAVES: u32 = 6;

/// `threads`, `live` blocks a thread, `ops` replacements in all, over `generations` of threads.
pub fn run(parameters: &Parameters) -> Value {
    let threads = parameters.threads();
    let live = parameters.number("live", 5_000);
    let ops = parameters.number("ops", 40_000_000);
    let generations = parameters.number("generations", 20).max(1);
    let per_thread = ops / threads / generations;

    let mut tables: Vec<Vec<Block>> = (0..threads)
        .map(|owner| {
            let mut random = Random::new(owner as u64);
            (0..live).map(|_| Block::new(random.skewed(BYTES_MIN, OCTAVES))).collect()
        })
        .collect();
    for generation in 0..generations {
        // The next thread inherits its neighbour's table.
        tables.rotate_left(1);
        thread::scope(|scope| {
            for (index, table) in tables.iter_mut().enumerate() {
                scope.spawn(move || serve(table, per_thread, (generation * threads + index) as u64));
            }
        });
    }
    json!({ "replacements": per_thread * threads * generations, "live": live * threads })
}

fn serve(table: &mut [Block], requests: usize, seed: u64) {
    let mut random = Random::new(seed);
    for _ in 0..requests {
        let slot = random.below(table.len());
        table[slot] = Block::new(random.skewed(BYTES_MIN, OCTAVES));
    }
}
