//! What discovery found, as plain data. This is the documented JSON of `tierctl list`.
//!
//! Units stand in the names of the fields: `_bytes`, `_ns`, and bandwidths are bytes per second. A field that nobody
//! knows is `null`; a list that has nothing is empty. Fields are only ever added within one format version.

use serde::{Deserialize, Serialize};
use tiermem_tiers::spec::IoChoice;
use tiermem_tiers::{Attribute, Attributes, Bytes, Source, TierKind, TierName, TierSpec};

use crate::mechanism::Mechanisms;

/// Name and version of the format: the `format` field that goes in front of a printed [`Report`].
pub const FORMAT: &str = "tiermem-list/1";

/// All that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The machine as a whole.
    pub machine: Machine,
    /// Every place that memory can be put in, fastest kinds first.
    pub tiers: Vec<TierReport>,
    /// CXL memory devices, their regions and decoders.
    pub cxl: CxlReport,
    /// Which telemetry and migration mechanisms work with these rights; `null` for another machine (`--from`).
    pub mechanisms: Option<Mechanisms>,
    /// Facts that concern the whole report.
    pub notes: Vec<String>,
}

/// The machine as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// `this machine`, or the XML file that describes another one.
    pub origin: String,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// The processor's model.
    pub cpu_model: Option<String>,
    /// Logical CPUs that this program may use.
    pub cpus: Option<u64>,
    /// The hypervisor's vendor if this is a virtual machine.
    pub hypervisor: Option<String>,
    /// Size of the largest last-level cache, in bytes.
    pub last_level_cache_bytes: Option<u64>,
    /// Version of hwloc's interface that was asked, or of the hwloc that made the XML.
    pub hwloc: Option<String>,
}

/// One place that memory can be put in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TierReport {
    /// A name that a `SPEC` can use, unique in this report.
    pub name: String,
    /// The kind word of a `SPEC`: `dram`, `cxl-node`, `devdax`, `dax-file`, `nvme`, `device`.
    pub kind: String,
    /// Node number, path or device: the `WHERE` of a `SPEC`.
    pub location: String,
    /// What it is in words: "host DRAM", "CXL memory", "tmpfs", "ext4 on vda (virtio disk)".
    pub description: String,
    /// A `SPEC` that `--tier` accepts; `null` if something has to be done first, which `notes` then says.
    pub spec: Option<String>,
    /// Its figures.
    pub attributes: AttributesReport,
    /// Free now, in bytes.
    pub free_bytes: Option<u64>,
    /// For memory that is, or would become, a NUMA node.
    pub node: Option<NodeReport>,
    /// For `/dev/dax` devices.
    pub dax: Option<DaxReport>,
    /// What its user should know.
    pub notes: Vec<String>,
}

impl TierReport {
    /// An entry with nothing known but what and where it is.
    pub fn new(kind: TierKind, name: String, location: String, description: &str) -> Self {
        Self {
            name,
            kind: kind.as_str().to_owned(),
            location,
            description: description.to_owned(),
            spec: None,
            attributes: AttributesReport::default(),
            free_bytes: None,
            node: None,
            dax: None,
            notes: Vec::new(),
        }
    }

    /// What names this tier across runs, for the cache of measurements: kind and location.
    pub fn identity(&self) -> String {
        format!("{}:{}", self.kind, self.location)
    }
}

/// A `SPEC` for a tier, escaped as needed; `None` if the name breaks the rule for names.
pub(crate) fn tier_spec(kind: TierKind, name: &str, location: &str, size: Option<Attribute<Bytes>>) -> Option<String> {
    let attributes = Attributes { capacity: size, ..Attributes::default() };
    let name = TierName::new(name)?;
    let spec = TierSpec { name, kind, location: location.to_owned(), attributes, io: IoChoice::default() };
    Some(spec.to_string())
}

/// The figures of a tier, `null` where nobody knows one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AttributesReport {
    /// Idle read latency, nanoseconds (of a dependent load; of a 4 KiB read on tiers that are copied to and from).
    pub read_latency_ns: Option<Figures>,
    /// Idle write latency, nanoseconds.
    pub write_latency_ns: Option<Figures>,
    /// Read bandwidth, bytes per second.
    pub read_bandwidth: Option<Figures>,
    /// Write bandwidth, bytes per second.
    pub write_bandwidth: Option<Figures>,
    /// Size, bytes.
    pub capacity_bytes: Option<Figures>,
}

/// One attribute: the figure to use, and every other that is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The figure to use.
    #[serde(flatten)]
    pub chosen: Figure,
    /// What other sources say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Figure>,
    /// Why the chosen one was chosen, if there was a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A value and who says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The value; its unit stands in the name of the attribute. Whole numbers are written without a fraction.
    #[serde(serialize_with = "whole_if_whole")]
    pub value: f64,
    /// `HMAT`, `CDAT`, `kernel`, `measured`, `configured`, `emulated` or `assumed`.
    pub source: String,
    /// Where exactly: a sysfs file, a publication, when and how it was measured.
    pub detail: String,
}

fn whole_if_whole<S: serde::Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
    if value.fract() == 0.0 && value.abs() < 9e15 { to.serialize_i64(*value as i64) } else { to.serialize_f64(*value) }
}

impl Figure {
    /// A value with its source.
    pub fn new(value: f64, source: Source, detail: impl Into<String>) -> Self {
        Self { value, source: source.as_str().to_owned(), detail: detail.into() }
    }

    fn rank(&self) -> u8 {
        const ORDER: [Source; 7] = [
            Source::Configured,
            Source::Emulated,
            Source::Measured,
            Source::Cdat,
            Source::Hmat,
            Source::Kernel,
            Source::Assumed,
        ];
        let at = ORDER.iter().position(|s| s.as_str() == self.source).unwrap_or(ORDER.len());
        u8::try_from(at).unwrap_or(u8::MAX)
    }
}

impl Figures {
    /// A single figure.
    pub const fn one(chosen: Figure) -> Self {
        Self { chosen, others: Vec::new(), why: None }
    }

    /// Adds what another source says to `slot`. What the user configured wins, then what was measured on this
    /// machine, then the device's and the firmware's tables, then assumptions; whatever lost stays visible.
    pub fn add(slot: &mut Option<Self>, figure: Figure) {
        let Some(known) = slot else {
            *slot = Some(Self::one(figure));
            return;
        };
        if figure.rank() < known.chosen.rank() {
            let loser = std::mem::replace(&mut known.chosen, figure);
            known.others.insert(0, loser);
        } else {
            known.others.push(figure);
        }
        let reason = match known.chosen.source.as_str() {
            "configured" => "the user's own figure goes before all others",
            "emulated" => "an emulated tier has its profile's figures; what was measured is the memory behind it",
            "measured" => "measured on this machine, which tables and assumptions can only predict",
            "CDAT" => "the device's own table is more exact than the platform's",
            _ => "a stated figure goes before an assumed one",
        };
        known.why = Some(reason.to_owned());
    }
}

/// What the kernel says about a NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its number.
    pub node: u32,
    /// Its CPUs; empty for CXL memory and HBM.
    pub cpus: Vec<u32>,
    /// Nodes whose CPUs reach it fastest (`access0/initiators`).
    pub initiators: Vec<u32>,
    /// The same, for initiators that are CPUs (`access1/initiators`).
    pub cpu_initiators: Vec<u32>,
    /// Distance to each node, by node number (10 is local).
    pub distances: Vec<NodeDistance>,
    /// The kernel's memory tier that holds it; a lower number is faster.
    pub memory_tier: Option<u32>,
    /// hwloc's word for the node (`HBM`, `DRAM`, `CXL-DRAM` …), where it has one.
    pub subtype: Option<String>,
    /// The kernel's weight for weighted interleave.
    pub interleave_weight: Option<u64>,
}

/// Distance to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDistance {
    /// The other node.
    pub node: u32,
    /// The distance, 10 being local.
    pub distance: u32,
}

/// What the kernel says about a DAX device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DaxReport {
    /// Its name, `dax0.0`.
    pub device: String,
    /// Size, bytes.
    pub size_bytes: u64,
    /// Alignment of mappings, bytes.
    pub align_bytes: Option<u64>,
    /// The NUMA node that it becomes in system-ram mode.
    pub target_node: Option<u32>,
    /// The driver that holds it: `device_dax` (`/dev/dax`), `kmem` (system RAM), none.
    pub driver: Option<String>,
    /// `cxl`, `pmem` or `hmem` (memory that the firmware set aside).
    pub backing: Option<String>,
    /// The CXL region, namespace or memory range behind it.
    pub region: Option<String>,
}

/// What `/sys/bus/cxl` shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CxlReport {
    /// Memory devices.
    pub devices: Vec<CxlDevice>,
    /// Regions.
    pub regions: Vec<CxlRegion>,
    /// Decoders (HDM decoders and the platform's windows).
    pub decoders: Vec<CxlDecoder>,
}

/// A CXL memory device. Name it by its serial number: `memN` can change at every boot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CxlDevice {
    /// `mem0`.
    pub name: String,
    /// Serial number as the kernel writes it.
    pub serial: Option<String>,
    /// Volatile capacity, bytes.
    pub ram_bytes: Option<u64>,
    /// Persistent capacity, bytes.
    pub pmem_bytes: Option<u64>,
    /// Node of the device itself (not of its memory).
    pub numa_node: Option<u32>,
    /// Firmware version.
    pub firmware: Option<String>,
    /// Class of service of the volatile capacity that the device's CDAT asks for.
    pub ram_qos_class: Option<u64>,
    /// The same of the persistent capacity.
    pub pmem_qos_class: Option<u64>,
    /// Its PCI address.
    pub pci_address: Option<String>,
}

/// A CXL region: a range of physical addresses over one or more devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CxlRegion {
    /// `region0`.
    pub name: String,
    /// Start of the physical address range.
    pub resource: Option<u64>,
    /// Size, bytes.
    pub size_bytes: Option<u64>,
    /// `ram` or `pmem`.
    pub mode: Option<String>,
    /// Number of devices that it interleaves over.
    pub interleave_ways: Option<u64>,
    /// Bytes on one device before the next one.
    pub interleave_granularity_bytes: Option<u64>,
    /// Whether it is committed.
    pub committed: Option<bool>,
    /// Endpoint decoders it is built from.
    pub targets: Vec<String>,
}

/// A CXL decoder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CxlDecoder {
    /// `decoder0.0`.
    pub name: String,
    /// `root` (a window of the platform, CFMWS), `switch` or `endpoint`.
    pub role: Option<String>,
    /// Size, bytes.
    pub size_bytes: Option<u64>,
    /// What it decodes to or allows: `ram`, `pmem`, or both.
    pub modes: Vec<String>,
    /// Number of ways.
    pub interleave_ways: Option<u64>,
    /// Class of service of a root decoder.
    pub qos_class: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(figures: &[(f64, Source)]) -> Figures {
        let mut slot = None;
        for &(value, source) in figures {
            Figures::add(&mut slot, Figure::new(value, source, "test"));
        }
        slot.unwrap()
    }

    #[test]
    fn what_was_measured_is_chosen_and_the_table_stays_visible() {
        for order in
            [[(402.0, Source::Cdat), (350.0, Source::Measured)], [(350.0, Source::Measured), (402.0, Source::Cdat)]]
        {
            let figures = figures(&order);
            assert_eq!((figures.chosen.value, figures.others[0].value), (350.0, 402.0));
            assert!(figures.why.is_some_and(|why| why.contains("measured")));
        }
    }

    #[test]
    fn an_assumption_never_replaces_a_table() {
        let figures = figures(&[(402.0, Source::Hmat), (210.0, Source::Assumed)]);
        assert_eq!(figures.chosen.source, "HMAT");
        assert_eq!(figures.others[0].source, "assumed");
    }

    #[test]
    fn a_single_figure_needs_no_reason() {
        let json = serde_json::to_value(figures(&[(64.0, Source::Kernel)])).unwrap();
        assert_eq!(json, serde_json::json!({"value": 64, "source": "kernel", "detail": "test"}));
    }
}
