//! Measuring works on real tiers, and what it says about them holds together. Never how fast they are.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use tiermem_discovery::measure::{self, Effort, Measurement};
use tiermem_tiers::{Bytes, TierId, TierSpec, provider};

fn effort() -> Effort {
    let cpus = tiermem_sys::cpu::allowed().unwrap();
    Effort { working_set: Bytes::mib(32), repeats: 3, run_ms: 5, pauses: vec![100, 0], cpus }
}

fn measure(spec: &str) -> Result<Measurement, tiermem_tiers::Error> {
    let spec: TierSpec = spec.parse().unwrap();
    let provider = provider::open(&spec, TierId(0)).unwrap();
    let mut steps = Vec::new();
    let mut progress = |done: usize, all: usize, _: &str| steps.push((done, all));
    let measured = measure::tier(&*provider, &spec.location, &effort(), &mut progress);
    assert_eq!(provider.usage().reserved, Bytes::ZERO, "everything is given back");
    if measured.is_ok() {
        assert!(steps.iter().enumerate().all(|(at, &(done, all))| at == done && done < all), "{steps:?}");
    }
    measured
}

#[test]
fn dram_has_every_figure_and_a_curve() {
    let dram = measure("fast=dram,size=64M").unwrap();
    assert_eq!(dram.working_set_bytes, 32 << 20);
    for figure in [dram.read_latency_ns, dram.read_bandwidth, dram.write_bandwidth] {
        let figure = figure.unwrap();
        assert!(figure.median > 0.0 && figure.mad >= 0.0 && figure.samples == 3);
    }
    assert_eq!(dram.write_latency_ns, None, "a store has no latency that the CPU waits for");
    let pauses: Vec<_> = dram.loaded.iter().map(|point| point.pause).collect();
    assert_eq!(pauses, [None, Some(100), Some(0)]);
    assert_eq!(dram.loaded[0].bandwidth.median, 0.0);
    assert!(dram.loaded[2].bandwidth.median > dram.loaded[1].bandwidth.median, "shorter pauses load more");
}

#[test]
fn a_small_tier_is_measured_with_what_it_has_and_says_so() {
    let dram = measure("fast=dram,size=24M").unwrap();
    assert_eq!(dram.working_set_bytes, 16 << 20);
    assert!(dram.notes.iter().any(|note| note.contains("room for 16 MiB of the 32 MiB")), "{:?}", dram.notes);
}

#[test]
fn a_tier_that_is_copied_has_other_figures() {
    let device = measure("gpu=device:emulated,size=32M").unwrap();
    let small = device.small.unwrap();
    for figure in [device.read_bandwidth.unwrap(), device.write_bandwidth.unwrap(), small.read_bandwidth] {
        assert!(figure.median > 0.0);
    }
    assert!(device.read_latency_ns.unwrap().median > 0.0 && device.write_latency_ns.unwrap().median > 0.0);
    assert!(device.loaded.is_empty() && device.huge_bytes.is_none());
}

/// Negative control: a tier that is too small is an error, not a figure.
#[test]
fn a_tier_without_room_is_an_error() {
    assert!(measure("fast=dram,size=8M").unwrap_err().is_fallback_worthy());
}
