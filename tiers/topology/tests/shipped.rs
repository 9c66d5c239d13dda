//! The shipped topologies are right, are named as their files are, and survive being written and read.

use proptest::prelude::*;
use tiermem_tiers::Bytes;
use tiermem_topology::{
    Bridge, Coherence, Device, DeviceKind, Exposure, Host, InterleaveSet, Link, LoadError, Node, Persistence, Pool,
    SHIPPED, Switch, Topology,
};

#[test]
fn all_are_right_and_survive_being_shown() {
    for (name, text) in SHIPPED {
        let topology = Topology::parse(text, name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(topology.name, *name);
        assert!(topology.description.len() > 20, "{name}");
        let again = Topology::parse(&topology.to_string(), name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(again, topology, "{topology}");
        assert_eq!(Topology::shipped(name), Some(topology));
    }
}

#[test]
fn every_file_is_shipped() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/topologies");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(SHIPPED.iter().any(|(shipped, _)| *shipped == name), "{name} is in the folder only");
    }
}

#[test]
fn loading_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let which = path.to_str().unwrap();
    assert!(matches!(Topology::load(which), Err(LoadError::Unreadable { .. })));
    std::fs::write(&path, SHIPPED[0].1).unwrap();
    assert_eq!(Topology::load(which).unwrap().name, "one-expander");
    std::fs::write(&path, "version = 7\n").unwrap();
    let error = Topology::load(which).unwrap_err();
    assert!(error.to_string().contains("mine.toml:1:11: 7 is out of range"), "{error}");
    assert!(matches!(Topology::load("pool-5"), Err(LoadError::Unknown { .. })));
    let text = Topology::load("pool-5").unwrap_err().to_string();
    assert!(text.contains("neither a shipped topology nor a file: `pool-5`; did you mean `pool-"), "{text}");
}

fn devices(count: usize, capacity: u64, exposure: Exposure) -> Vec<Device> {
    let device = |i| Device {
        name: format!("cxl.{i}"),
        kind: DeviceKind::Cxl,
        capacity: Bytes::mib(capacity * 2),
        profile: "cxl-fpga".to_owned(),
        exposure,
        persistence: if exposure == Exposure::Fsdax { Persistence::Persistent } else { Persistence::Volatile },
    };
    (0..count).map(device).collect()
}

fn link(from: &str, to: &str, with_profile: bool) -> Link {
    Link { from: from.into(), to: to.into(), profile: with_profile.then(|| "pcie5-x16".to_owned()) }
}

prop_compose! {
    /// Some hosts; some devices of each behind bridges, in a set or not; one shared device behind a switch.
    fn topologies()(
        hosts in 1usize..4, ways in prop::sample::select(vec![1usize, 2, 3, 4]), capacity in 1u64..100_000,
        exposure in prop::sample::select(vec![Exposure::Node, Exposure::Devdax, Exposure::Fsdax]),
        granularity in (8u32..=14).prop_map(|shift| 1 << shift), in_set: bool, profiled: bool,
        coherence in prop::sample::select(vec![Coherence::Hardware, Coherence::Software, Coherence::None]),
        description in "[ -~é]{0,40}[a-z]",
    ) -> Topology {
        let mut topology = Topology { name: "random".to_owned(), description, ..Topology::default() };
        for host in (0..hosts).map(|i| format!("h{i}")) {
            topology.nodes.push(Node { name: format!("n-{host}"), host: host.clone(), cpus: 1, capacity: Bytes::gib(1), profile: "dram-ddr5".into() });
            topology.hosts.push(Host { name: host });
        }
        topology.devices = devices(ways, capacity, if in_set { Exposure::Node } else { exposure });
        topology.bridges.push(Bridge { name: "hb".into(), host: "h0".into() });
        topology.links = topology.devices.iter().map(|device| link("hb", &device.name, profiled)).collect();
        if in_set {
            let devices = topology.devices.iter().map(|device| device.name.clone()).collect();
            topology.interleave_sets.push(InterleaveSet { name: "set".into(), devices, granularity, exposure: Exposure::Devdax });
        }
        if hosts > 1 {
            topology.switches.push(Switch { name: "sw".into(), profile: "cxl-switch".into() });
            let shared = Device { name: "shared".into(), ..devices(1, capacity, exposure).remove(0) };
            topology.devices.push(shared);
            topology.links.extend(topology.hosts.iter().map(|host| link(&host.name, "sw", profiled)));
            topology.links.push(link("sw", "shared", false));
            let hosts = topology.hosts.iter().map(|host| host.name.clone()).collect();
            topology.pools.push(Pool { name: "pool".into(), device: "shared".into(), hosts, coherence });
        }
        topology
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_shown_reads_back(topology in topologies()) {
        let text = topology.to_string();
        let again = Topology::parse(&text, "shown.toml");
        prop_assert!(again.is_ok(), "{}\n{text}", again.unwrap_err());
        let again = again.unwrap();
        prop_assert!(again.profiles.iter().any(|profile| profile.name == "dram-ddr5"), "profiles are gathered");
        prop_assert_eq!(Topology { profiles: Vec::new(), ..again }, topology);
    }

    /// Lines of right files, shuffled, doubled and cut: an answer, and complaints only within the text.
    #[test]
    fn no_text_makes_it_panic(seed in any::<prop::sample::Index>(), picks in prop::collection::vec(any::<prop::sample::Index>(), 0..60), cut in any::<prop::sample::Index>()) {
        let (_, text) = seed.get(SHIPPED);
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let mut mangled: String = picks.iter().map(|pick| *pick.get(&lines)).collect();
        mangled.truncate(mangled.floor_char_boundary(cut.index(mangled.len() + 1)));
        if let Err(error) = Topology::parse(&mangled, "mangled.toml") {
            prop_assert!(!error.entries().is_empty());
            for entry in error.entries() {
                prop_assert!(entry.line <= mangled.lines().count() + 1, "{error}");
            }
        }
    }
}
