//! Kernels in virtual time against closed forms. The forms know the profile's figures and the caches' sizes, not the
//! model.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use tiermem_emulator::cache::CacheConfig;
use tiermem_emulator::model::{HostIndex, System, TierIndex};
use tiermem_emulator::workload::kernel::{self, Setting, Zipf};
use tiermem_emulator::workload::{Core, closed_form};
use tiermem_tiers::Bytes;
use tiermem_topology::{
    Device, DeviceKind, Exposure, Host, Link, MemoryFigures, Node, Persistence, Profile, ProfileFigures, Topology,
};

/// A host with DRAM and one device of each of these.
const FAR: [&str; 3] = ["cxl-asic", "cxl-fpga", "cxl-far"];

fn machine() -> Topology {
    let device = |name: &str| Device {
        name: name.to_owned(),
        kind: DeviceKind::Cxl,
        capacity: Bytes(64 << 30),
        profile: name.to_owned(),
        exposure: Exposure::Node,
        persistence: Persistence::Volatile,
    };
    let link = |name: &str| Link { from: "host".to_owned(), to: name.to_owned(), profile: None };
    Topology {
        hosts: vec![Host { name: "host".to_owned() }],
        nodes: vec![Node {
            name: "dram".to_owned(),
            host: "host".to_owned(),
            cpus: 8,
            capacity: Bytes(64 << 30),
            profile: "dram-ddr5".to_owned(),
        }],
        devices: FAR.map(device).into(),
        links: FAR.map(link).into(),
        ..Topology::default()
    }
}

/// Small enough that tests outgrow them quickly.
fn caches() -> CacheConfig {
    CacheConfig::parse("32K/8@1.7,512K/16@5,shared:4M/16@21").unwrap()
}

fn setting(topology: &Topology, tier: &str) -> Setting {
    let tier = System::new(topology).unwrap().tier(tier).unwrap();
    Setting { host: HostIndex(0), tier, caches: caches(), core: Core::default() }
}

fn figures(tier: &str) -> MemoryFigures {
    let profile = if tier == "dram" { "dram-ddr5" } else { tier };
    match Profile::builtin(profile).unwrap().figures {
        ProfileFigures::Memory(figures) => figures,
        other => panic!("{other:?}"),
    }
}

/// Compares on all tiers, and says by how much the worst is off.
fn worst(what: &str, mut found_and_expected: impl FnMut(&Topology, &Setting, &MemoryFigures) -> (f64, f64)) -> f64 {
    let topology = machine();
    let mut worst: f64 = 0.0;
    for tier in ["dram"].into_iter().chain(FAR) {
        let (found, expected) = found_and_expected(&topology, &setting(&topology, tier), &figures(tier));
        let error = found / expected - 1.0;
        println!("{what} on {tier}: {found:.3} ns, closed form {expected:.3} ns, {:+.2} %", error * 100.0);
        worst = worst.max(error.abs());
    }
    worst
}

#[test]
fn pointer_chase() {
    let error = worst("chase", |topology, setting, figures| {
        let outcome = kernel::chase(topology, setting, 1 << 18, 100_000).unwrap();
        assert_eq!(outcome.misses, 100_000, "a cycle longer than the caches never hits with LRU");
        (outcome.ns_each(), closed_form::chase_ns(figures))
    });
    assert!(error < 0.005, "{error}");
}

#[test]
fn stream() {
    for threads in [1_u32, 4, 16] {
        let error = worst(&format!("stream, {threads} threads"), |topology, setting, figures| {
            let outcome = kernel::stream(topology, setting, threads, 64 << 20).unwrap();
            let in_flight = f64::from(threads) * setting.core.lines_in_flight as f64;
            (outcome.ns_each(), closed_form::closed_loop_ns(figures, 1.0, in_flight, 0.0))
        });
        assert!(error < 0.02, "{threads} threads: {error}");
    }
}

#[test]
fn random_updates() {
    let error = worst("updates", |topology, setting, figures| {
        let bytes = 256 << 20;
        let outcome = kernel::updates(topology, setting, bytes, 200_000).unwrap();
        (outcome.ns_each(), closed_form::update_ns(figures, &setting.caches, setting.core, bytes))
    });
    assert!(error < 0.02, "{error}");
}

#[test]
fn btree_lookups() {
    let error = worst("btree", |topology, setting, figures| {
        let outcome = kernel::btree(topology, setting, 1 << 20, 40_000).unwrap();
        (outcome.ns_each(), closed_form::btree_lookup_ns(figures, &setting.caches, 1 << 20))
    });
    assert!(error < 0.02, "{error}");
}

#[test]
fn zipf_gets() {
    let error = worst("zipf", |topology, setting, figures| {
        let outcome = kernel::zipf_store(topology, setting, 500_000, 0.99, 200_000).unwrap();
        (outcome.ns_each(), closed_form::zipf_get_ns(figures, &setting.caches, &Zipf::new(500_000, 0.99)))
    });
    assert!(error < 0.02, "{error}");
}

/// No closed form: only what must hold. The published ranges are discussed in `docs/models.md`.
#[test]
fn breadth_first_search_is_slowed_by_less_than_the_latency() {
    let topology = machine();
    let far = |name: &str| setting(&topology, name);
    let outcome = |tier: TierIndex| kernel::bfs(&topology, &Setting { tier, ..far("dram") }, 200_000, 8);
    for name in FAR {
        let slowdown = kernel::slowdown(outcome, far("dram").tier, far(name).tier).unwrap();
        let latencies = figures(name).read_latency_ns.value / figures("dram").read_latency_ns.value;
        println!("bfs on {name}: {slowdown:.2} times as long, latency {latencies:.2} times");
        assert!(slowdown > 1.2 && slowdown <= latencies * 1.02, "{name}: {slowdown}, {latencies}");
    }
}

/// The negative control: a form for other figures does not fit.
#[test]
fn a_wrong_figure_does_not_pass() {
    let error = worst("chase", |topology, setting, figures| {
        let mut wrong = figures.clone();
        wrong.read_latency_ns.value *= 1.02;
        let outcome = kernel::chase(topology, setting, 1 << 18, 20_000).unwrap();
        (outcome.ns_each(), closed_form::chase_ns(&wrong))
    });
    assert!(error > 0.005, "{error}");
}
