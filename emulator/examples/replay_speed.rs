//! What an access costs a replay: `cargo run --release -p tiermem-emulator --example replay_speed [TRACE-FILE | PATTERN]
//! [ROUNDS] [CACHES]`, on one placement and on two side by side, of which each counts. CPU time, opening the trace left out; the best
//! round counts: the others were disturbed. The last column is a hash of all that the report says, the same as long as the
//! model is.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use tiermem_emulator::cache::CacheConfig;
use tiermem_emulator::model::System;
use tiermem_emulator::random::Random;
use tiermem_emulator::replay::{Config, Placement, replay, replay_side_by_side};
use tiermem_emulator::trace::{
    Access, Allocate, Clock, Completeness, Event, Free, Provenance, ReadAt, SiteId, StreamId, Strictness, TierTag,
    Trace, Writer,
};
use tiermem_sys::clock::thread_cpu_ns;
use tiermem_topology::Topology;

const MIB: u64 = 1 << 20;
const BASE: u64 = 0x7f00_1234_0000;
const OBJECTS: u64 = 1_000_000;

type Failure = Box<dyn std::error::Error>;
type Pattern = fn(&mut Random, u64, &mut Vec<(u32, Event)>);

/// Name, events, and how they are made.
const PATTERNS: [(&str, u64, Pattern); 5] = [
    ("hits", 10_000_000, hits),
    ("random", 5_000_000, random_lines),
    ("written", 5_000_000, written),
    ("objects", 1_000_000, objects),
    ("threads", 4_000_000, threads),
];

fn access(at: u64, address: u64, write: bool) -> Event {
    Event::Access(Access { at, address, len: 8, write, dependent: at.is_multiple_of(7) })
}

/// Loads of 16 KiB.
fn hits(random: &mut Random, at: u64, events: &mut Vec<(u32, Event)>) {
    events.push((1, access(at, BASE + random.below(2048) * 8, false)));
}

/// Loads of random lines of 1 GiB, none of which waits for another.
fn random_lines(random: &mut Random, at: u64, events: &mut Vec<(u32, Event)>) {
    let address = BASE + random.below(16 * MIB) * 64;
    events.push((1, Event::Access(Access { at, address, len: 8, write: false, dependent: false })));
}

/// The same of 256 MiB, and one in three is a store.
fn written(random: &mut Random, at: u64, events: &mut Vec<(u32, Event)>) {
    events.push((1, access(at, BASE + random.below(4 * MIB) * 64, random.below(3) == 0)));
}

/// A table of pointers and what they lead to, small numbers far more often; objects come and go.
fn objects(random: &mut Random, at: u64, events: &mut Vec<(u32, Event)>) {
    let key = random.below(OBJECTS) * random.below(OBJECTS) / OBJECTS;
    let block = BASE + 64 * MIB + key * 208;
    if random.below(50) == 0 {
        let site = SiteId(1 + (key % 5) as u32);
        events.push((1, Event::Free(Free { at, address: block })));
        events.push((1, Event::Allocate(Allocate { at, site, address: block, size: 200, tier: TierTag::UNKNOWN })));
    }
    events.push((1, access(at, BASE + key * 8, false)));
    let write = random.below(10) == 0;
    events.extend((0..6).map(|i| (1, access(at, block + i * 32, write))));
}

/// Four threads, each with 4 MiB of its own and 64 KiB that all share.
fn threads(random: &mut Random, at: u64, events: &mut Vec<(u32, Event)>) {
    let thread = random.below(4);
    let shared = random.below(8) == 0;
    let own = BASE + (thread + 1) * 4 * MIB + random.below(4 * MIB / 8) * 8;
    let address = if shared { BASE + random.below(8192) * 8 } else { own };
    events.push((thread as u32, access(at, address, random.below(4) == 0)));
}

fn made(pattern: Pattern, steps: u64) -> Result<Vec<u8>, Failure> {
    let provenance = Provenance {
        clock: Clock::Instructions,
        common_clock: true,
        accesses: Completeness::Exact,
        allocations: Completeness::Exact,
        ..Provenance::default()
    };
    let mut writer = Writer::new(Vec::new(), &provenance)?;
    let (mut random, mut events) = (Random::new(1), Vec::new());
    for step in 0..steps {
        pattern(&mut random, step * 3, &mut events);
        for (stream, event) in events.drain(..) {
            writer.event(StreamId(stream), &event)?;
        }
    }
    Ok(writer.finish()?)
}

fn measure<S: ReadAt>(name: &str, trace: &Trace<S>, rounds: u32) -> Result<(), Failure> {
    let system = System::new(&Topology::load("one-expander")?)?;
    let tier = system.tier("cxl0").ok_or("the topology has no tier cxl0")?;
    let capacities: Vec<u64> = system.tiers().iter().map(|tier| tier.capacity.0).collect();
    let caches = std::env::args().nth(3).map_or(Ok(CacheConfig::default()), |caches| CacheConfig::parse(&caches))?;
    let config = Config { caches, ..Config::default() };
    let dram = system.tier("dram").ok_or("the topology has no tier dram")?;
    let on = |tier| (system.clone(), Placement::all(tier, capacities.clone()));
    let (mut alone, mut both) = (u64::MAX, u64::MAX);
    let mut last = None;
    for _ in 0..rounds {
        let began = thread_cpu_ns();
        let (memory, placement) = on(tier);
        let report = replay(trace, memory, placement, &config)?;
        alone = alone.min(thread_cpu_ns() - began);
        let began = thread_cpu_ns();
        let [beside, _] = replay_side_by_side(trace, [on(tier), on(dram)], &config)?;
        both = both.min(thread_cpu_ns() - began);
        if beside != report {
            return Err("side by side something else came out".into());
        }
        last = Some(report);
    }
    let Some(report) = last else { return Ok(()) };
    let mut hasher = DefaultHasher::new();
    format!("{report:?}").hash(&mut hasher);
    let accesses = report.total.accesses as f64;
    println!(
        "{name:10} {:8.1} ns an access, {:6.1} million a second; two placements {:8.1} ns, {:6.1} million; {:4.1} % missed, \
         {} written back; {:016x}",
        alone as f64 / accesses,
        1e3 * accesses / alone as f64,
        both as f64 / accesses,
        2e3 * accesses / both as f64,
        100.0 * report.total.misses as f64 / accesses,
        report.total.written_back,
        hasher.finish()
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let rounds = std::env::args().nth(2).map_or(Ok(5), |rounds| rounds.parse())?;
    if Path::new(&wanted).is_file() {
        return measure(&wanted, &Trace::<File>::open(Path::new(&wanted), Strictness::Strict)?, rounds);
    }
    for (name, steps, pattern) in PATTERNS.into_iter().filter(|(name, ..)| name.contains(&wanted)) {
        let bytes = made(pattern, steps)?;
        measure(name, &Trace::new(bytes.as_slice(), Strictness::Strict)?, rounds)?;
    }
    Ok(())
}
