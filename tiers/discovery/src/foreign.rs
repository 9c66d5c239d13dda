//! The tiers of another machine, from hwloc's XML export (`lstopo --of xml`), so that a topology can be planned away
//! from it.

use std::path::Path;

use hwlocality::Topology;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use tiermem_tiers::{Source, TierKind};

use crate::report::{CxlReport, Figure, Figures, Machine, NodeReport, Report, TierReport, tier_spec};
use crate::{Error, assumed, hwloc};

/// Largest file that is taken for a topology.
const XML_BYTES_MAX: u64 = 64 << 20;

/// Reads an XML export and shows its NUMA nodes as tiers.
///
/// # Errors
/// `Unreadable` if the file cannot be read, `Malformed` if hwloc does not take it for a topology or it has no memory.
pub fn from_xml(path: &Path) -> Result<Report, Error> {
    let unreadable = |cause| Error::Unreadable { path: path.to_path_buf(), cause };
    let malformed = |reason: String| Error::Malformed { path: path.to_path_buf(), reason };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > XML_BYTES_MAX {
        return Err(malformed(format!("{size} bytes is too much for a topology; export one with `lstopo --of xml`")));
    }
    let text = std::fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8(text).map_err(|_| malformed("not UTF-8 text, so not an XML topology".into()))?;
    // hwloc crashes or complains on stderr about some inputs; what is plainly no topology need not get that far.
    if !text.contains("<topology") {
        return Err(malformed("no <topology> element: export one with `lstopo --of xml FILE`".into()));
    }
    let not_hwloc = "hwloc does not accept it as a topology; export one with `lstopo --of xml FILE` (hwloc 2.x)";
    let builder = Topology::builder().from_xml(&text).map_err(|_| malformed(not_hwloc.into()))?;
    let topology = builder.build().map_err(|_| malformed(not_hwloc.into()))?;
    let tiers: Vec<TierReport> = hwloc::nodes(&topology).filter_map(|(n, object)| tier(&topology, n, object)).collect();
    if tiers.is_empty() {
        return Err(malformed("this topology has no NUMA node with memory".into()));
    }
    Ok(Report {
        machine: describe(&topology, path),
        tiers,
        cxl: CxlReport::default(),
        mechanisms: None,
        notes: vec!["another machine: mechanisms, DAX devices and mounts are not in its export".to_owned()],
    })
}

fn describe(topology: &Topology, path: &Path) -> Machine {
    let root = topology.root_object();
    let info = |key: &str| root.info(key).map(|value| value.to_string_lossy().into_owned());
    let package = topology.normal_objects().find_map(|object| object.info("CPUModel"));
    Machine {
        origin: path.display().to_string(),
        kernel: info("OSRelease"),
        cpu_model: package.map(|model| model.to_string_lossy().into_owned()),
        cpus: topology.cpuset().weight().map(|cpus| cpus as u64),
        hypervisor: None,
        last_level_cache_bytes: hwloc::last_level_cache(topology),
        hwloc: info("hwlocVersion"),
    }
}

fn tier(topology: &Topology, number: u32, object: &TopologyObject) -> Option<TierReport> {
    let Some(ObjectAttributes::NUMANode(memory)) = object.attributes() else { return None };
    let bytes = memory.local_memory()?.get();
    let cpus: Vec<u32> = object
        .cpuset()
        .map(|set| set.iter_set().filter_map(|cpu| u32::try_from(usize::from(cpu)).ok()).collect())
        .unwrap_or_default();
    let subtype = object.subtype().map(|s| s.to_string_lossy().into_owned());
    let is_cxl = subtype.as_deref().is_some_and(|s| s.contains("CXL"));
    // hwloc gives a CPU-less node the CPUs that it is local to; a second node with the same CPUs tells it apart.
    let shares_cpus = shares_cpus_with_earlier(topology, object, number);
    let (kind, prefix, description) = match (&subtype, cpus.is_empty() || shares_cpus) {
        (Some(s), _) if is_cxl => (TierKind::CxlNode, "cxl", format!("CPU-less node ({s})")),
        (Some(s), true) => (TierKind::CxlNode, "node", format!("CPU-less node ({s})")),
        (None, true) => (TierKind::CxlNode, "node", "CPU-less node".to_owned()),
        (_, false) => (TierKind::Dram, "dram", "host DRAM".to_owned()),
    };
    let mut tier = TierReport::new(kind, format!("{prefix}{number}"), number.to_string(), &description);
    tier.spec = tier_spec(kind, &tier.name, &tier.location, None);
    hwloc::memory_attributes(topology, object, if is_cxl { Source::Cdat } else { Source::Hmat }, &mut tier.attributes);
    #[expect(clippy::cast_precision_loss, reason = "no node has 2^53 bytes")]
    let capacity = Figure::new(bytes as f64, Source::Kernel, "hwloc local_memory");
    Figures::add(&mut tier.attributes.capacity_bytes, capacity);
    match kind {
        TierKind::Dram => assumed::fill(assumed::Kind::LocalDram, &mut tier.attributes),
        _ if is_cxl => assumed::fill(assumed::Kind::Cxl, &mut tier.attributes),
        _ => {}
    }
    tier.node = Some(NodeReport { node: number, cpus, subtype, ..NodeReport::default() });
    Some(tier)
}

fn shares_cpus_with_earlier(topology: &Topology, object: &TopologyObject, number: u32) -> bool {
    let Some(cpus) = object.cpuset() else { return false };
    hwloc::nodes(topology).any(|(other, node)| other < number && node.cpuset().is_some_and(|set| set.intersects(cpus)))
}
