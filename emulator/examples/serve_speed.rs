//! What a request costs the model: `cargo run --release -p tiermem-emulator --example serve_speed`.

use std::hint::black_box;
use std::time::Instant;

use tiermem_emulator::model::{Direction, Request, Serve, System};
use tiermem_emulator::time::Time;
use tiermem_topology::Topology;

const REQUESTS: u64 = 20_000_000;

fn main() {
    for (topology, tier) in
        [("one-expander", "dram"), ("one-expander", "cxl0"), ("two-interleaved", "set"), ("pool-4-coherent", "pool")]
    {
        let Ok(topology) = Topology::load(topology) else { continue };
        let Ok(system) = System::new(&topology) else { continue };
        // Sets and pools are called otherwise in each file: the last tier is the one.
        let tier = system.tier(tier).or_else(|| system.tier(&system.tiers().last()?.name));
        let (Some(tier), Some(host)) = (tier, system.host(&system.hosts()[0])) else { continue };
        for (load, step) in [("light", 250_000), ("half", 4_400), ("full", 0)] {
            let mut system = system.clone();
            let mut at = Time::ZERO;
            let began = Instant::now();
            for n in 0..REQUESTS {
                let direction = if n % 4 == 3 { Direction::Write } else { Direction::Read };
                let offset = n.wrapping_mul(2_654_435_761) % (64 << 20) / 64 * 64;
                let done = black_box(system.serve(at, Request { host, tier, direction, offset, len: 64 }));
                // Under full load, 500 requests are on their way: the clock goes on a little with each.
                at = if step > 0 { at + Time(step) } else { at.max(Time(done.0.saturating_sub(1_100_000))) };
            }
            let ns = began.elapsed().as_secs_f64() * 1e9 / REQUESTS as f64;
            let name = &system.tiers()[usize::from(tier.0)].name;
            println!("{:16} {name:8} {load:6} {ns:5.1} ns a request", topology.name);
        }
    }
}
