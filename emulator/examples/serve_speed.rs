//! What a request costs the model: `cargo run --release -p tiermem-emulator --example serve_speed [REQUESTS]`. The best
//! of twenty rounds counts: the others were disturbed.

use std::hint::black_box;
use std::time::Instant;

use tiermem_emulator::model::{Direction, HostIndex, Request, Serve, System, TierIndex};
use tiermem_emulator::time::Time;
use tiermem_topology::Topology;

const ROUNDS: u32 = 20;

fn main() {
    let requests = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    for topology in ["one-expander", "two-interleaved", "pool-4-coherent"] {
        let Ok(topology) = Topology::load(topology) else { continue };
        let Ok(system) = System::new(&topology) else { continue };
        for (tier, info) in (0_u16..).map(TierIndex).zip(system.tiers()) {
            if !system.reaches(HostIndex(0), tier) {
                continue;
            }
            let ns = [250_000, 4_400, 0].map(|step| best(&system, tier, step, requests));
            let [light, half, full] = ns;
            println!("{:16} {:8} light {light:5.1}  half {half:5.1}  full {full:5.1} ns", topology.name, info.name);
        }
    }
}

/// Nanoseconds a request, with so many picoseconds between two of them; 0 for as many as fit with 1.1 us of them on
/// their way.
fn best(system: &System, tier: TierIndex, step: u64, requests: u64) -> f64 {
    let mut system = system.clone();
    let mut at = Time::ZERO;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for n in 0..requests {
            let direction = if n % 4 == 3 { Direction::Write } else { Direction::Read };
            let offset = n.wrapping_mul(2_654_435_761) % (64 << 20) / 64 * 64;
            let request = Request { host: HostIndex(0), tier, direction, offset, len: 64 };
            let done = black_box(system.serve(at, request));
            at = if step > 0 { at + Time(step) } else { at.max(Time(done.0.saturating_sub(1_100_000))) };
        }
        best = best.min(began.elapsed().as_secs_f64() * 1e9 / requests as f64);
    }
    best
}
