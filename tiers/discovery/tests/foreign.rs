//! Topologies of other machines, from hwloc's XML exports.

use std::fs;
use std::path::{Path, PathBuf};

use tiermem_discovery::{Error, foreign};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[test]
fn two_sockets_are_two_tiers() {
    let report = foreign::from_xml(&folder().join("lstopo-two-sockets.xml")).unwrap();
    let names: Vec<&str> = report.tiers.iter().map(|tier| tier.name.as_str()).collect();
    assert_eq!(names, ["dram0", "dram1"]);
    assert_eq!((report.machine.cpus, report.machine.last_level_cache_bytes), (Some(16), Some(32_000_000)));
    assert_eq!(report.tiers[1].node.as_ref().unwrap().cpus, (8..16).collect::<Vec<u32>>());
    assert_eq!(report.mechanisms, None);
}

#[test]
fn a_cpu_less_node_and_its_attributes_are_seen() {
    let report = foreign::from_xml(&folder().join("lstopo-cxl-node.xml")).unwrap();
    let cxl = report.tiers.iter().find(|tier| tier.name == "cxl1").unwrap();
    assert_eq!(cxl.kind, "cxl-node");
    assert_eq!(cxl.node.as_ref().unwrap().subtype.as_deref(), Some("CXL-DRAM"));
    let (latency, read) = (cxl.attributes.read_latency_ns.as_ref(), cxl.attributes.read_bandwidth.as_ref());
    assert_eq!(latency.map(|f| (f.chosen.value, f.chosen.source.as_str())), Some((230.0, "CDAT")));
    assert_eq!(read.map(|f| f.chosen.value), Some(30e9));
    let dram = report.tiers.iter().find(|tier| tier.name == "dram0").unwrap();
    assert_eq!(dram.attributes.read_latency_ns.as_ref().map(|f| f.chosen.source.as_str()), Some("HMAT"));
}

#[test]
fn the_cache_of_the_highest_level_counts() {
    let report = foreign::from_xml(&folder().join("lstopo-laptop.xml")).unwrap();
    assert_eq!(report.machine.last_level_cache_bytes, Some(1_000_000));
}

#[test]
fn bad_files_are_named_with_what_would_be_right() {
    let scratch = tempfile::tempdir().unwrap();
    let good = fs::read_to_string(folder().join("lstopo-laptop.xml")).unwrap();
    let cases = [
        ("empty", String::new()),
        ("prose", "hello".to_owned()),
        ("other", "<html></html>".to_owned()),
        ("cut", good[..good.len() / 2].to_owned()),
        ("hollow", "<?xml version=\"1.0\"?><topology version=\"2.0\"></topology>".to_owned()),
    ];
    for (name, text) in cases {
        let path = scratch.path().join(name);
        fs::write(&path, text).unwrap();
        match foreign::from_xml(&path) {
            Err(Error::Malformed { reason, .. }) => assert!(reason.contains("lstopo --of xml"), "{name}: {reason}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    fs::write(scratch.path().join("bytes"), [0xff, 0xfe, 0]).unwrap();
    assert!(matches!(foreign::from_xml(&scratch.path().join("bytes")), Err(Error::Malformed { .. })));
    assert!(matches!(foreign::from_xml(&scratch.path().join("none")), Err(Error::Unreadable { .. })));
}
