//! From topologies to QEMU's arguments: what the kernel will make of them depends on these.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::Path;

use tiermem_qemu::ErrorKind;
use tiermem_qemu::guest::plan::Exposure;
use tiermem_qemu::machine::{Folders, Machine, machines};
use tiermem_topology::{SHIPPED, Topology};

fn folders() -> Folders<'static> {
    Folders { scratch: Path::new("/scratch"), state: Path::new("/state") }
}

fn shipped(name: &str) -> Vec<Machine> {
    machines(&Topology::shipped(name).unwrap(), None, folders()).unwrap()
}

/// The values of an option, in order.
fn values<'a>(machine: &'a Machine, option: &str) -> Vec<&'a str> {
    let pairs = machine.arguments.windows(2).filter(|pair| pair[0] == option);
    pairs.map(|pair| pair[1].as_str()).collect()
}

#[test]
fn every_shipped_topology_is_a_machine_for_each_host() {
    for (name, _) in SHIPPED {
        let topology = Topology::shipped(name).unwrap();
        let machines = machines(&topology, None, folders()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(machines.len(), topology.hosts.len(), "{name}");
        for machine in &machines {
            let windows = machine.plan.regions.iter().map(|region| region.window);
            assert!(
                windows.eq(0..u32::try_from(machine.plan.regions.len()).unwrap()),
                "{name}: a window for each region"
            );
        }
    }
}

/// The kernel takes the number behind the last node's for a CXL window. A bridge's domain there would give the window the
/// bridge's figures, and CXL memory would be the fastest tier.
#[test]
fn bridges_have_their_domains_before_the_nodes() {
    let machine = &shipped("two-interleaved")[0];
    let nodes = values(machine, "-numa").into_iter().filter(|value| value.starts_with("node,")).collect::<Vec<_>>();
    assert_eq!(nodes.len(), 3, "two bridges and a node: {nodes:?}");
    assert!(
        nodes[..2].iter().all(|node| !node.contains("memdev")) && nodes[2].contains("nodeid=2,memdev=node2,cpus=0-1")
    );
    let ports = values(machine, "-object").into_iter().filter(|value| value.starts_with("acpi-generic-port"));
    assert!(ports.zip(0..).all(|(port, number)| port.ends_with(&format!("node={number}"))));
    assert_eq!(machine.plan.nodes, [("dram".to_owned(), 0)], "the kernel counts nodes with memory only");
}

#[test]
fn interleaving_over_bridges_is_one_window_over_both() {
    let machine = &shipped("two-interleaved")[0];
    let window = "cxl-fmw.0.targets.0=bridge0,cxl-fmw.0.targets.1=bridge1,cxl-fmw.0.size=512M";
    assert!(values(machine, "-M")[0].contains(window), "{:?}", values(machine, "-M"));
    let region = &machine.plan.regions[0];
    assert_eq!((region.serials.as_slice(), region.bridges.len(), region.granularity), (&[1, 2][..], 2, 256));
    let machine = &shipped("two-ports")[0];
    assert_eq!((machine.plan.regions[0].serials.len(), machine.plan.regions[0].bridges.len()), (2, 1));
}

#[test]
fn what_is_not_interleaved_has_a_window_of_its_own() {
    let machine = &shipped("switch-two")[0];
    let arguments = values(machine, "-M")[0];
    assert!(arguments.contains("cxl-fmw.0.size=256M") && arguments.contains("cxl-fmw.1.size=256M"), "{arguments}");
}

/// With one processor, QEMU makes plain accesses of atomic ones, and guests that share memory lose increments.
#[test]
fn guests_that_share_memory_have_two_processors() {
    let one = "version = 1\nname = 't'\n[host.a]\n[node.n]\nhost = 'a'\ncpus = 1\ncapacity = '1G'\nprofile = 'dram-ddr5'\n\
        [device.d]\nkind = 'cxl'\ncapacity = '256M'\nprofile = 'cxl-asic'\nexposure = 'devdax'\n[[link]]\nfrom = 'a'\nto = 'd'\n";
    let topology = Topology::parse(one, "t.toml").unwrap();
    let of = |guests| machines(&topology, guests, folders()).unwrap();
    assert_eq!(values(&of(None)[0], "-smp"), ["1"]);
    let pair = of(Some(2));
    assert!(pair.iter().all(|machine| values(machine, "-smp") == ["2"]));
    assert_eq!(pair[0].files[0], pair[1].files[0], "one file is the memory of both");
    assert_eq!(machines(&topology, Some(0), folders()).unwrap_err().kind(), ErrorKind::BadInput);
}

#[test]
fn persistent_memory_is_kept_in_files() {
    for (name, exposure) in [("persistent", Exposure::Fsdax), ("persistent-devdax", Exposure::Devdax)] {
        let machine = &shipped(name)[0];
        assert!(machine.plan.regions[0].persistent && machine.plan.regions[0].exposure == exposure);
        let kept: Vec<_> = machine.files.iter().filter(|file| file.kept).collect();
        assert_eq!(kept.len(), 2, "memory and labels");
        assert!(kept.iter().all(|file| file.path.starts_with("/state")));
    }
}

/// A bridge's decoders hold four regions; a fifth is refused before anything starts.
#[test]
fn more_regions_than_decoders_are_refused() {
    let text = |count: usize| {
        let devices = (0..count).map(|number| {
            format!("[device.d{number}]\nkind = 'cxl'\ncapacity = '256M'\nprofile = 'cxl-asic'\n[[link]]\nfrom = 'a'\nto = 'd{number}'\n")
        });
        let head = "version = 1\nname = 't'\n[host.a]\n[node.n]\nhost = 'a'\ncpus = 1\ncapacity = '1G'\nprofile = 'dram-ddr5'\n";
        Topology::parse(&format!("{head}{}", devices.collect::<String>()), "t.toml").unwrap()
    };
    assert_eq!(machines(&text(4), None, folders()).unwrap()[0].plan.regions.len(), 4);
    let error = machines(&text(5), None, folders()).unwrap_err();
    assert!(error.kind() == ErrorKind::BadInput && error.to_string().contains("name more bridges"), "{error}");
}
