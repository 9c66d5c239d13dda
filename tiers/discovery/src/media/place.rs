//! From physical addresses to tiers.

use serde::Serialize;
use tiermem_tiers::TierKind;

use crate::roots::{entries, number};
use crate::{Roots, dax};

/// A part of a tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The kind of tier, as in a SPEC.
    #[serde(serialize_with = "by_name")]
    pub kind: TierKind,
    /// Its location, as in a SPEC: a device or the number of a node.
    pub location: String,
    /// Where in the device, bytes; for a node, where in the memory that it has from this device.
    pub offset: u64,
}

fn by_name<S: serde::Serializer>(kind: &TierKind, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(kind.as_str())
}

/// Where the memory of a DAX device lies.
#[derive(Debug)]
pub(super) struct Range {
    start: u64,
    bytes: u64,
    kind: TierKind,
    location: String,
}

/// Every DAX device, as a device or as the node that `kmem` made of it.
pub(super) fn places(roots: &Roots) -> Vec<Range> {
    let folder = roots.sys.join("bus/dax/devices");
    let devices = dax::devices(roots);
    let of = |name: &String| {
        let device = devices.iter().find(|device| device.device == *name)?;
        let start = number(folder.join(name).join("resource"))?;
        let (kind, location) = match device.driver.as_deref() {
            Some("kmem") => (TierKind::CxlNode, device.target_node?.to_string()),
            _ => (TierKind::Devdax, format!("/dev/{name}")),
        };
        Some(Range { start, bytes: device.size_bytes, kind, location })
    };
    entries(&folder).iter().filter_map(of).collect()
}

/// The tier that has this address.
pub(super) fn find(places: &[Range], address: u64) -> Option<Place> {
    let range = places.iter().find(|range| address.checked_sub(range.start).is_some_and(|at| at < range.bytes))?;
    Some(Place { kind: range.kind, location: range.location.clone(), offset: address - range.start })
}
