//! Systems built from topologies: names, numbers, ways.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tiermem_emulator::model::{Direction, ModelError, Request, Serve, System};
use tiermem_emulator::time::Time;
use tiermem_tiers::Bytes;
use tiermem_topology::{
    Bridge, Coherence, Device, DeviceKind, Exposure, Host, InterleaveSet, Link, Node, Persistence, Pool, Profile,
    ProfileFigures, Switch, Topology,
};

fn device(name: &str, profile: &str, kind: DeviceKind) -> Device {
    Device {
        name: name.to_owned(),
        kind,
        capacity: Bytes::mib(256),
        profile: profile.to_owned(),
        exposure: Exposure::Node,
        persistence: Persistence::Volatile,
    }
}

fn link(from: &str, to: &str, profile: Option<&str>) -> Link {
    Link { from: from.to_owned(), to: to.to_owned(), profile: profile.map(str::to_owned) }
}

/// Two hosts with DRAM. `a` has two interleaved expanders over two bridges, a drive and an accelerator; both reach a
/// pool through a switch.
fn everything() -> Topology {
    let host = |name: &str| Host { name: name.to_owned() };
    let node = |name: &str, host: &str| Node {
        name: name.to_owned(),
        host: host.to_owned(),
        cpus: 2,
        capacity: Bytes::mib(1024),
        profile: "dram-ddr5".to_owned(),
    };
    let bridge = |name: &str| Bridge { name: name.to_owned(), host: "a".to_owned() };
    Topology {
        name: "everything".to_owned(),
        hosts: vec![host("a"), host("b")],
        nodes: vec![node("dram-a", "a"), node("dram-b", "b")],
        bridges: vec![bridge("left"), bridge("right")],
        switches: vec![Switch { name: "switch".to_owned(), profile: "cxl-switch".to_owned() }],
        devices: vec![
            device("cxl0", "cxl-asic", DeviceKind::Cxl),
            device("cxl1", "cxl-asic", DeviceKind::Cxl),
            device("shared", "cxl-asic", DeviceKind::Cxl),
            device("drive", "nvme-gen5", DeviceKind::Nvme),
            device("gpu", "gpu-h100", DeviceKind::Gpu),
        ],
        links: vec![
            link("left", "cxl0", None),
            link("right", "cxl1", None),
            link("a", "switch", Some("pcie5-x8")),
            link("b", "switch", Some("pcie5-x8")),
            link("switch", "shared", Some("pcie5-x8")),
            link("a", "drive", None),
            link("a", "gpu", None),
        ],
        interleave_sets: vec![InterleaveSet {
            name: "set".to_owned(),
            devices: vec!["cxl0".to_owned(), "cxl1".to_owned()],
            granularity: 256,
            exposure: Exposure::Node,
        }],
        pools: vec![Pool {
            name: "pool".to_owned(),
            device: "shared".to_owned(),
            hosts: vec!["a".to_owned(), "b".to_owned()],
            coherence: Coherence::None,
        }],
        profiles: ["dram-ddr5", "cxl-asic", "cxl-switch", "pcie5-x8", "nvme-gen5", "gpu-h100"]
            .map(|name| Profile::builtin(name).unwrap())
            .into(),
        ..Topology::default()
    }
}

fn read(system: &mut System, at: Time, host: &str, tier: &str, offset: u64, len: u32) -> Time {
    let (host, tier) = (system.host(host).unwrap(), system.tier(tier).unwrap());
    system.serve(at, Request { host, tier, direction: Direction::Read, offset, len })
}

#[test]
fn tiers_come_in_their_order() {
    let system = System::new(&everything()).unwrap();
    let names: Vec<&str> = system.tiers().iter().map(|tier| tier.name.as_str()).collect();
    assert_eq!(names, ["dram-a", "dram-b", "drive", "gpu", "set", "pool"]);
    assert_eq!(system.tiers()[4].capacity, Bytes::mib(512));
    assert_eq!(system.tiers()[4].devices, ["cxl0", "cxl1"]);
    let reached: Vec<Vec<bool>> = ["a", "b"]
        .map(|host| {
            names.iter().map(|tier| system.reaches(system.host(host).unwrap(), system.tier(tier).unwrap())).collect()
        })
        .into();
    assert_eq!(reached, [[true, false, true, true, true, true], [false, true, false, false, false, true]]);
}

#[test]
fn idle_latencies_are_those_of_the_profiles_and_ways() {
    let topology = everything();
    let mut system = System::new(&topology).unwrap();
    let asic = 97.8 * 2.18;
    let cases = [
        ("dram-a", 97.8),
        ("set", asic),
        // Two links of 25 ns and the switch's 80.
        ("pool", asic + 2.0 * 25.0 + 80.0),
        ("drive", 60_000.0),
        ("gpu", 6_000.0),
    ];
    for (tier, expected) in cases {
        let took = read(&mut system, Time(1 << 40), "a", tier, 0, 64).since(Time(1 << 40)).as_ns();
        assert!((took - expected).abs() < 0.01, "{tier}: {took} ns, expected {expected}");
    }
    let again = read(&mut system, Time(1 << 41), "b", "pool", 0, 64).since(Time(1 << 41)).as_ns();
    assert!((again - (asic + 130.0)).abs() < 0.01, "{again}");
}

#[test]
#[should_panic(expected = "host 1 has no way to tier 0")]
fn a_host_without_a_way_is_a_mistake_of_the_caller() {
    let mut system = System::new(&everything()).unwrap();
    read(&mut system, Time::ZERO, "b", "dram-a", 0, 64);
}

#[test]
fn what_does_not_fit_together_is_named() {
    let mut topology = everything();
    topology.nodes[0].profile = "nothing".to_owned();
    let error = System::new(&topology).unwrap_err();
    assert_eq!(error.to_string(), "dram-a names the profile nothing, which is not there");
    let mut topology = everything();
    topology.devices[3].profile = "cxl-asic".to_owned();
    assert!(matches!(System::new(&topology), Err(ModelError::WrongKind { needed: "nvme", .. })));
    let mut topology = everything();
    topology.links[2].profile = Some("dram-ddr5".to_owned());
    assert!(matches!(System::new(&topology), Err(ModelError::WrongKind { needed: "link", .. })));
    let mut topology = everything();
    topology.pools[0].device = "elsewhere".to_owned();
    assert!(matches!(System::new(&topology), Err(ModelError::NoDevice { .. })));
}

/// Reads lines of `tier` from each of `hosts` as fast as `outstanding` requests at a time allow; bytes a second each.
fn stream(system: &mut System, hosts: &[&str], tier: &str, outstanding: usize) -> f64 {
    let each = hosts.iter().flat_map(|&host| vec![Reverse((Time::ZERO, host)); outstanding]);
    let mut slots: BinaryHeap<Reverse<(Time, &str)>> = each.collect();
    let (mut line, end) = (0, Time::from_ns(1e6));
    loop {
        let Reverse((at, host)) = slots.pop().unwrap();
        if at >= end {
            return line as f64 * 64.0 / end.as_ns() * 1e9 / hosts.len() as f64;
        }
        let done = read(system, at, host, tier, line % (1 << 20) * 64, 64);
        slots.push(Reverse((done, host)));
        line += 1;
    }
}

#[test]
fn a_set_has_the_bandwidth_of_its_devices_and_a_pool_shares_its_link() {
    let topology = everything();
    let Some(ProfileFigures::Memory(asic)) = Profile::builtin("cxl-asic").map(|profile| profile.figures) else {
        panic!("memory")
    };
    let device = asic.read_bandwidth.value;
    let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.02, "{found} {expected}");
    close(stream(&mut System::new(&topology).unwrap(), &["a"], "set", 800), 2.0 * device);
    // Through a link of 26 GB/s, alone and shared.
    close(stream(&mut System::new(&topology).unwrap(), &["a"], "pool", 600), 26e9);
    close(stream(&mut System::new(&topology).unwrap(), &["a", "b"], "pool", 600), 13e9);
}

#[test]
fn the_same_requests_take_the_same_time() {
    let run = || {
        let mut system = System::new(&everything()).unwrap();
        let tiers = ["dram-a", "set", "pool", "drive", "gpu"];
        let times = (0..5000_u64).map(|n| {
            let at = Time(n * 7919 % 50_000_000);
            read(&mut system, at, "a", tiers[(n % 5) as usize], n * 4096 % (1 << 27), 64 << (n % 7))
        });
        times.collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

/// Sends `count` requests with `in_flight` of them at a time; requests a second, after as many to warm up.
fn rate(system: &mut System, tier: &str, direction: Direction, len: u32, in_flight: usize, count: u64) -> f64 {
    let (host, tier) = (system.host("a").unwrap(), system.tier(tier).unwrap());
    let mut slots: BinaryHeap<Reverse<Time>> = vec![Reverse(Time::ZERO); in_flight].into();
    let (mut begun, mut last) = (Time::ZERO, Time::ZERO);
    for n in 0..2 * count {
        let Reverse(at) = slots.pop().unwrap();
        if n == count {
            begun = at;
        }
        last = at;
        let offset = n * u64::from(len) % (128 << 20);
        slots.push(Reverse(system.serve(at, Request { host, tier, direction, offset, len })));
    }
    count as f64 * 1e9 / last.since(begun).as_ns()
}

/// The closed form of a queue with as many servers as commands in flight: `min(depth / latency, commands a second,
/// bandwidth / size)`.
#[test]
fn a_drive_is_a_queue_behind_two_limits() {
    let cases = [
        (Direction::Read, 4096, 1, 1.0 / 60e-6),
        (Direction::Read, 4096, 64, 64.0 / 60e-6),
        (Direction::Read, 4096, 2000, 3.3e6),
        (Direction::Write, 4096, 8, 8.0 / 15e-6),
        (Direction::Write, 4096, 2000, 820e3),
        (Direction::Read, 128 << 10, 256, 14e9 / f64::from(128 << 10)),
        (Direction::Write, 128 << 10, 256, 10e9 / f64::from(128 << 10)),
    ];
    for (direction, len, in_flight, expected) in cases {
        let found = rate(&mut System::new(&everything()).unwrap(), "drive", direction, len, in_flight, 20_000);
        assert!((found / expected - 1.0).abs() < 0.01, "{direction:?} {len} × {in_flight}: {found}, not {expected}");
    }
}

/// Three engines, one of them for reads: a second copy the same way waits for the first, one the other way does not.
#[test]
fn copies_of_a_gpu_take_turns_for_each_direction() {
    let mut system = System::new(&everything()).unwrap();
    let (host, tier) = (system.host("a").unwrap(), system.tier("gpu").unwrap());
    let len = 64 << 20;
    let mut copy = |direction| system.serve(Time::ZERO, Request { host, tier, direction, offset: 0, len }).as_ns();
    let (moving, setup) = (f64::from(len) / 55.6, 6000.0);
    let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.001, "{found} {expected}");
    close(copy(Direction::Read), setup + moving);
    close(copy(Direction::Write), setup + moving);
    close(copy(Direction::Read), setup + 2.0 * moving);
}

#[test]
fn each_direction_of_a_link_has_its_own_bandwidth() {
    let mut topology = everything();
    let text = "version = 1\nname = \"lopsided\"\nbase = \"pcie5-x8\"\n\
                down_bandwidth = { value = \"5 GB/s\", status = \"assumed\", source = \"a test\" }\n";
    topology.profiles.push(Profile::parse(text, "lopsided.toml").unwrap());
    topology.links[4].profile = Some("lopsided".to_owned());
    let found = |direction| 64.0 * rate(&mut System::new(&topology).unwrap(), "pool", direction, 64, 512, 100_000);
    let (read, written) = (found(Direction::Read), found(Direction::Write));
    assert!((read / 26e9 - 1.0).abs() < 0.01 && (written / 5e9 - 1.0).abs() < 0.01, "{read} {written}");
}
