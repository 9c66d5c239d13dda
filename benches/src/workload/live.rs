//! Bare churn: random ones of many live blocks are replaced. Which and by what size is computed beforehand, a batch at a
//! time; the generator's time is left out, so that the allocator and its cache misses are what is measured.

use std::ffi::c_void;

use serde_json::{Value, json};

use super::heap::{free, malloc};
use super::process::cpu_ns;
use super::{MEASURED_CPU_S, Parameters, Random};

const BYTES_MIN: usize = 16;
/// Steps of a batch: few enough to stay in a core's own cache.
const BATCH: usize = 1 << 15;

/// Which block is replaced, and by what size.
#[derive(Clone, Copy, Default)]
struct Step {
    slot: u32,
    bytes: u32,
}

/// `live` blocks of 16 to `bytes_max` bytes, of which `ops` are replaced; `sizes=skewed` to the small end, or `uniform`.
pub fn run(parameters: &Parameters) -> Value {
    let live = parameters.number("live", 100_000).clamp(1, u32::MAX as usize);
    let bytes_max = parameters.number("bytes_max", 256).clamp(2 * BYTES_MIN, u32::MAX as usize);
    let uniform = parameters.word("sizes", "skewed") == "uniform";
    let octaves = (bytes_max / BYTES_MIN).ilog2();
    let size = |random: &mut Random| match uniform {
        true => random.between(BYTES_MIN, bytes_max),
        false => random.skewed(BYTES_MIN, octaves),
    };
    let batches = parameters.number("ops", 24_000_000).div_ceil(BATCH);
    let mut random = Random::new(1);
    let mut table: Vec<*mut c_void> = (0..live).map(|_| allocate(size(&mut random))).collect();
    let mut steps = vec![Step::default(); BATCH];
    let mut spent_ns = 0;
    for _ in 0..batches {
        steps.fill_with(|| Step { slot: random.below(live) as u32, bytes: size(&mut random) as u32 });
        let before = cpu_ns();
        churn(&mut table, &steps);
        spent_ns += cpu_ns() - before;
    }
    for block in table {
        // SAFETY: each slot holds a live block of its own.
        unsafe { free(block) };
    }
    let pairs = batches * BATCH;
    json!({
        "live": live, "pairs": pairs, "cpu_ns_per_pair": spent_ns as f64 / pairs.max(1) as f64,
        MEASURED_CPU_S: spent_ns as f64 / 1e9,
    })
}

fn churn(table: &mut [*mut c_void], steps: &[Step]) {
    for step in steps {
        let slot = &mut table[step.slot as usize];
        // SAFETY: the slot holds a live block, which nobody uses after this.
        unsafe { free(*slot) };
        *slot = allocate(step.bytes as usize);
    }
}

/// A block with its first word written, as any program would.
pub(super) fn allocate(bytes: usize) -> *mut c_void {
    assert!(bytes >= BYTES_MIN, "the block must hold a word and be aligned for it");
    // SAFETY: malloc may be called with any size.
    let block = unsafe { malloc(bytes) };
    assert!(!block.is_null(), "the heap is out of memory");
    // SAFETY: the block has at least 16 bytes and is aligned for a word.
    unsafe { block.cast::<u64>().write(bytes as u64) };
    block
}
