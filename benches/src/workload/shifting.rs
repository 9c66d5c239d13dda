//! Sizes that shift while a part of the old blocks lives on, and the time after each shift in which an allocator could
//! give back what it no longer needs.
//!
//! Which blocks live on decides what is possible at all. In runs (`cluster=1024`, as when blocks of one request or one
//! document die together) whole OS pages become free. One by one (`cluster=1`) every OS page keeps a survivor, and an
//! allocator that does not move blocks can only reuse the gaps for blocks of the same size.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::process::resident_bytes;
use super::{Block, OS_PAGE_BYTES, Parameters, Random};

/// Sizes of the phases: up, across and down.
const PHASE_BYTES: [usize; 5] = [40, 72, 200, 600, 50];
/// One in so many runs of blocks outlives a shift.
const SURVIVOR_ONE_IN: usize = 8;

/// Holds `live` MiB through all shifts, in lifetimes of `cluster` blocks, and idles `idle_ms` after each.
pub fn run(parameters: &Parameters) -> Value {
    let live_bytes = parameters.number("live", 128) << 20;
    let cluster = parameters.number("cluster", 1024).max(1);
    let idle = Duration::from_millis(parameters.number("idle_ms", 1_500) as u64);
    // The number of walks through the phases is the only amount of work.
    let walks = parameters.number("ops", 1).clamp(1, 8);
    let mut random = Random::new(1);
    // Room for the most blocks of any phase, so that the table never moves; what it uses is taken off the footprint.
    let mut blocks: Vec<Block> = Vec::with_capacity(live_bytes / PHASE_BYTES[0] + 1);
    let (mut bytes, mut blocks_max) = (0, 0);
    let mut footprints = Vec::with_capacity(walks * PHASE_BYTES.len());
    for size in (0..walks).flat_map(|_| PHASE_BYTES) {
        let (mut at, mut lives_on) = (0, false);
        blocks.retain(|block| {
            if at % cluster == 0 {
                lives_on = random.below(SURVIVOR_ONE_IN) == 0;
            }
            at += 1;
            bytes -= if lives_on { 0 } else { block.bytes() };
            lives_on
        });
        while bytes < live_bytes {
            blocks.push(Block::new(size));
            bytes += size;
        }
        blocks_max = blocks_max.max(blocks.len());
        thread::sleep(idle);
        let footprint = resident_bytes().saturating_sub(blocks_max * size_of::<Block>());
        footprints.push(footprint as f64 / bytes as f64);
    }
    let after_shifts = footprints[1..].iter().copied().fold(0.0, f64::max);
    json!({
        "live_bytes": bytes, "footprint_over_live": footprints, "footprint_over_live_max": after_shifts,
        "os_pages_over_live_last": os_pages(&blocks) as f64 * OS_PAGE_BYTES as f64 / bytes as f64,
    })
}

/// OS pages that hold at least a part of a live block: what could not be given back without moving blocks.
fn os_pages(blocks: &[Block]) -> usize {
    let page = |address: usize| address / OS_PAGE_BYTES;
    let mut pages: Vec<usize> =
        blocks.iter().flat_map(|block| page(block.address())..=page(block.address() + block.bytes() - 1)).collect();
    pages.sort_unstable();
    pages.dedup();
    pages.len()
}
