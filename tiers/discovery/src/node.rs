//! NUMA nodes: host DRAM, and CPU-less nodes (CXL memory in system-ram mode, HBM).
//!
//! Kernel documents: `admin-guide/mm/numaperf`, `ABI/stable/sysfs-devices-node`,
//! `ABI/testing/sysfs-kernel-mm-memory-tiers`.

use std::path::Path;

use tiermem_tiers::{Source, TierKind};

use crate::Roots;
use crate::assumed;
use crate::report::{AttributesReport, DaxReport, Figure, Figures, NodeDistance, NodeReport, TierReport, tier_spec};
use crate::roots::{entries, number, number_list, numbered, text};

/// All nodes that have memory, in order of their numbers.
pub fn find(roots: &Roots, dax: &[DaxReport]) -> Vec<TierReport> {
    let folder = roots.sys.join("devices/system/node");
    let numbers: Vec<u32> = entries(&folder).iter().filter_map(|name| numbered(name, "node")).collect();
    numbers.iter().filter_map(|&node| describe(roots, &folder, node, &numbers, dax)).collect()
}

fn describe(roots: &Roots, folder: &Path, number: u32, all: &[u32], dax: &[DaxReport]) -> Option<TierReport> {
    let home = folder.join(format!("node{number}"));
    let total = meminfo(&home, "MemTotal")?;
    if total == 0 {
        return None;
    }
    let facts = facts(roots, &home, number, all);
    let has_cpus = !facts.cpus.is_empty();
    let backing = dax.iter().find(|d| d.target_node == Some(number) && d.driver.as_deref() == Some("kmem"));
    let is_cxl = backing.and_then(|d| d.backing.as_deref()) == Some("cxl");
    let (kind, name, description) = match (has_cpus, backing) {
        (true, _) => (TierKind::Dram, format!("dram{number}"), "host DRAM".to_owned()),
        (false, Some(d)) if is_cxl => {
            let region = d.region.as_deref().unwrap_or("a region");
            (TierKind::CxlNode, format!("cxl{number}"), format!("CXL memory ({region}, system RAM)"))
        }
        (false, Some(d)) => {
            let backing = d.backing.as_deref().unwrap_or("dax");
            (TierKind::CxlNode, format!("node{number}"), format!("CPU-less node ({backing} memory, system RAM)"))
        }
        (false, None) => (TierKind::CxlNode, format!("node{number}"), "CPU-less node".to_owned()),
    };
    let mut tier = TierReport::new(kind, name, number.to_string(), &description);
    tier.spec = tier_spec(kind, &tier.name, &tier.location, None);
    tier.free_bytes = meminfo(&home, "MemFree");
    let table = if is_cxl { Source::Cdat } else { Source::Hmat };
    access_figures(&home, table, &mut tier.attributes);
    if let (true, Some(region)) = (is_cxl, backing.and_then(|dax| dax.region.as_ref())) {
        region_figures(roots, region, &mut tier.attributes);
    }
    #[expect(clippy::cast_precision_loss, reason = "no node has 2^53 bytes")]
    let capacity = Figure::new(total as f64, Source::Kernel, format!("node{number}/meminfo"));
    Figures::add(&mut tier.attributes.capacity_bytes, capacity);
    if has_cpus {
        assumed::fill(assumed::Kind::LocalDram, &mut tier.attributes);
    } else if is_cxl {
        assumed::fill(assumed::Kind::Cxl, &mut tier.attributes);
    } else if backing.is_none() {
        tier.notes.push("the kernel does not say what is behind this node (CXL set up by the firmware, or HBM)".into());
    }
    tier.node = Some(facts);
    Some(tier)
}

fn facts(roots: &Roots, home: &Path, number: u32, all: &[u32]) -> NodeReport {
    let distances = text(home.join("distance")).unwrap_or_default();
    let distances = distances.split_whitespace().filter_map(|d| d.parse().ok());
    NodeReport {
        node: number,
        cpus: text(home.join("cpulist")).map(|list| number_list(&list)).unwrap_or_default(),
        initiators: initiators(&home.join("access0/initiators")),
        cpu_initiators: initiators(&home.join("access1/initiators")),
        distances: all.iter().zip(distances).map(|(&node, distance)| NodeDistance { node, distance }).collect(),
        memory_tier: memory_tier(roots, number),
        subtype: None,
        interleave_weight: interleave_weight(roots, number),
    }
}

/// A line of a node's meminfo, in bytes.
fn meminfo(home: &Path, field: &str) -> Option<u64> {
    let text = text(home.join("meminfo"))?;
    let line = text.lines().find(|line| line.split_whitespace().nth(2) == Some(&format!("{field}:")))?;
    let kib: u64 = line.split_whitespace().nth(3)?.parse().ok()?;
    kib.checked_mul(1024)
}

fn initiators(folder: &Path) -> Vec<u32> {
    entries(folder).iter().filter_map(|name| numbered(name, "node")).collect()
}

/// The memory tier whose `nodelist` has the node.
fn memory_tier(roots: &Roots, node: u32) -> Option<u32> {
    let folder = roots.sys.join("devices/virtual/memory_tiering");
    let holds = |name: &&String| {
        text(folder.join(name).join("nodelist")).is_some_and(|list| number_list(&list).contains(&node))
    };
    entries(&folder).iter().find(holds).and_then(|name| numbered(name, "memory_tier"))
}

fn interleave_weight(roots: &Roots, node: u32) -> Option<u64> {
    number(roots.sys.join(format!("kernel/mm/mempolicy/weighted_interleave/node{node}")))
}

/// Reads the performance of the nearest initiators: `access1` (CPUs only) where there is one, because a tier is
/// judged from the CPUs, else `access0` (any initiator).
///
/// Units as the kernel documents them: nanoseconds and MB/s.
pub(crate) fn access_figures(home: &Path, table: Source, into: &mut AttributesReport) {
    let class = ["access1/initiators", "access0/initiators"]
        .into_iter()
        .find(|class| number(home.join(class).join("read_latency")).is_some_and(|ns| ns > 0))
        .unwrap_or("access0/initiators");
    figures_in(&home.join(class), class, table, into);
}

/// What a CXL region's devices and the way to them add up to, where nothing more exact is known: newer kernels (7.3) show it
/// at the region and no longer at its node.
pub(crate) fn region_figures(roots: &Roots, region: &str, into: &mut AttributesReport) {
    if into.read_latency_ns.is_none() && into.read_bandwidth.is_none() {
        let home = roots.sys.join("bus/cxl/devices").join(region);
        figures_in(&home.join("access0"), &format!("{region}/access0"), Source::Cdat, into);
    }
}

/// The four files of one access class.
pub(crate) fn figures_in(folder: &Path, class: &str, table: Source, into: &mut AttributesReport) {
    let slots = [
        ("read_latency", 1.0, &mut into.read_latency_ns),
        ("write_latency", 1.0, &mut into.write_latency_ns),
        ("read_bandwidth", 1e6, &mut into.read_bandwidth),
        ("write_bandwidth", 1e6, &mut into.write_bandwidth),
    ];
    for (file, unit, slot) in slots {
        // Zero is the kernel's "not known".
        if let Some(value) = number(folder.join(file)).filter(|&value| value > 0) {
            #[expect(clippy::cast_precision_loss, reason = "latencies and megabytes are far below 2^53")]
            Figures::add(slot, Figure::new(value as f64 * unit, table, format!("{class}/{file}")));
        }
    }
}
