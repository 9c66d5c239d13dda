//! Blocks that leave in the order in which they came: between threads, and within one.

use std::collections::VecDeque;
use std::sync::mpsc::sync_channel;
use std::thread;

use serde_json::{Value, json};

use super::{Block, Parameters, Random};

const BATCH: usize = 128;
const BATCHES_IN_FLIGHT: usize = 32;
/// Lengths of the FIFO queues as shares of `live`: a few long ones and many short ones.
const QUEUE_SHARES: [usize; 8] = [2, 4, 8, 16, 32, 64, 128, 256];

/// Half of the `threads` allocate `ops` blocks in all and send them in batches; the other half free them.
pub fn producer_consumer(parameters: &Parameters) -> Value {
    let pairs = (parameters.threads() / 2).max(1);
    let batches = parameters.number("ops", 8_000_000) / pairs / BATCH;
    thread::scope(|scope| {
        for pair in 0..pairs {
            let (sender, receiver) = sync_channel::<Vec<Block>>(BATCHES_IN_FLIGHT);
            scope.spawn(move || {
                let mut random = Random::new(pair as u64);
                for _ in 0..batches {
                    let batch = (0..BATCH).map(|_| Block::new(random.skewed(16, 6))).collect();
                    sender.send(batch).expect("the consumer takes every batch");
                }
            });
            scope.spawn(move || receiver.into_iter().for_each(drop));
        }
    });
    json!({ "blocks": pairs * batches * BATCH })
}

/// `threads` threads, each with queues that together hold `live` blocks; `ops` pushes in all, each with a pop.
pub fn fifo(parameters: &Parameters) -> Value {
    let threads = parameters.threads();
    let live = parameters.number("live", 50_000);
    let ops = parameters.number("ops", 32_000_000) / threads;
    thread::scope(|scope| {
        for index in 0..threads {
            scope.spawn(move || {
                let mut random = Random::new(index as u64);
                let lengths = QUEUE_SHARES.map(|share| (live / share).max(1));
                let mut queues = lengths.map(VecDeque::with_capacity);
                for _ in 0..ops {
                    let chosen = random.below(queues.len());
                    if queues[chosen].len() == lengths[chosen] {
                        queues[chosen].pop_front();
                    }
                    queues[chosen].push_back(Block::new(random.skewed(16, 7)));
                }
            });
        }
    });
    json!({ "pushes": ops * threads })
}
