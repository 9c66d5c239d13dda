//! Plain streams of small, large and growing blocks, with no block crossing threads.

use std::thread;

use serde_json::{Value, json};

use super::{Block, Parameters, Random};

/// `threads` threads, each with `live` blocks; `ops` replacements in all.
pub fn churn(parameters: &Parameters) -> Value {
    let threads = parameters.threads();
    let live = parameters.number("live", 10_000);
    let ops = parameters.number("ops", 44_000_000) / threads;
    each_thread(threads, |random| {
        let mut blocks: Vec<Block> = (0..live).map(|_| Block::new(random.skewed(16, 7))).collect();
        for step in 0..ops {
            let slot = random.below(live);
            let bytes = random.skewed(16, 7);
            blocks[slot] = match step % 16 {
                0 => Block::zeroed(bytes),
                1 => Block::aligned(64, bytes.next_multiple_of(64)),
                _ => Block::new(bytes),
            };
        }
    });
    json!({ "replacements": ops * threads })
}

/// `threads` threads, each with up to `live` large blocks; `ops` blocks in all.
pub fn large(parameters: &Parameters) -> Value {
    let threads = parameters.threads();
    let live = parameters.number("live", 16);
    let ops = parameters.number("ops", 20_000) / threads;
    each_thread(threads, |random| {
        let mut blocks: Vec<Option<Block>> = (0..live).map(|_| None).collect();
        for _ in 0..ops {
            let slot = random.below(live);
            // Freed before its successor is allocated, as a program with large buffers would.
            blocks[slot] = None;
            let mut block = Block::new(random.skewed(64 << 10, 7));
            block.touch();
            blocks[slot] = Some(block);
        }
    });
    json!({ "blocks": ops * threads })
}

/// Buffers that grow by half to 1 MiB, and strings that grow by up to 32 bytes; `ops` resizes in all.
pub fn realloc_growth(parameters: &Parameters) -> Value {
    const BUFFER_BYTES_MAX: usize = 1 << 20;
    const STRING_BYTES_MAX: usize = 2 << 10;
    let threads = parameters.threads();
    let live = parameters.number("live", 64);
    let ops = parameters.number("ops", 4_000_000) / threads;
    each_thread(threads, |random| {
        let mut blocks: Vec<Block> = (0..live).map(|_| Block::new(16)).collect();
        for _ in 0..ops {
            let slot = random.below(live);
            let is_buffer = slot.is_multiple_of(16);
            let bytes = blocks[slot].bytes();
            let (grown, bytes_max) = match is_buffer {
                true => (bytes + bytes / 2, BUFFER_BYTES_MAX),
                false => (bytes + random.between(1, 32), STRING_BYTES_MAX),
            };
            match grown > bytes_max {
                true => blocks[slot] = Block::new(16),
                false => blocks[slot].resize(grown),
            }
        }
    });
    json!({ "resizes": ops * threads })
}

fn each_thread(threads: usize, work: impl Fn(&mut Random) + Sync) {
    thread::scope(|scope| {
        for index in 0..threads {
            let work = &work;
            scope.spawn(move || work(&mut Random::new(index as u64)));
        }
    });
}
