//! Memory return: users watch the resident size, and it should fall when the program frees.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::resident_bytes;
use super::{Block, Parameters};

const BYTES: usize = 120;
const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// Allocates `ops` blocks of 120 bytes, frees them all, and idles `idle_ms`, without calling the allocator, sampling
/// its own resident size.
pub fn run(parameters: &Parameters) -> Value {
    let count = parameters.number("ops", 4_000_000);
    let idle = Duration::from_millis(parameters.number("idle_ms", 3_000) as u64);
    let mut idle_samples = Vec::with_capacity(idle.as_millis() as usize / SAMPLE_EVERY.as_millis() as usize + 2);
    let before = resident_bytes();
    let mut blocks = Vec::with_capacity(count);
    // The table itself is not what is measured; make it resident first and keep it.
    blocks.extend((0..count).map(|_| Block::new(BYTES)));
    let peak = resident_bytes();
    blocks.clear();
    let freed = resident_bytes();
    let start = Instant::now();
    while start.elapsed() < idle {
        thread::sleep(SAMPLE_EVERY);
        idle_samples.push((start.elapsed().as_millis() as u64, resident_bytes()));
    }
    let table = count * size_of::<Block>();
    let own = |resident: usize| resident.saturating_sub(table);
    let samples: Vec<Value> = idle_samples
        .into_iter()
        .map(|(at_ms, resident)| json!({"at_ms": at_ms, "resident_bytes": own(resident)}))
        .collect();
    json!({
        "before_bytes": before, "peak_bytes": own(peak), "freed_bytes": own(freed), "idle": samples,
        "table_bytes_subtracted": table,
    })
}
