//! What hwloc knows: caches, memory attributes, subtypes of nodes.

use std::collections::BTreeMap;

use hwlocality::Topology;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::ObjectType;
use tiermem_tiers::Source;

use crate::report::{AttributesReport, Figure, Figures, Report};

/// Adds to a report of this machine what sysfs alone does not say. If hwloc fails, the report says so and stands.
pub fn enrich(report: &mut Report) {
    let topology = match Topology::new() {
        Ok(topology) => topology,
        Err(error) => {
            report.notes.push(format!("hwloc could not read this machine: {error}"));
            return;
        }
    };
    report.machine.last_level_cache_bytes = last_level_cache(&topology);
    report.machine.hwloc = version();
    let nodes: BTreeMap<u32, &TopologyObject> = nodes(&topology).collect();
    for tier in &mut report.tiers {
        let Some(object) = tier.node.as_ref().and_then(|node| nodes.get(&node.node)) else { continue };
        if let Some(node) = &mut tier.node {
            node.subtype = object.subtype().map(|s| s.to_string_lossy().into_owned());
        }
        // hwloc reads the same tables as we do; it is asked only about what we did not find.
        if tier.attributes.read_bandwidth.is_none() {
            let mut theirs = AttributesReport::default();
            memory_attributes(&topology, object, Source::Hmat, &mut theirs);
            adopt(&mut tier.attributes, theirs);
        }
    }
}

fn adopt(ours: &mut AttributesReport, theirs: AttributesReport) {
    let pairs = [
        (&mut ours.read_latency_ns, theirs.read_latency_ns),
        (&mut ours.write_latency_ns, theirs.write_latency_ns),
        (&mut ours.read_bandwidth, theirs.read_bandwidth),
        (&mut ours.write_bandwidth, theirs.write_bandwidth),
    ];
    for (slot, figures) in pairs {
        if let Some(figures) = figures {
            Figures::add(slot, figures.chosen);
        }
    }
}

/// The library's version, if it says.
pub(crate) fn version() -> Option<String> {
    let number = hwlocality::hwloc_api_version();
    Some(format!("{}.{}.{}", number >> 16, (number >> 8) & 0xff, number & 0xff))
}

/// NUMA nodes by their number in the system.
pub(crate) fn nodes(topology: &Topology) -> impl Iterator<Item = (u32, &TopologyObject)> {
    let nodes = topology.objects_with_type(ObjectType::NUMANode);
    nodes.filter_map(|object| Some((u32::try_from(object.os_index()?).ok()?, object)))
}

/// Size of the largest cache of the highest level.
pub(crate) fn last_level_cache(topology: &Topology) -> Option<u64> {
    let levels = [ObjectType::L5Cache, ObjectType::L4Cache, ObjectType::L3Cache, ObjectType::L2Cache];
    levels.into_iter().find_map(|level| {
        let sizes = topology.objects_with_type(level).filter_map(|cache| match cache.attributes() {
            Some(ObjectAttributes::Cache(cache)) => cache.size().map(std::num::NonZero::get),
            _ => None,
        });
        sizes.max()
    })
}

/// The best value over all initiators of each of hwloc's attributes of a node. hwloc's generic `Latency` and
/// `Bandwidth` stand for reads where there is no `ReadLatency` or `ReadBandwidth`.
///
/// hwloc hands the kernel's numbers on as they are: nanoseconds and megabytes per second.
pub(crate) fn memory_attributes(
    topology: &Topology,
    node: &TopologyObject,
    source: Source,
    into: &mut AttributesReport,
) {
    let slots = [
        (["ReadLatency", "Latency"], 1.0, true, &mut into.read_latency_ns),
        (["WriteLatency", "Latency"], 1.0, true, &mut into.write_latency_ns),
        (["ReadBandwidth", "Bandwidth"], 1e6, false, &mut into.read_bandwidth),
        (["WriteBandwidth", "Bandwidth"], 1e6, false, &mut into.write_bandwidth),
    ];
    for (names, unit, smaller_is_better, slot) in slots {
        let found = names.into_iter().find_map(|name| Some((name, best(topology, node, name, smaller_is_better)?)));
        if let Some((name, value)) = found {
            #[expect(clippy::cast_precision_loss, reason = "latencies and megabytes are far below 2^53")]
            Figures::add(slot, Figure::new(value as f64 * unit, source, format!("hwloc memory attribute {name}")));
        }
    }
}

fn best(topology: &Topology, node: &TopologyObject, name: &str, smaller_is_better: bool) -> Option<u64> {
    let attribute = topology.memory_attribute_named(name).ok()??;
    let (_, values) = attribute.initiators(node).ok()?;
    let values = values.into_iter().filter(|&value| value > 0);
    if smaller_is_better { values.min() } else { values.max() }
}
