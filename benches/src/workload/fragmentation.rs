//! A long-lived set whose sizes shift: what was carved for yesterday's sizes must serve today's.

use serde_json::{Value, json};

use super::process::resident_bytes;
use super::{Block, Parameters, Random};

/// Mean sizes of the phases: up, down, and across, none a power of two.
const PHASE_BYTES: [usize; 8] = [40, 72, 200, 120, 600, 1500, 330, 50];
const BLOCK_MEAN_BYTES_MIN: usize = 40;
/// Share of the old set, in sixteenths, that a phase replaces; the survivors pin what they lie in.
const REPLACED_SIXTEENTHS: usize = 14;

/// Holds `live` KiB (not blocks) while it walks through the phases `ops` times.
pub fn run(parameters: &Parameters) -> Value {
    let live_bytes = parameters.number("live", 96 << 10) << 10;
    let walks = parameters.number("ops", 2).min(1000);
    let mut random = Random::new(1);
    // Room for the most blocks of any phase, so that the table never moves; it is taken off the footprint.
    let mut blocks: Vec<Block> = Vec::with_capacity(live_bytes / (BLOCK_MEAN_BYTES_MIN / 2));
    let (mut bytes, mut blocks_max) = (0, 0);
    let mut footprint_max = 0.0f64;
    for phase in 0..walks * PHASE_BYTES.len() {
        let mean = PHASE_BYTES[phase % PHASE_BYTES.len()];
        blocks.retain(|block| {
            let keep = random.below(16) >= REPLACED_SIXTEENTHS;
            bytes -= if keep { 0 } else { block.bytes() };
            keep
        });
        while bytes < live_bytes {
            let block = Block::new(random.between(mean / 2, mean + mean / 2));
            bytes += block.bytes();
            blocks.push(block);
        }
        blocks_max = blocks_max.max(blocks.len());
        let footprint = resident_bytes().saturating_sub(blocks_max * size_of::<Block>());
        footprint_max = footprint_max.max(footprint as f64 / bytes as f64);
    }
    json!({ "live_bytes": bytes, "blocks": blocks.len(), "footprint_over_live_max": footprint_max })
}
