//! What must hold for any bytes given as a topology file. The fuzzer runs it, and so does an ordinary test.

use tiermem_topology::Topology;

/// Parses `input` as a topology file.
///
/// # Panics
/// Where a promise is broken: a complaint outside the text, a topology that does not survive being written and read, that
/// cannot be drawn, or whose tiers have figures that no hardware can have.
pub fn check_topology(input: &[u8]) {
    let lines = input.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let topology = match Topology::parse_bytes(input, "fuzz.toml") {
        Ok(topology) => topology,
        Err(error) => {
            assert!(!error.entries().is_empty());
            for entry in error.entries() {
                assert!((1..=lines).contains(&entry.line) && entry.column >= 1, "{entry:?}");
                assert!(!entry.message.is_empty() && entry.message.len() < 4096, "{entry:?}");
            }
            return;
        }
    };
    let shown = topology.to_string();
    let again = Topology::parse(&shown, "shown.toml").unwrap_or_else(|error| panic!("{error}\n{shown}"));
    assert_eq!(topology, again, "{shown}");
    let drawing = topology.to_svg();
    assert!(drawing.starts_with("<svg ") && !drawing.contains("NaN"), "{shown}");
    for tier in topology.tiers() {
        let figures = tier.figures;
        let all = [figures.read_latency_ns, figures.write_latency_ns, figures.read_bandwidth, figures.write_bandwidth];
        assert!(all.iter().all(|figure| figure.is_finite() && *figure > 0.0), "{}: {figures:?}\n{shown}", tier.name);
        assert!(tier.capacity.0 > 0 && !tier.hosts.is_empty(), "{}\n{shown}", tier.name);
    }
    for host in &topology.hosts {
        for device in &topology.devices {
            let way = topology.way(&host.name, &device.name);
            assert!(way.is_none_or(|way| way.len() <= topology.links.len()), "{shown}");
        }
    }
}
