//! A compiler's pattern: many small linked nodes for each function, vectors that grow while it is analysed, all of it
//! freed together, while symbols stay to the end.

use std::thread;

use serde_json::{Value, json};

use super::{Block, Parameters, Random};

const NODES_PER_FUNCTION: usize = 2_000;
/// Live functions at a time, as with inlining.
const WINDOW: usize = 8;
const SURVIVOR_ONE_IN: usize = 50;

/// `threads` threads (as a parallel build) allocate `ops` nodes in all.
pub fn run(parameters: &Parameters) -> Value {
    let threads = parameters.threads();
    let functions = (parameters.number("ops", 24_000_000) / NODES_PER_FUNCTION / threads).max(1);
    thread::scope(|scope| {
        for index in 0..threads {
            scope.spawn(move || compile(functions, &mut Random::new(index as u64)));
        }
    });
    json!({ "functions": functions * threads })
}

fn compile(functions: usize, random: &mut Random) {
    let mut symbols: Vec<Block> = Vec::new();
    let mut window: Vec<Vec<Block>> = (0..WINDOW).map(|_| Vec::new()).collect();
    for function in 0..functions {
        // A Vec without capacity: its growth is part of the pattern.
        let mut nodes = Vec::new();
        let mut scratch = Block::new(32);
        for _ in 0..NODES_PER_FUNCTION {
            let node = Block::new(random.skewed(16, 4));
            match random.below(SURVIVOR_ONE_IN) {
                0 => symbols.push(node),
                1 => scratch.resize(scratch.bytes() + 64),
                _ => nodes.push(node),
            }
        }
        window[function % WINDOW] = nodes;
    }
}
