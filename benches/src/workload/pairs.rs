//! Bare malloc and free in fixed orders. Under callgrind the difference between `ops=N` and `ops=2N` is exactly what N
//! pairs cost; `order=…-loop` runs the same loop without the calls, so that its own share can be taken off.

use std::ffi::c_void;
use std::hint::black_box;

use serde_json::{Value, json};

use super::heap::{free, malloc};
use super::{Parameters, Random};

/// Blocks live at the deepest point of a batch: more than a thread cache's shortest list, less than any cache's all.
const BATCH: usize = 256;

/// `ops` pairs in batches of 256 mixed sizes (16 to 255 bytes); `order` is `lifo`, `fifo` or `random`.
pub fn run(parameters: &Parameters) -> Value {
    let order = parameters.word("order", "lifo");
    let batches = parameters.number("ops", 20_000_000) / BATCH;
    let (order, with_calls) = order.strip_suffix("-loop").map_or((order, true), |name| (name, false));
    let mut random = Random::new(1);
    let sizes: [usize; BATCH] = std::array::from_fn(|_| random.skewed(16, 4));
    let frees = free_order(order, &mut random);
    if with_calls {
        batch_with_calls(batches, &sizes, &frees)
    } else {
        batch_without_calls(batches, &sizes, &frees)
    }
    json!({ "pairs": batches * BATCH, "order": order })
}

fn free_order(order: &str, random: &mut Random) -> [usize; BATCH] {
    match order {
        "lifo" => std::array::from_fn(|index| BATCH - 1 - index),
        "fifo" => std::array::from_fn(|index| index),
        "random" => {
            let mut order = std::array::from_fn(|index| index);
            (1..BATCH).for_each(|index| order.swap(index, random.below(index + 1)));
            order
        }
        other => panic!("order={other}: expected lifo, fifo or random, with -loop for the loop alone"),
    }
}

#[inline(never)]
fn batch_with_calls(batches: usize, sizes: &[usize; BATCH], frees: &[usize; BATCH]) {
    let mut blocks = [std::ptr::null_mut::<c_void>(); BATCH];
    for _ in 0..batches {
        for (block, size) in blocks.iter_mut().zip(sizes) {
            // SAFETY: malloc may be called with any size.
            *block = unsafe { malloc(*size) };
        }
        black_box(&mut blocks);
        for index in frees {
            // SAFETY: `frees` is a permutation, so each block of this batch is freed once.
            unsafe { free(blocks[*index & (BATCH - 1)]) };
        }
    }
}

/// The same loops, with the calls replaced by the least that keeps the loads and stores.
#[inline(never)]
fn batch_without_calls(batches: usize, sizes: &[usize; BATCH], frees: &[usize; BATCH]) {
    let mut blocks = [std::ptr::null_mut::<c_void>(); BATCH];
    for _ in 0..batches {
        for (block, size) in blocks.iter_mut().zip(sizes) {
            *block = black_box(std::ptr::without_provenance_mut(*size));
        }
        black_box(&mut blocks);
        for index in frees {
            black_box(blocks[*index & (BATCH - 1)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_frees_each_block_once() {
        for order in ["lifo", "fifo", "random"] {
            let mut seen = free_order(order, &mut Random::new(3));
            seen.sort_unstable();
            assert_eq!(seen, std::array::from_fn(|index| index), "{order}");
        }
    }
}
