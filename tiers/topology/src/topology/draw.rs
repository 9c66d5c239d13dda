//! A topology as a drawing.

mod canvas;
mod plan;

use canvas::{Canvas, Tint};
use plan::{Plan, Spot};
use tiermem_tiers::Bytes;

use super::{Coherence, Device, DeviceKind, Link, Persistence, Topology};
use crate::{Profile, ProfileFigures, Status};

/// The drawing.
pub(super) fn svg(topology: &Topology) -> String {
    let plan = Plan::of(topology);
    let mut canvas = Canvas::new(&topology.name, &topology.description, plan.width, plan.height);
    for (link, from, to) in &plan.links {
        let texts = link_texts(topology, link);
        canvas.line(from.bottom(), to.top(), &texts);
    }
    for group in &plan.groups {
        canvas.frame(&group.spot, &group.title, false);
    }
    for (host, spot) in &plan.hosts {
        canvas.frame(spot, &format!("host {host}"), true);
    }
    for node in &topology.nodes {
        let what = if node.cpus == 0 { "memory only".to_owned() } else { format!("{} CPUs", node.cpus) };
        let title = format!("{} · {}", node.name, node.capacity);
        boxed(&mut canvas, plan.spot(&node.name), Tint::Dram, &title, &what, topology, &node.profile);
    }
    for bridge in &topology.bridges {
        let lines = [bridge.name.clone(), "host bridge".to_owned()];
        canvas.card(plan.spot(&bridge.name), Tint::Link, &lines);
    }
    for switch in &topology.switches {
        let mut lines = vec![format!("{} · CXL switch", switch.name), switch.profile.clone()];
        lines.extend(figures(topology, &switch.profile));
        canvas.card(plan.spot(&switch.name), Tint::Link, &lines);
    }
    for device in &topology.devices {
        let tint = match device.kind {
            DeviceKind::Cxl => Tint::Cxl,
            DeviceKind::Nvme => Tint::Nvme,
            DeviceKind::Gpu => Tint::Gpu,
        };
        let title = format!("{} · {}", device.name, device.capacity);
        boxed(
            &mut canvas,
            plan.spot(&device.name),
            tint,
            &title,
            &kind_text(topology, device),
            topology,
            &device.profile,
        );
    }
    canvas.legend(&tier_lines(topology), plan.legend_top);
    canvas.finish()
}

fn boxed(c: &mut Canvas, at: Spot, tint: Tint, title: &str, what: &str, topology: &Topology, profile: &str) {
    let mut lines = vec![title.to_owned(), format!("{what} · {profile}")];
    lines.extend(figures(topology, profile));
    c.card(at, tint, &lines);
}

fn kind_text(topology: &Topology, device: &Device) -> String {
    let kind = match device.kind {
        DeviceKind::Cxl => "CXL",
        DeviceKind::Nvme => return "NVMe".to_owned(),
        DeviceKind::Gpu => return "GPU".to_owned(),
    };
    let in_set = topology.interleave_sets.iter().any(|set| set.devices.contains(&device.name));
    let exposure = if in_set { String::new() } else { format!(" {}", device.exposure) };
    let persistent = if device.persistence == Persistence::Persistent { " persistent" } else { "" };
    format!("{kind}{exposure}{persistent}")
}

/// The latencies and the bandwidths of a profile, a line each, with what they are worth.
fn figures(topology: &Topology, name: &str) -> Vec<String> {
    let Some(profile) = topology.profiles.iter().find(|profile| profile.name == name) else { return Vec::new() };
    match &profile.figures {
        ProfileFigures::Memory(memory) => vec![
            format!("{} ns{}", round(memory.read_latency_ns.value), mark(memory.read_latency_ns.status)),
            both(&memory.read_bandwidth, &memory.write_bandwidth),
        ],
        ProfileFigures::Nvme(nvme) => vec![
            format!("{} µs{}", round(nvme.read_latency_ns.value / 1e3), mark(nvme.read_latency_ns.status)),
            both(&nvme.read_bandwidth, &nvme.write_bandwidth),
        ],
        ProfileFigures::Gpu(gpu) => vec![
            format!("copy {} µs{}", round(gpu.copy_latency_ns.value / 1e3), mark(gpu.copy_latency_ns.status)),
            both(&gpu.from_device_bandwidth, &gpu.to_device_bandwidth),
        ],
        ProfileFigures::Link(link) => vec![
            format!("+{} ns{}", round(link.latency_ns.value), mark(link.latency_ns.status)),
            both(&link.up_bandwidth, &link.down_bandwidth),
        ],
    }
}

fn both(read: &crate::Figure<f64>, write: &crate::Figure<f64>) -> String {
    format!(
        "↑ {}{}  ↓ {}{} GB/s",
        round(read.value / 1e9),
        mark(read.status),
        round(write.value / 1e9),
        mark(write.status)
    )
}

/// What stands behind a figure that nobody measured.
const fn mark(status: Status) -> &'static str {
    match status {
        Status::Measured => "",
        Status::Vendor => "ᵛ",
        Status::Simulated => "ˢ",
        Status::Assumed => "ᵃ",
    }
}

/// Three significant digits at most.
fn round(value: f64) -> String {
    if value >= 99.95 || (value - value.round()).abs() < 0.05 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn link_texts(topology: &Topology, link: &Link) -> Vec<String> {
    let named = |name: &String| topology.profiles.iter().any(|profile: &Profile| profile.name == *name);
    let profile = link.profile.as_ref().filter(|name| named(name));
    profile.map(|name| [vec![name.clone()], figures(topology, name)].concat()).unwrap_or_default()
}

/// What the programs of the hosts see: a line for each tier.
fn tier_lines(topology: &Topology) -> Vec<String> {
    let line = |tier: &super::TierView| {
        let (read, figures) = (tier.figures.read_latency_ns, &tier.figures);
        let latency = if read >= 1e4 { format!("{} µs", round(read / 1e3)) } else { format!("{} ns", round(read)) };
        let coherence = tier.coherence.map_or("", |coherence| match coherence {
            Coherence::Hardware => ", coherent in hardware",
            Coherence::Software => ", coherent in software",
            Coherence::None => ", NOT coherent",
        });
        let bandwidths =
            format!("↑ {} ↓ {} GB/s", round(figures.read_bandwidth / 1e9), round(figures.write_bandwidth / 1e9));
        let (name, worth) = (&tier.name, mark(figures.status));
        let hosts = tier.hosts.join(", ");
        format!("{name}: {}, {latency}{worth}, {bandwidths}{worth}, {hosts}{coherence}", Bytes(tier.capacity.0))
    };
    topology.tiers().iter().map(line).collect()
}
