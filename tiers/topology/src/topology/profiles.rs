//! The profiles that a topology names: shipped ones, and those written in the file itself.

use std::collections::BTreeSet;

use tiermem_complaint::Complaints;
use tiermem_complaint::table::{self, Place};

use super::parse::Places;
use super::{DeviceKind, Topology};
use crate::{BUILTIN_NAMES, Profile};

/// The kind of profile tables, as their headings name it.
const PROFILE: &str = "profile";

/// Reads the file's own profiles. One that is wrong has a name nevertheless, lest every mention of it be a complaint.
pub(super) fn read(value: Place<'_, '_>, places: &mut Places, complaints: &mut Complaints<'_>) -> Vec<Profile> {
    let mut profiles = Vec::new();
    let Some(tables) = table::table(value, "tables such as [profile.NAME]", complaints) else { return profiles };
    for (span, name, value) in table::in_file_order(tables) {
        if BUILTIN_NAMES.contains(&name) {
            let message = format!("`{name}` is a shipped profile: take another name, or say base = \"{name}\"");
            complaints.add(span.clone(), message);
        }
        places.note(PROFILE, name, "", span.clone());
        let Some(entries) = table::table(value, "a table such as [profile.NAME]", complaints) else { continue };
        profiles.extend(Profile::parse_table(name, entries, span, complaints));
    }
    profiles
}

/// `a memory profile`.
pub(super) fn article(kind: &str) -> &'static str {
    match kind {
        "memory" => "a memory profile",
        "link" => "a link profile",
        "nvme" => "an NVMe profile",
        _ => "a GPU profile",
    }
}

/// The kind of profile that a device needs.
pub(super) const fn kind_for(device: DeviceKind) -> &'static str {
    match device {
        DeviceKind::Cxl => "memory",
        DeviceKind::Nvme => "nvme",
        DeviceKind::Gpu => "gpu",
    }
}

/// What the profile `name` is about, if there is one.
pub(super) fn kind_of(name: &str, own: &[Profile]) -> Option<&'static str> {
    let own = own.iter().find(|profile| profile.name == name).map(Profile::kind);
    own.or_else(|| Profile::builtin(name).map(|profile| profile.kind()))
}

/// The names of all profiles of a kind.
pub(super) fn names(wanted: &str, own: &[Profile]) -> Vec<String> {
    let shipped = BUILTIN_NAMES.iter().filter_map(|name| Profile::builtin(name));
    let all = own.iter().cloned().chain(shipped);
    all.filter(|profile| profile.kind() == wanted).map(|profile| profile.name).collect()
}

/// Adds the shipped profiles that are named, in the order in which profiles are shipped.
pub(super) fn add_shipped(topology: &mut Topology) {
    let links = topology.links.iter().filter_map(|link| link.profile.as_deref());
    let nodes = topology.nodes.iter().map(|node| node.profile.as_str());
    let switches = topology.switches.iter().map(|switch| switch.profile.as_str());
    let devices = topology.devices.iter().map(|device| device.profile.as_str());
    let named: BTreeSet<&str> = links.chain(nodes).chain(switches).chain(devices).collect();
    let shipped = BUILTIN_NAMES.iter().filter(|name| named.contains(*name)).filter_map(|name| Profile::builtin(name));
    let shipped: Vec<Profile> = shipped.collect();
    topology.profiles.extend(shipped);
}

/// Whether the file has a profile of this name that could not be read.
pub(super) fn is_broken(name: &str, topology: &Topology, places: &Places) -> bool {
    places.of(PROFILE, name, "").is_some() && topology.profiles.iter().all(|profile| profile.name != name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_their_words() {
        for name in BUILTIN_NAMES {
            let kind = kind_of(name, &[]).unwrap();
            assert!(article(kind).to_lowercase().contains(kind), "{name}");
            assert!(names(kind, &[]).contains(&(*name).to_owned()));
        }
        assert_eq!(kind_for(DeviceKind::Gpu), "gpu");
    }
}
