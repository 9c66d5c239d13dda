//! Discovery on fixture trees: nothing here depends on the machine that runs it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod fixture;

use std::fs;

use fixture::Tree;
use tiermem_discovery::report::{Figures, TierReport};
use tiermem_discovery::{Report, machine, media};
use tiermem_tiers::TierSpec;

fn find(name: &str) -> Report {
    let report = machine(&Tree::make(name).roots());
    assert_eq!(report.mechanisms, None, "mechanisms are tried on the machine itself only");
    for spec in report.tiers.iter().filter_map(|tier| tier.spec.as_deref()) {
        assert!(spec.parse::<TierSpec>().is_ok(), "{spec} is a SPEC");
    }
    report
}

fn tier<'r>(report: &'r Report, name: &str) -> &'r TierReport {
    let names: Vec<&str> = report.tiers.iter().map(|tier| tier.name.as_str()).collect();
    report.tiers.iter().find(|tier| tier.name == name).unwrap_or_else(|| panic!("{name} is not in {names:?}"))
}

fn figure(figures: &Option<Figures>) -> (f64, &str) {
    figures.as_ref().map_or((0.0, "none"), |f| (f.chosen.value, f.chosen.source.as_str()))
}

#[test]
fn a_virtual_machine() {
    let report = find("vm");
    assert_eq!(report.machine.cpus, Some(2));
    assert_eq!(report.machine.cpu_model.as_deref(), Some("Example CPU"));
    assert_eq!(report.machine.hypervisor.as_deref(), Some("vendor unknown"));
    let names: Vec<&str> = report.tiers.iter().map(|tier| tier.name.as_str()).collect();
    assert_eq!(names, ["dram0", "tmpfs0", "disk0"], "no tmpfs of /run, none that is read-only");
    let dram = tier(&report, "dram0");
    assert_eq!(figure(&dram.attributes.capacity_bytes), ((16u64 << 30) as f64, "kernel"));
    assert_eq!(dram.free_bytes, Some(4 << 30));
    assert_eq!(figure(&dram.attributes.read_latency_ns).1, "assumed");
    assert_eq!(figure(&dram.attributes.read_bandwidth).1, "none", "no figure is invented");
    assert_eq!(dram.node.as_ref().unwrap().memory_tier, Some(4));
    assert!(tier(&report, "disk0").notes[0].contains("not NVMe but virtio disk"));
}

#[test]
fn a_cxl_node_has_cdat_figures_and_others_hmat() {
    let report = find("two-socket-cxl");
    assert_eq!(report.tiers.len(), 4, "a node without memory is not a tier, nor a DAX device that is a node");
    let dram = tier(&report, "dram0");
    assert_eq!(figure(&dram.attributes.read_latency_ns), (80.0, "HMAT"));
    assert_eq!(figure(&dram.attributes.write_bandwidth), (90e9, "HMAT"));
    assert_eq!(figure(&tier(&report, "dram1").attributes.read_latency_ns).1, "assumed");
    let cxl = tier(&report, "cxl2");
    assert_eq!(cxl.kind, "cxl-node");
    // From the nearest CPUs, which access1 names, where access0 may name a device.
    assert_eq!(figure(&cxl.attributes.read_latency_ns), (410.0, "CDAT"));
    assert_eq!(figure(&cxl.attributes.read_bandwidth), (15e9, "CDAT"));
    assert_eq!(figure(&cxl.attributes.write_bandwidth).1, "none", "zero means that the kernel does not know");
    let node = cxl.node.as_ref().unwrap();
    assert!(node.cpus.is_empty());
    assert_eq!((node.initiators.as_slice(), node.cpu_initiators.as_slice()), (&[0][..], &[1][..]));
    assert_eq!((node.memory_tier, node.interleave_weight), (Some(22), Some(2)));
    assert_eq!(node.distances.iter().map(|d| d.distance).collect::<Vec<_>>(), [14, 24, 10, 26]);
    let hbm = tier(&report, "node3");
    assert_eq!((hbm.kind.as_str(), figure(&hbm.attributes.read_bandwidth)), ("cxl-node", (400e9, "HMAT")));
    assert_eq!(figure(&hbm.attributes.read_latency_ns).1, "none");
}

/// Linux 7.3 shows the figures of a CXL region at the region, and none at its node.
#[test]
fn a_cxl_node_without_figures_has_its_regions() {
    let tree = Tree::make("two-socket-cxl");
    let sys = tree.roots().sys;
    for class in ["access0", "access1"] {
        fs::remove_dir_all(sys.join("devices/system/node/node2").join(class)).unwrap();
    }
    let region = sys.join("bus/cxl/devices/region0/access0");
    fs::create_dir_all(&region).unwrap();
    fs::write(region.join("read_latency"), "215\n").unwrap();
    fs::write(region.join("read_bandwidth"), "29184\n").unwrap();
    let report = machine(&tree.roots());
    let cxl = tier(&report, "cxl2");
    assert_eq!(figure(&cxl.attributes.read_latency_ns), (215.0, "CDAT"));
    assert_eq!(figure(&cxl.attributes.read_bandwidth), (29.184e9, "CDAT"));
}

/// An address that the kernel's log names is found in the node that a CXL region became; others are in no tier.
#[test]
fn bad_memory_is_found_in_its_tier() {
    let tree = Tree::make("two-socket-cxl");
    let device = tree.roots().sys.join("bus/dax/devices/dax0.0");
    fs::write(device.join("resource"), "0x110000000\n").unwrap();
    let log = "[1.0] Memory failure: 0x110200: recovery action for dirty LRU page: Recovered\n\
        [1.1] Memory failure: 0x110200: recovery action for dirty LRU page: Recovered\n\
        [1.2] Memory failure: 0x7: recovery action for reserved page: Ignored\n";
    let found = media::failures(&tree.roots(), log);
    assert_eq!(found.len(), 2, "each once: {found:?}");
    assert_eq!((found[0].address, &found[0].tier), (Some(0x7000), &None));
    let place = found[1].tier.as_ref().unwrap();
    assert_eq!((place.kind.as_str(), place.location.as_str(), place.offset), ("cxl-node", "2", 0x20_0000));
}

#[test]
fn dax_devices_say_what_is_behind_them() {
    let report = find("devdax");
    let dax = tier(&report, "dax0.0");
    let facts = dax.dax.as_ref().unwrap();
    assert_eq!((facts.backing.as_deref(), facts.region.as_deref()), (Some("cxl"), Some("region0")));
    assert_eq!((facts.target_node, facts.align_bytes), (Some(1), Some(2 << 20)));
    assert_eq!(dax.spec.as_deref(), Some("dax0.0=devdax:/dev/dax0.0"));
    assert_eq!(figure(&dax.attributes.read_latency_ns), (300.0, "CDAT"));
    let pmem = tier(&report, "dax1.0");
    assert_eq!(pmem.dax.as_ref().unwrap().backing.as_deref(), Some("pmem"));
    assert_eq!((pmem.spec.as_deref(), pmem.dax.as_ref().unwrap().target_node), (None, None));
    assert!(pmem.notes.iter().any(|note| note.contains("modprobe device_dax")), "it says what to do");
    assert_eq!(report.tiers.len(), 2, "a seed of size zero is not a tier");
}

#[test]
fn the_cxl_bus_is_shown() {
    let cxl = find("devdax").cxl;
    let device = &cxl.devices[0];
    assert_eq!(
        (device.serial.as_deref(), device.ram_bytes, device.pmem_bytes),
        (Some("0x1"), Some(512 << 20), Some(0))
    );
    assert_eq!((device.pci_address.as_deref(), device.numa_node), (Some("0000:0d:00.0"), None));
    assert_eq!((device.firmware.as_deref(), device.ram_qos_class), (Some("BWFW VERSION 0"), Some(4)));
    let region = &cxl.regions[0];
    assert_eq!((region.size_bytes, region.interleave_ways, region.committed), (Some(4 << 30), Some(2), Some(true)));
    assert_eq!(region.targets, ["decoder2.0", "decoder3.0"]);
    let decoder = &cxl.decoders[0];
    assert_eq!((decoder.role.as_deref(), decoder.qos_class), (Some("root"), Some(4)));
    assert_eq!(decoder.modes, ["ram", "pmem"]);
}

#[test]
fn mounts_are_told_apart_by_what_is_behind_them() {
    let report = find("mounts");
    let names: Vec<&str> = report.tiers.iter().map(|tier| tier.name.as_str()).collect();
    assert_eq!(names, ["fsdax0", "nvme0", "nvme1", "disk0"], "each file system once, none over the network");
    let fsdax = tier(&report, "fsdax0");
    assert_eq!((fsdax.kind.as_str(), fsdax.location.as_str()), ("dax-file", "/pmem"));
    assert!(fsdax.description.contains("pmem0 (persistent memory)"));
    assert_eq!(tier(&report, "nvme0").location, "/mnt/fast");
    assert!(tier(&report, "nvme1").description.contains("btrfs on nvme0n1+nvme1n1 (NVMe)"));
    let sata = tier(&report, "disk0");
    assert_eq!((sata.location.as_str(), sata.kind.as_str()), ("/old disk", "nvme"));
    assert!(sata.description.contains("solid-state disk") && sata.notes[0].contains("not NVMe"));
}

/// Negative control: an empty tree is an empty report, not an error and not this machine's own.
#[test]
fn nothing_is_found_where_nothing_is() {
    let root = tempfile::tempdir().unwrap();
    let report = machine(&tiermem_discovery::Roots::under(root.path()));
    assert_eq!((report.tiers.len(), report.cxl.devices.len(), report.machine.cpus), (0, 0, None));
}
