//! Every mistake in a topology is named, once, at its place.
//!
//! In each faulty text a `§` stands before the place where the complaint belongs.

mod parts;
mod wiring;

use tiermem_topology::Topology;

/// Two hosts, a bridge, a switch and devices of all kinds, all right.
const RIGHT: &str = r#"version = 1
name = "right"
[host.a]
[host.b]
[node.dram-a]
host = "a"
cpus = 2
capacity = "1G"
profile = "dram-ddr5"
[node.dram-b]
host = "b"
cpus = 2
capacity = "1G"
profile = "dram-ddr5"
[bridge.hb0]
host = "a"
[switch.sw0]
profile = "cxl-switch"
[device.cxl0]
kind = "cxl"
capacity = "256M"
profile = "cxl-asic"
[device.cxl1]
kind = "cxl"
capacity = "256M"
profile = "cxl-asic"
[device.cxl2]
kind = "cxl"
capacity = "256M"
profile = "cxl-asic"
[device.ssd]
kind = "nvme"
capacity = "1G"
profile = "nvme-gen4"
[device.gpu]
kind = "gpu"
capacity = "1G"
profile = "gpu-h100"
[[link]]
from = "hb0"
to = "cxl0"
[[link]]
from = "hb0"
to = "cxl1"
[[link]]
from = "a"
to = "sw0"
profile = "pcie5-x8"
[[link]]
from = "b"
to = "sw0"
[[link]]
from = "sw0"
to = "cxl2"
[[link]]
from = "a"
to = "ssd"
[[link]]
from = "b"
to = "gpu"
[interleave.set]
devices = ["cxl0", "cxl1"]
granularity = 256
[pool.shared]
device = "cxl2"
hosts = ["a", "b"]
coherence = "hardware"
"#;

/// Parses `marked` without its mark; expects one complaint, where the mark was, that contains `message`.
#[track_caller]
fn expect(marked: &str, message: &str) {
    let at = marked.find('§').expect("a mark");
    let text = marked.replace('§', "");
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    let error = Topology::parse(&text, "t.toml").expect_err("a complaint");
    let entries = error.entries();
    assert_eq!((entries.len(), entries[0].line, entries[0].column), (1, line, column), "{error}");
    assert!(entries[0].message.contains(message), "{error}");
    assert!(error.to_string().starts_with(&format!("t.toml:{line}:{column}: ")), "{error}");
}

/// [`RIGHT`] with each old text, which occurs once, replaced by the new one.
#[track_caller]
fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(RIGHT.to_owned(), |text, (old, new)| {
        assert_eq!(text.matches(old).count(), 1, "{old}");
        text.replace(old, new)
    })
}

#[track_caller]
fn wrong(old: &str, new: &str, message: &str) {
    expect(&edited(&[(old, new)]), message);
}

#[test]
fn the_right_one_is_right() {
    let topology = Topology::parse(RIGHT, "t.toml").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((topology.devices.len(), topology.links.len()), (5, 7));
    assert_eq!(topology.hosts_above("cxl2"), ["a", "b"]);
    assert_eq!(topology.hosts_above("cxl0"), ["a"]);
    let way = topology.way("a", "cxl2").unwrap();
    assert_eq!(way.iter().map(|link| link.from.as_str()).collect::<Vec<_>>(), ["a", "sw0"]);
    assert_eq!(topology.way("b", "cxl0"), None);
    assert_eq!(topology.way("a", "hb0"), Some(Vec::new()));
}

#[test]
fn several_mistakes_come_in_the_order_of_the_file() {
    let text =
        edited(&[("to = \"gpu\"", "to = \"gup\""), ("version = 1", "version = 3"), ("cxl-switch\"", "cxl-switches\"")]);
    let error = Topology::parse(&text, "t.toml").unwrap_err();
    let lines: Vec<usize> = error.entries().iter().map(|entry| entry.line).collect();
    assert_eq!(lines, [1, 18, 60], "{error}");
}
