//! Object trees that wander between threads: built by one, exchanged through shared slots, freed by whoever holds
//! them, some kept for long.

use std::sync::atomic::{AtomicPtr, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::{Block, Parameters, Random};

const EXCHANGE_SLOTS: usize = 1000;
const DEPTH_MAX: usize = 3;
const CHILDREN_MAX: usize = 3;

/// A tree node: its own payload, and children, all from the C heap (a `Box` and a `Vec` are, too).
struct Node {
    _payload: Block,
    children: Vec<Node>,
}

impl Node {
    fn build(random: &mut Random, depth: usize) -> Self {
        let children = if depth == 0 { 0 } else { random.below(CHILDREN_MAX + 1) };
        Self {
            _payload: Block::new(random.skewed(16, 7)),
            children: (0..children).map(|_| Self::build(random, depth - 1)).collect(),
        }
    }

    fn count(&self) -> usize {
        1 + self.children.iter().map(Self::count).sum::<usize>()
    }
}

/// `threads` threads do `ops` steps in all, each with about `live` trees of its own.
pub fn run(parameters: &Parameters) -> Value {
    let threads = parameters.threads();
    let live = parameters.number("live", 2_000);
    let ops = parameters.number("ops", 2_400_000) / threads;
    let exchange: Vec<AtomicPtr<Node>> = (0..EXCHANGE_SLOTS).map(|_| AtomicPtr::default()).collect();
    let nodes: usize = thread::scope(|scope| {
        let exchange = &exchange[..];
        let workers: Vec<_> =
            (0..threads).map(|index| scope.spawn(move || wander(exchange, live, ops, index as u64))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker stopped on a broken block")).sum()
    });
    exchange.iter().for_each(|slot| drop(take(slot, None)));
    json!({ "nodes": nodes })
}

fn wander(exchange: &[AtomicPtr<Node>], live: usize, steps: usize, seed: u64) -> usize {
    let mut random = Random::new(seed);
    let mut held: Vec<Option<Box<Node>>> = (0..live).map(|_| None).collect();
    let mut nodes = 0;
    for _ in 0..steps {
        let slot = random.below(live);
        match random.below(8) {
            0..4 => {
                let tree = Box::new(Node::build(&mut random, DEPTH_MAX));
                nodes += tree.count();
                held[slot] = Some(tree);
            }
            4..6 => held[slot] = None,
            _ => held[slot] = take(&exchange[random.below(EXCHANGE_SLOTS)], held[slot].take()),
        }
    }
    nodes
}

/// Puts `tree` in the slot and takes what was there.
fn take(slot: &AtomicPtr<Node>, tree: Option<Box<Node>>) -> Option<Box<Node>> {
    let given = tree.map_or(std::ptr::null_mut(), Box::into_raw);
    // AcqRel: releases the given tree to its taker, and acquires the taken tree from its giver.
    let taken = slot.swap(given, Ordering::AcqRel);
    // SAFETY: a non-null pointer in a slot came from Box::into_raw above, and the swap gave it to us alone.
    (!taken.is_null()).then(|| unsafe { Box::from_raw(taken) })
}
