//! How many accesses a second the cache model takes: `cargo run --release -p tiermem-emulator --example cache_speed`.

use std::hint::black_box;
use std::time::Instant;

use tiermem_emulator::cache::{CacheConfig, CoreIndex, Hierarchy, LINE};

const ACCESSES: u64 = 20_000_000;

fn main() {
    let config = CacheConfig::default();
    println!("{config}");
    for (name, bytes, step) in [
        ("words in a row, 1 GiB", 1 << 30, 8),
        ("lines in a row, 16 KiB", 16 << 10, LINE),
        ("lines at random, 16 KiB", 16 << 10, 0),
        ("lines at random, 1 MiB", 1 << 20, 0),
        ("lines at random, 16 MiB", 16 << 20, 0),
        ("lines at random, 1 GiB", 1 << 30, 0),
    ] {
        let Ok(mut caches) = Hierarchy::new(&config, 1) else { return };
        let mut state = 1_u64;
        let mut traffic = 0_u64;
        let began = Instant::now();
        for i in 0..ACCESSES {
            let address = if step == 0 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 24) % bytes
            } else {
                i * step % bytes
            };
            black_box(caches.access(CoreIndex(0), address, i % 4 == 0, &mut |_| traffic += 1));
        }
        let ns = began.elapsed().as_secs_f64() * 1e9 / 2e7;
        let counts = caches.counts(CoreIndex(0));
        println!(
            "{name:26} {ns:5.1} ns an access, {:4.1} % missed, {traffic} lines of traffic",
            counts.misses as f64 / 2e5
        );
    }
}
