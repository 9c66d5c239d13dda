//! What the allocator does while the program does nothing: the CPU time of whatever it runs in the background.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::process::{cpu_ns, resident_bytes};
use super::{Block, Parameters, Random};

/// Holds `live` MiB and idles, frees it all and idles again, `idle_ms` each time; then once more, when everything that is
/// to be given back has been.
pub fn run(parameters: &Parameters) -> Value {
    let live_bytes = parameters.number("live", 500) << 20;
    let idle = Duration::from_millis(parameters.number("idle_ms", 2_000) as u64);
    let idle_cpu_ms = || {
        let before = cpu_ns();
        thread::sleep(idle);
        (cpu_ns() - before) as f64 / 1e6
    };
    let percent = |cpu_ms: f64, idles: f64| 100.0 * cpu_ms / (idles * idle.as_millis() as f64).max(1.0);
    let mut random = Random::new(1);
    let (mut blocks, mut bytes) = (Vec::new(), 0);
    while bytes < live_bytes {
        let block = Block::new(random.skewed(64, 8));
        bytes += block.bytes();
        blocks.push(block);
    }
    let holding = idle_cpu_ms();
    let peak = resident_bytes();
    drop(blocks);
    let freed = idle_cpu_ms();
    let quiet = idle_cpu_ms();
    json!({
        "idle_cpu_percent_holding": percent(holding, 1.0), "purge_cpu_ms": freed,
        "idle_cpu_percent_after_free": percent(freed + quiet, 2.0), "idle_cpu_percent_quiet": percent(quiet, 1.0),
        "resident_percent_of_peak": 100.0 * resident_bytes() as f64 / peak as f64,
    })
}
