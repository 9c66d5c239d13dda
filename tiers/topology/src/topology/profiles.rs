//! The profiles that a topology may name: shipped ones, and those written in the file itself.

use std::fmt;

use crate::{Profile, ProfileFigures};

/// What a profile is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProfileKind {
    Memory,
    Link,
    Nvme,
    Gpu,
}

impl fmt::Display for ProfileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "a memory profile",
            Self::Link => "a link profile",
            Self::Nvme => "an NVMe profile",
            Self::Gpu => "a GPU profile",
        })
    }
}

/// Names that are known before their figures are.
const SHIPPED: [(&str, ProfileKind); 15] = [
    ("hbm2", ProfileKind::Memory),
    ("dram-ddr5", ProfileKind::Memory),
    ("dram-remote", ProfileKind::Memory),
    ("cxl-near", ProfileKind::Memory),
    ("cxl-asic", ProfileKind::Memory),
    ("cxl-cz120", ProfileKind::Memory),
    ("cxl-fpga", ProfileKind::Memory),
    ("cxl-pooled", ProfileKind::Memory),
    ("cxl-far", ProfileKind::Memory),
    ("pcie5-x8", ProfileKind::Link),
    ("pcie5-x16", ProfileKind::Link),
    ("cxl-switch", ProfileKind::Link),
    ("nvme-gen4", ProfileKind::Nvme),
    ("nvme-gen5", ProfileKind::Nvme),
    ("gpu-h100", ProfileKind::Gpu),
];

/// What the profile `name` is about, if there is one.
pub(super) fn kind_of(name: &str, own: &[Profile]) -> Option<ProfileKind> {
    let own = own.iter().find(|profile| profile.name == name).map(kind);
    own.or_else(|| SHIPPED.iter().find(|(shipped, _)| *shipped == name).map(|(_, kind)| *kind))
}

/// The names of all profiles of a kind.
pub(super) fn names(wanted: ProfileKind, own: &[Profile]) -> Vec<String> {
    let own = own.iter().filter(|profile| kind(profile) == wanted).map(|profile| profile.name.clone());
    own.chain(SHIPPED.iter().filter(|(_, kind)| *kind == wanted).map(|(name, _)| (*name).to_owned())).collect()
}

fn kind(profile: &Profile) -> ProfileKind {
    match profile.figures {
        ProfileFigures::Memory(_) => ProfileKind::Memory,
        ProfileFigures::Link(_) => ProfileKind::Link,
        ProfileFigures::Nvme(_) => ProfileKind::Nvme,
        ProfileFigures::Gpu(_) => ProfileKind::Gpu,
    }
}
