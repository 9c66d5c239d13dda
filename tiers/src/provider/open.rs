//! From a checked `SPEC` to a provider, with errors that say what to do.

use std::fmt;

use tiermem_sys::Errno;

use super::anonymous::{Anonymous, Binding};
use super::{Provider, node};
use crate::{Bytes, GRANULE, Tier, TierId, TierKind, TierName, TierSpec};

/// Opens the tier that `spec` describes, as number `id` of this process.
///
/// ```
/// use tiermem_tiers::{Bytes, Provenance, TierId, provider};
/// let spec = "fast=dram,size=64M".parse().unwrap();
/// let dram = provider::open(&spec, TierId(0)).unwrap();
/// let extent = dram.reserve(Bytes::mib(2), Provenance::Tool).unwrap();
/// dram.write(&extent, 0, b"hello").unwrap();
/// dram.release(extent).unwrap();
/// ```
///
/// # Errors
/// What stands in the way and what to do about it.
pub fn open(spec: &TierSpec, id: TierId) -> Result<Box<dyn Provider>, OpenError> {
    check_size(spec)?;
    match spec.kind {
        TierKind::Dram => Ok(Box::new(dram(spec, id)?)),
        TierKind::CxlNode => Ok(Box::new(cxl_node(spec, id)?)),
        #[cfg(feature = "device")]
        TierKind::Device => super::device::open(spec, id),
        TierKind::DaxFile => Ok(Box::new(super::dax_file::open(spec, id)?)),
        TierKind::Devdax => Ok(Box::new(super::devdax::open(spec, id)?)),
        TierKind::Nvme => Ok(Box::new(super::nvme::open(spec, id)?)),
        #[cfg(not(feature = "device"))]
        TierKind::Device => {
            let advice = "device tiers are not in this build: build with the feature `device`";
            Err(OpenError::new(spec, Obstacle::Unsupported, advice))
        }
    }
}

/// Why a tier could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    name: TierName,
    kind: TierKind,
    location: String,
    obstacle: Obstacle,
    advice: String,
}

/// What kind of thing stood in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// The node, file or device does not exist.
    Missing,
    /// The rights are missing.
    NoRights,
    /// The file or device is too small, or the size makes no sense.
    BadSize,
    /// It exists and is something else than the kind of tier says, or holds somebody's data.
    Unsuitable,
    /// Other processes use it in a way that cannot be shared.
    InUse,
    /// This machine, kernel, file system or build cannot do it.
    Unsupported,
    /// A system call failed; the number is errno.
    System(i32),
}

impl OpenError {
    pub(crate) fn new(spec: &TierSpec, obstacle: Obstacle, advice: impl Into<String>) -> Self {
        Self { name: spec.name, kind: spec.kind, location: spec.location.clone(), obstacle, advice: advice.into() }
    }

    /// For a failed system call, with what it was about.
    pub(crate) fn system(spec: &TierSpec, call: &str, errno: Errno) -> Self {
        Self::new(spec, Obstacle::System(errno as i32), format!("{call} failed: {}", errno.desc()))
    }

    /// What stood in the way.
    pub const fn obstacle(&self) -> Obstacle {
        self.obstacle
    }

    /// The tier that was to be opened.
    pub const fn tier(&self) -> TierName {
        self.name
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.location.is_empty() { "" } else { ":" };
        write!(f, "tier {} ({}{colon}{}): {}", self.name, self.kind, self.location, self.advice)
    }
}

impl std::error::Error for OpenError {}

/// The tier without any figure that opening finds out.
pub(super) fn tier(spec: &TierSpec, id: TierId) -> Tier {
    Tier { id, name: spec.name, kind: spec.kind, attributes: spec.attributes }
}

fn check_size(spec: &TierSpec) -> Result<(), OpenError> {
    match spec.size() {
        Some(size) if size < GRANULE => {
            let advice = format!("size={size} is less than one granule: give at least 2M");
            Err(OpenError::new(spec, Obstacle::BadSize, advice))
        }
        _ => Ok(()),
    }
}

fn dram(spec: &TierSpec, id: TierId) -> Result<Anonymous, OpenError> {
    let nodes = node::with_memory();
    let (total, binding) = if spec.location.is_empty() {
        (node::machine_total(), Binding::Anywhere)
    } else {
        let (number, node) = wanted_node(spec)?;
        // With one node, or a kernel without NUMA, everything lies there anyway.
        let binding = if nodes.len() <= 1 { Binding::Anywhere } else { Binding::Preferred(number) };
        (Some(node.total), binding)
    };
    let total = total.ok_or_else(|| {
        OpenError::new(spec, Obstacle::Unsupported, "the size of the memory is unknown (no /proc): give size=")
    });
    let total = match spec.size() {
        Some(size) => size,
        None => total?,
    };
    Ok(Anonymous::new(tier(spec, id), total, binding))
}

fn cxl_node(spec: &TierSpec, id: TierId) -> Result<Anonymous, OpenError> {
    let (number, node) = wanted_node(spec)?;
    if node.has_cpus {
        let advice = format!("node {number} has CPUs, so it is not a CXL node: write dram:{number}");
        return Err(OpenError::new(spec, Obstacle::Unsuitable, advice));
    }
    if spec.size().is_some_and(|size| size > node.total) {
        let advice = format!("node {number} has {} only: give a smaller size", node.total);
        return Err(OpenError::new(spec, Obstacle::BadSize, advice));
    }
    Ok(Anonymous::new(tier(spec, id), node.total, Binding::Only(number)))
}

fn wanted_node(spec: &TierSpec) -> Result<(u32, node::Node), OpenError> {
    let number: u32 = spec.location.parse().map_err(|_| {
        OpenError::new(spec, Obstacle::Unsuitable, "a NUMA node is a number, for example dram:0 or cxl-node:1")
    })?;
    let found = node::find(number).filter(|node| node.total > Bytes::ZERO);
    let found = match (found, node::with_memory().is_empty(), node::machine_total()) {
        // A kernel without NUMA shows no nodes; node 0 is then the machine.
        (None, true, Some(total)) if number == 0 => Some(node::Node { total, has_cpus: true }),
        (found, ..) => found,
    };
    found.map(|node| (number, node)).ok_or_else(|| {
        let there = node::with_memory().iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let advice = format!("there is no node {number} with memory; nodes with memory: {there}");
        OpenError::new(spec, Obstacle::Missing, advice)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obstacle(spec: &str) -> (Obstacle, String) {
        let error = open(&spec.parse().unwrap(), TierId(0)).err().unwrap();
        (error.obstacle(), error.to_string())
    }

    #[test]
    fn errors_say_what_to_do() {
        assert!(matches!(obstacle("a=dram,size=4K"), (Obstacle::BadSize, text) if text.contains("2M")));
        assert!(matches!(obstacle("a=dram:999"), (Obstacle::Missing, text) if text.contains("no node 999")));
        assert!(matches!(obstacle("a=cxl-node:0"), (Obstacle::Unsuitable, text) if text.contains("dram:0")));
        assert!(matches!(obstacle("a=cxl-node:77"), (Obstacle::Missing, _)));
    }

    #[test]
    fn dram_on_a_node_and_on_the_machine() {
        for text in ["a=dram", "a=dram:0"] {
            let spec = text.parse().unwrap();
            assert!(open(&spec, TierId(1)).unwrap().usage().capacity > Bytes::mib(64));
        }
    }
}
