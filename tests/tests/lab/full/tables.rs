//! What firmware and devices say about latency and bandwidth reaches the kernel and `tierctl list`.

use serde_json::Value;

use crate::guests::{Guests, Said, Set};

/// The document that `tierctl list` printed.
fn list(said: &Said) -> Value {
    let start = said.text.find('{').expect("a document");
    let end = said.text.rfind('}').expect("a document");
    serde_json::from_str(&said.text[start..=end]).unwrap_or_else(|error| panic!("{error}: {}", said.text))
}

fn tier<'a>(document: &'a Value, name: &str) -> &'a Value {
    let tiers = document["tiers"].as_array().expect("tiers");
    tiers.iter().find(|tier| tier["name"] == name).unwrap_or_else(|| panic!("no {name} in {document:#}"))
}

/// Value and source of a figure.
fn figure<'a>(tier: &'a Value, name: &str) -> (f64, &'a str) {
    let figure = &tier["attributes"][name];
    (figure["value"].as_f64().unwrap_or(0.0), figure["source"].as_str().unwrap_or("none"))
}

fn weights(document: &Value, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| tier(document, name)["node"]["interleave_weight"].as_u64().unwrap_or(0)).collect()
}

fn tiers_of_memory(document: &Value, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| tier(document, name)["node"]["memory_tier"].as_u64().unwrap_or(u64::MAX)).collect()
}

/// Prints a word where the kernel derives weights from bandwidths (Linux 6.16 and newer); others leave all at 1.
const DERIVES: &str = "test ! -e /sys/kernel/mm/mempolicy/weighted_interleave/auto || echo weights-are-derived";

/// Whether the weights are as this kernel makes them.
#[track_caller]
fn weigh(said: &Said, weights: &[u64], derived: impl FnOnce() -> bool) {
    let fits =
        if said.text.contains("weights-are-derived") { derived() } else { weights.iter().all(|&weight| weight == 1) };
    assert!(fits, "{weights:?}");
}

/// A CXL region: the device's table, on top of the host bridge's port in the platform's.
#[test]
fn a_devices_own_table() {
    let Some(guests) = Guests::of(Set::Full, "one-expander") else { return };
    let script = "tierctl list --json\ndmesg | grep 'Demotion targets for Node 0' | tail -1";
    let said = guests.holds(0, &format!("{script}\n{DERIVES}"));
    let document = list(&said);
    let (dram, cxl) = (tier(&document, "dram0"), tier(&document, "cxl1"));
    assert_eq!(figure(dram, "read_latency_ns"), (98.0, "HMAT"));
    let (latency, source) = figure(cxl, "read_latency_ns");
    assert_eq!(source, "CDAT");
    assert!((latency - 213.0).abs() <= 4.0, "2.18 times 97.8 ns as in the profile: {latency}");
    let (bandwidth, source) = figure(cxl, "read_bandwidth");
    assert_eq!(source, "CDAT");
    assert!((bandwidth / 29.2e9 - 1.0).abs() < 0.02, "29.2 GB/s as in the profile: {bandwidth}");
    let order = tiers_of_memory(&document, &["dram0", "cxl1"]);
    assert!(order[0] < order[1] && order[1] < u64::MAX, "CXL memory is the slower tier: {order:?}");
    let weights = weights(&document, &["dram0", "cxl1"]);
    weigh(&said, &weights, || weights[0] > 5 * weights[1] && weights[1] >= 1);
    assert!(said.text.contains("Demotion targets for Node 0: preferred: 1"), "{}", said.text);
}

/// The platform's table alone: nodes without CPUs, three tiers, demotion from each to the next.
#[test]
fn three_tiers() {
    let Some(guests) = Guests::of(Set::Full, "three-tiers") else { return };
    let script = "$G move-pages 0 2
        $G weighted 0 1 2
        $G reclaim 0 1
        tierctl list --json
        dmesg | grep 'Demotion targets for Node' | tail -3";
    let said = guests.holds(3, &format!("{script}\n{DERIVES}"));
    let document = list(&said);
    let names = ["dram0", "node1", "node2"];
    let latencies: Vec<f64> = names.iter().map(|name| figure(tier(&document, name), "read_latency_ns").0).collect();
    assert!(latencies.is_sorted() && latencies[0] > 90.0, "{latencies:?}");
    assert!(names.iter().all(|name| figure(tier(&document, name), "read_bandwidth").1 == "HMAT"));
    let order = tiers_of_memory(&document, &names);
    assert!(order[0] < order[1] && order[1] < order[2] && order[2] < u64::MAX, "{order:?}");
    let weights = weights(&document, &names);
    weigh(&said, &weights, || weights[0] > weights[1] && weights[1] > weights[2] && weights[2] >= 1);
    for way in ["Node 0: preferred: 1", "Node 1: preferred: 2", "Node 2: null"] {
        assert!(said.text.contains(way), "{way}: {}", said.text);
    }
}

/// The kernel's own tiering on a CXL region.
#[test]
fn the_kernel_demotes_and_promotes() {
    let Some(guests) = Guests::of(Set::Full, "one-expander") else { return };
    guests.holds(1, "$G reclaim 0 1");
}
