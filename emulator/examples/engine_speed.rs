//! What an access of an instrumented program costs the engine: `cargo run --release -p tiermem-emulator --example
//! engine_speed [PATTERN] [MILLIONS] [CACHES]`. CPU time, making the accesses taken off; the best of five rounds counts: the others
//! were disturbed. The last column is a hash of all that the engine reports, the same as long as the model is.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::hint::black_box;

use tiermem_emulator::cache::CacheConfig;
use tiermem_emulator::instrumented::report::{Process, Report, ThreadReport};
use tiermem_emulator::instrumented::{Batch, Config, Overlap, Record, config::Placement, record};
use tiermem_sys::clock::thread_cpu_ns;

const ROUNDS: u32 = 5;
const BATCH: usize = 511;
const MIB: u64 = 1 << 20;
const BASE: u64 = 0x7f00_1234_0000;

/// Fills records and values, however many it likes up to [`BATCH`].
type Pattern = fn(&mut Random, &mut Vec<Record>, &mut Vec<u64>);

/// Number and size of the blocks that there are, one behind the other.
type BlocksOf = (u64, u64);
const LARGE: BlocksOf = (512, MIB / 4);
const NODES: BlocksOf = (100_000, 304);

/// Name, accesses, by how many threads in turn, and to what.
const PATTERNS: [(&str, Pattern, usize, BlocksOf); 9] = [
    ("hits", hits, 1, LARGE),
    ("chase", chase, 1, LARGE),
    ("gups", gups, 1, LARGE),
    ("triad", triad, 1, LARGE),
    ("bfs", bfs, 1, LARGE),
    ("store", store, 1, LARGE),
    ("btree", btree, 1, NODES),
    ("ranges", ranges, 1, NODES),
    ("mixed", mixed, 3, LARGE),
];

struct Random {
    state: u64,
    step: u64,
}

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 24) % n
    }
}

/// Loads of 16 KiB.
fn hits(random: &mut Random, records: &mut Vec<Record>, values: &mut Vec<u64>) {
    for _ in 0..BATCH {
        records.push(record::access(BASE + random.below(16 << 10) / 8 * 8, 8, false));
        values.push(0);
    }
}

/// A chain of pointers through 64 MiB.
fn chase(random: &mut Random, records: &mut Vec<Record>, values: &mut Vec<u64>) {
    const LINES: u64 = 64 * MIB / 64;
    for _ in 0..BATCH {
        let at = random.step;
        // A full cycle through a power of two: Knuth, TAOCP 2, 3.2.1.2.
        random.step = (at * 1_103_515_245 + 12_345) % LINES;
        records.push(record::access(BASE + at * 64, 8, false));
        values.push(BASE + random.step * 64);
    }
}

/// Words of 64 MiB are read and written.
fn gups(random: &mut Random, records: &mut Vec<Record>, values: &mut Vec<u64>) {
    for _ in 0..BATCH / 2 {
        let at = BASE + random.below(8 * MIB) * 8;
        records.extend([record::access(at, 8, false), record::access(at, 8, true)]);
        values.extend([at >> 20, 0]);
    }
}

/// Three arrays of 16 MiB, sixteen bytes at a time.
fn triad(random: &mut Random, records: &mut Vec<Record>, values: &mut Vec<u64>) {
    for _ in 0..BATCH / 3 {
        let at = BASE + random.step * 16 % (16 * MIB);
        random.step += 1;
        let arrays = [record::access(at + 16 * MIB, 16, false), record::access(at + 32 * MIB, 16, false)];
        records.extend(arrays.into_iter().chain([record::access(at, 16, true)]));
        values.extend([0; 3]);
    }
}

/// Edges in a row, the vertices that they lead to in a table of 1 MiB.
fn bfs(random: &mut Random, records: &mut Vec<Record>, values: &mut Vec<u64>) {
    for _ in 0..BATCH / 3 {
        let edge = BASE + random.step * 4 % (8 * MIB);
        random.step += 1;
        let vertex = BASE + 16 * MIB + random.below(256 << 10) * 4;
        records.extend([record::access(edge, 4, false), record::access(vertex, 4, false)]);
        if random.step.is_multiple_of(8) {
            records.push(record::access(vertex, 4, true));
        }
        values.resize(records.len(), 0);
    }
}

/// Values of a store: a table of 4 MiB, then a few lines of a block, small numbers far more often.
fn store(random: &mut Random, records: &mut Vec<Record>, values: &mut Vec<u64>) {
    for _ in 0..BATCH / 8 {
        let key = random.below(200_000) * random.below(200_000) / 200_000;
        let block = BASE + 8 * MIB + key * 192;
        records.push(record::access(BASE + key.wrapping_mul(0x9e37_79b9) % (4 * MIB) / 8 * 8, 8, false));
        values.push(block);
        let is_write = random.below(10) == 0;
        records.extend((0..6).map(|i| record::access(block + i * 16, 16, is_write)));
        values.resize(records.len(), 0);
    }
}

/// Walks from the root of a tree to a leaf. Of each node the length, the keys up to one, and the way on; once a line, since
/// checks let no more through.
fn btree(random: &mut Random, records: &mut Vec<Record>, values: &mut Vec<u64>) {
    const FAN_OUT: u64 = 12;
    const INNER: u64 = 1 + 12 + 144 + 1728 + 20_736;
    while records.len() + 5 * 5 <= BATCH {
        let mut node = 0;
        while node < NODES.0 {
            let at = BASE + node * NODES.1 + 16;
            let way = random.below(FAN_OUT);
            let next = node * FAN_OUT + 1 + way;
            let of_node = records.len();
            let accesses = [(184, 0), (0, 0), (way.min(10) * 8, 0), (192 + way * 8, BASE + next * NODES.1 + 16)];
            for (offset, value) in accesses.into_iter().take(if node < INNER { 4 } else { 3 }) {
                let record = record::access(at + offset, 8, false);
                if records[of_node..].iter().all(|before| before / 64 != record / 64) {
                    records.push(record);
                    values.push(value);
                }
            }
            node = if node < INNER { next } else { NODES.0 };
        }
    }
}

/// Sixteen bytes are copied from one block to another, of 8 MiB.
fn ranges(random: &mut Random, records: &mut Vec<Record>, values: &mut Vec<u64>) {
    for _ in 0..BATCH / 2 {
        let [from, to] = [(); 2].map(|()| BASE + random.below(8 * MIB));
        records.extend([record::range(from, false), record::range(to, true)]);
        values.extend([16; 2]);
    }
}

/// Something of everything: blocks that come and go, copies, accesses to two lines, pointers.
fn mixed(random: &mut Random, records: &mut Vec<Record>, values: &mut Vec<u64>) {
    for _ in 0..BATCH / 8 {
        let place = random.below(4000);
        let block = BASE + place * 1104 / 16 * 16;
        let (size, site) = (16 + place * 7 % 1000, random.below(5) as u32);
        let (allocated, value) = record::allocated(block, size, site);
        match random.below(16) {
            0 => records.push(record::freed(block)),
            1 => {
                records.push(allocated);
                values.resize(records.len() - 1, 0);
                values.push(value);
            }
            2 => {
                records.push(record::range(block, random.below(2) == 0));
                values.resize(records.len() - 1, 0);
                values.push(random.below(700));
            }
            3 => records.push(record::access(block + 60, 8, true)),
            _ => {
                records.push(record::access(block + random.below(60) * 8, 8, false));
                values.resize(records.len() - 1, 0);
                let next = BASE + random.below(4000) * 1104 / 16 * 16;
                values.push(next);
                records.push(record::access(next + random.below(9) * 8, 4, random.below(3) == 0));
            }
        }
        values.resize(records.len(), 0);
    }
}

fn config() -> Config {
    Config {
        reports: "/nonexistent".into(),
        topology: "one-expander".into(),
        cache: std::env::args().nth(3).unwrap_or_else(|| CacheConfig::default().to_string()),
        overlap: Overlap::default(),
        placement: Placement::All("cxl0".into()),
        trace: None,
    }
}

/// CPU time and the report of one round; without an engine, only what making the accesses takes.
fn round(
    (pattern, threads, blocks): (Pattern, usize, BlocksOf),
    accesses: u64,
    with_engine: bool,
) -> (u64, u64, Option<Report>) {
    let config = config();
    let Ok((mut engine, tiers)) = config.engine() else { return (0, 0, None) };
    let threads: Vec<_> = (0..threads).map(|_| engine.begin_thread(None)).collect();
    for block in 0..blocks.0 {
        let site = engine.site(&[block % 8 + 1]);
        engine.allocate(BASE + block * blocks.1, blocks.1, site);
    }
    // Walks down trees and copies stand for what checks let through.
    let before = if blocks == NODES { vec![0; BATCH] } else { Vec::new() };
    let (mut records, mut values) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    let mut random = Random { state: 1, step: 0 };
    let (mut done, mut batches) = (0, 0);
    let began = thread_cpu_ns();
    while done < accesses {
        records.clear();
        values.clear();
        pattern(&mut random, &mut records, &mut values);
        if with_engine {
            engine.batch(
                threads[batches % threads.len()],
                &Batch {
                    records: &records,
                    values: &values,
                    before: before.get(..records.len()).unwrap_or_default(),
                    ..Batch::default()
                },
            );
        }
        batches += 1;
        black_box((&records, &values));
        done += records.len() as u64;
    }
    let ns = thread_cpu_ns() - began;
    (ns, done, Some(engine.report(&config, &tiers, Process::default())))
}

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let millions: u64 = std::env::args().nth(2).and_then(|count| count.parse().ok()).unwrap_or(5);
    println!("pattern   ns an access  beyond L1   missed   virtual ms  all figures");
    for (name, pattern, threads, blocks) in PATTERNS {
        let what = (pattern, threads, blocks);
        if !name.contains(&wanted) {
            continue;
        }
        let (mut least, mut made, mut last) = (u64::MAX, u64::MAX, None);
        for _ in 0..ROUNDS {
            let (ns, done, report) = round(what, millions * 1_000_000, true);
            least = least.min(ns);
            made = made.min(round(what, millions * 1_000_000, false).0);
            last = report.map(|report| (done, report));
        }
        let Some((done, report)) = last else { continue };
        let sum = |count: fn(&ThreadReport) -> u64| report.threads.iter().map(count).sum::<u64>() as f64;
        let missed = sum(|thread| thread.misses);
        let beyond = missed + sum(|thread| thread.hits.iter().skip(1).sum());
        let all = (sum(|thread| thread.hits.iter().take(1).sum()) + beyond) / 100.0;
        let mut hasher = DefaultHasher::new();
        serde_json::to_string(&report).unwrap_or_default().hash(&mut hasher);
        println!(
            "{name:8} {:10.1} {:11.1} % {:7.1} % {:10.2}  {:016x}",
            least.saturating_sub(made) as f64 / done as f64,
            beyond / all,
            missed / all,
            report.virtual_ps as f64 / 1e9,
            hasher.finish()
        );
    }
}
