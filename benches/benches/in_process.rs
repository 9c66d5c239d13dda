//! In-process micro-benchmarks: what a program that links tiermem pays, without the C interface in between.
//!
//! To add a question, add a function that takes [`Heap`]s; to add a heap, add a line to [`HEAPS`].

#![expect(unsafe_code, reason = "the heaps' own interfaces are unsafe to call, and they are what is measured")]

use std::alloc::{GlobalAlloc as _, Layout, System};
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tiermem::TierMem;
use tiermem_benches::workload::Random;

const ALIGN: usize = 16;
const BATCH: usize = 1000;
const LIVE: usize = 100_000;

/// What a string grows through when bytes are pushed to it.
const GROWTH_BYTES: [usize; 8] = [8, 16, 32, 64, 128, 256, 512, 1024];

/// A heap under test: how to allocate `size` bytes, how to free them, and how to change their size.
struct Heap {
    name: &'static str,
    allocate: fn(usize) -> *mut u8,
    zeroed: fn(usize) -> *mut u8,
    free: fn(*mut u8, usize),
    resize: fn(*mut u8, usize, usize) -> *mut u8,
}

const HEAPS: [Heap; 2] = [
    Heap {
        name: "tiermem",
        // SAFETY: sizes in these benchmarks are never zero.
        allocate: |size| unsafe { TierMem.alloc(layout(size)) },
        // SAFETY: sizes in these benchmarks are never zero.
        zeroed: |size| unsafe { TierMem.alloc_zeroed(layout(size)) },
        // SAFETY: every benchmark frees what it allocated here, once, with the same size.
        free: |block, size| unsafe { TierMem.dealloc(block, layout(size)) },
        // SAFETY: every benchmark resizes what it allocated here, with the size that it has, to one that is not zero.
        resize: |block, old, new| unsafe { TierMem.realloc(block, layout(old), new) },
    },
    Heap {
        name: "system",
        // SAFETY: sizes in these benchmarks are never zero.
        allocate: |size| unsafe { System.alloc(layout(size)) },
        // SAFETY: sizes in these benchmarks are never zero.
        zeroed: |size| unsafe { System.alloc_zeroed(layout(size)) },
        // SAFETY: every benchmark frees what it allocated here, once, with the same size.
        free: |block, size| unsafe { System.dealloc(block, layout(size)) },
        // SAFETY: every benchmark resizes what it allocated here, with the size that it has, to one that is not zero.
        resize: |block, old, new| unsafe { System.realloc(block, layout(old), new) },
    },
];

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, ALIGN).expect("small sizes have a layout")
}

/// One block allocated and freed at once.
fn pair(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pair");
    for heap in &HEAPS {
        for size in [16, 64, 256, 1024, 8192, 65_536] {
            group.bench_with_input(BenchmarkId::new(heap.name, size), &size, |bencher, size| {
                bencher.iter(|| (heap.free)(black_box((heap.allocate)(black_box(*size))), *size));
            });
        }
    }
}

/// One block of zeros allocated and freed at once.
fn zeroed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("zeroed");
    for heap in &HEAPS {
        for size in [64, 1024, 65_536] {
            group.bench_with_input(BenchmarkId::new(heap.name, size), &size, |bencher, size| {
                bencher.iter(|| (heap.free)(black_box((heap.zeroed)(black_box(*size))), *size));
            });
        }
    }
}

/// One block that grows from 8 bytes to 1 KiB, doubling.
fn grow(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("grow");
    for heap in &HEAPS {
        group.bench_function(heap.name, |bencher| {
            bencher.iter(|| {
                let mut block = (heap.allocate)(GROWTH_BYTES[0]);
                for step in GROWTH_BYTES.windows(2) {
                    block = black_box((heap.resize)(block, step[0], step[1]));
                }
                (heap.free)(block, GROWTH_BYTES[GROWTH_BYTES.len() - 1]);
            });
        });
    }
}

/// A thousand blocks of mixed sizes, freed in the order in which they came.
fn batch(criterion: &mut Criterion) {
    let mut random = Random::new(1);
    let sizes: Vec<usize> = (0..BATCH).map(|_| random.skewed(16, 6)).collect();
    let mut blocks = Vec::with_capacity(BATCH);
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(BATCH as u64));
    for heap in &HEAPS {
        group.bench_function(heap.name, |bencher| {
            bencher.iter(|| {
                blocks.extend(sizes.iter().map(|size| (heap.allocate)(*size)));
                blocks.drain(..).zip(&sizes).for_each(|(block, size)| (heap.free)(block, *size));
            });
        });
    }
}

/// A random one of 100,000 live blocks replaced: most of the cost is cache misses.
fn churn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("churn-100k");
    for heap in &HEAPS {
        let mut random = Random::new(1);
        let mut live: Vec<(*mut u8, usize)> = (0..LIVE)
            .map(|_| {
                let size = random.skewed(16, 4);
                ((heap.allocate)(size), size)
            })
            .collect();
        group.bench_function(heap.name, |bencher| {
            bencher.iter(|| {
                let slot = &mut live[random.below(LIVE)];
                (heap.free)(slot.0, slot.1);
                let size = random.skewed(16, 4);
                *slot = ((heap.allocate)(size), size);
            });
        });
        live.drain(..).for_each(|(block, size)| (heap.free)(block, size));
    }
}

criterion_group!(benches, pair, zeroed, grow, batch, churn);
criterion_main!(benches);
