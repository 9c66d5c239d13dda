//! Bare malloc and free in fixed orders. Under callgrind the difference between `ops=N` and `ops=2N` is exactly what N
//! pairs cost; `order=…-loop` runs the same loop without the calls, so that its own share can be taken off.

use std::ffi::c_void;
use std::hint::black_box;

use serde_json::{Value, json};

use super::heap::{free, malloc};
use super::{Parameters, Random};

/// Blocks live at the deepest point of a batch: several spans of each size class, so that the order matters (spans fill
/// up, empty and change lists), and more than any thread cache's list.
const DEEP: usize = 1 << 14;
/// Few enough blocks to stay within one span of each class: the fast paths alone.
const SHALLOW: usize = 1 << 8;

/// `ops` pairs in batches of 16,384 mixed sizes (16 to 255 bytes); `order` is `lifo`, `fifo` or `random`; `shallow` is
/// random order in batches of 256.
pub fn run(parameters: &Parameters) -> Value {
    let order = parameters.word("order", "lifo");
    let (name, with_calls) = order.strip_suffix("-loop").map_or((order, true), |name| (name, false));
    let (order, depth) = if name == "shallow" { ("random", SHALLOW) } else { (name, DEEP) };
    let batches = parameters.number("ops", 20_000_000).div_ceil(depth);
    let mut random = Random::new(1);
    let sizes: Vec<usize> = (0..depth).map(|_| random.skewed(16, 4)).collect();
    let frees = free_order(order, depth, &mut random);
    let mut blocks = vec![std::ptr::null_mut(); depth];
    for _ in 0..batches {
        if with_calls {
            batch_with_calls(&sizes, &frees, &mut blocks);
        } else {
            batch_without_calls(&sizes, &frees, &mut blocks);
        }
    }
    json!({ "pairs": batches * depth, "order": name })
}

fn free_order(order: &str, depth: usize, random: &mut Random) -> Vec<u16> {
    let mut indices: Vec<u16> = (0..depth as u16).collect();
    match order {
        "lifo" => indices.reverse(),
        "fifo" => {}
        "random" => (1..depth).for_each(|index| indices.swap(index, random.below(index + 1))),
        other => panic!("order={other}: expected lifo, fifo, random or shallow, with -loop for the loop alone"),
    }
    indices
}

#[inline(never)]
fn batch_with_calls(sizes: &[usize], frees: &[u16], blocks: &mut [*mut c_void]) {
    for (block, size) in blocks.iter_mut().zip(sizes) {
        // SAFETY: malloc may be called with any size.
        *block = unsafe { malloc(*size) };
    }
    for index in frees {
        // SAFETY: `frees` is a permutation, so each block of this batch is freed once.
        unsafe { free(blocks[usize::from(*index)]) };
    }
}

/// The same loops, with the calls replaced by the least that keeps the loads and stores.
#[inline(never)]
fn batch_without_calls(sizes: &[usize], frees: &[u16], blocks: &mut [*mut c_void]) {
    for (block, size) in blocks.iter_mut().zip(sizes) {
        *block = black_box(std::ptr::without_provenance_mut(*size));
    }
    for index in frees {
        black_box(blocks[usize::from(*index)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_frees_each_block_once() {
        for order in ["lifo", "fifo", "random"] {
            let mut seen = free_order(order, DEEP, &mut Random::new(3));
            seen.sort_unstable();
            assert!(seen.iter().enumerate().all(|(at, index)| at == usize::from(*index)), "{order}");
        }
    }
}
