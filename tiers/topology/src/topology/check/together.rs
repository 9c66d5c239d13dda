//! What lies together: interleave sets, pools, and who reaches what.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Check, WAYS, fsdax_needs_persistence, list};
use crate::topology::graph::Graph;
use crate::topology::parse::element;
use crate::topology::{Device, DeviceKind, Exposure, Persistence};

impl Check<'_, '_, '_, '_> {
    pub(super) fn interleave_sets(&mut self) {
        let mut members: BTreeMap<String, String> = BTreeMap::new();
        for set in self.topology.interleave_sets.clone() {
            let whole = self.places.of("interleave", &set.name, "devices");
            if !WAYS.contains(&set.devices.len()) {
                let count = set.devices.len();
                self.complain(
                    whole.clone(),
                    format!("{count} devices: an interleave set has 1, 2, 3, 4, 6, 8, 12 or 16"),
                );
            }
            let mut first: Option<Device> = None;
            for (number, name) in set.devices.iter().enumerate() {
                let place = self.places.of("interleave", &element(&set.name, number), "devices");
                if !self.refers(name, place.clone(), &["device"]) {
                    continue;
                }
                if let Some(other) = members.insert(name.clone(), set.name.clone()) {
                    self.complain(place.clone(), format!("`{name}` is in the interleave set `{other}` already"));
                    continue;
                }
                let Some(device) = self.topology.devices.iter().find(|device| device.name == *name).cloned() else {
                    continue;
                };
                self.member(&device, place.clone());
                let first = first.get_or_insert_with(|| device.clone());
                let first = first.clone();
                self.alike(&first, &device, place);
            }
            let fsdax = set.exposure == Exposure::Fsdax;
            if first.is_some_and(|first| fsdax && first.persistence == Persistence::Volatile) {
                let place = self.places.of("interleave", &set.name, "exposure");
                self.complain(place, fsdax_needs_persistence("persistent devices"));
            }
        }
    }

    /// What a device of an interleave set must be in itself.
    fn member(&mut self, device: &Device, place: Option<Range<usize>>) {
        let name = &device.name;
        if device.kind != DeviceKind::Cxl {
            self.complain(
                place,
                format!("`{name}` is of kind \"{}\": only CXL devices can be interleaved", device.kind),
            );
        }
        let exposure = self.places.of("device", name, "exposure");
        self.complain(
            exposure,
            format!("`{name}` is part of an interleave set, whose exposure counts: leave this one out"),
        );
    }

    /// Devices of a set have one size and one persistence.
    fn alike(&mut self, first: &Device, device: &Device, place: Option<Range<usize>>) {
        let sizes_known = [first, device].iter().all(|d| self.places.of("device", &d.name, "capacity").is_some());
        if sizes_known && first.capacity != device.capacity {
            let (a, b) = (first.capacity, device.capacity);
            let message = format!(
                "`{}` has {b} and `{}` has {a}: devices of an interleave set have one size",
                device.name, first.name
            );
            self.complain(place.clone(), message);
        }
        if first.persistence != device.persistence {
            let (a, b) = (first.persistence, device.persistence);
            self.complain(
                place,
                format!(
                    "`{}` is {b} and `{}` is {a}: an interleave set is all one or the other",
                    device.name, first.name
                ),
            );
        }
    }

    pub(super) fn pools(&mut self) {
        let mut pooled: BTreeMap<String, String> = BTreeMap::new();
        for pool in self.topology.pools.clone() {
            let place = self.places.of("pool", &pool.name, "device");
            if self.refers(&pool.device, place.clone(), &["device"]) {
                let device = self.topology.devices.iter().find(|device| device.name == pool.device);
                let set = self.topology.interleave_sets.iter().find(|set| set.devices.contains(&pool.device));
                let message = if let Some(kind) = device.map(|d| d.kind).filter(|&kind| kind != DeviceKind::Cxl) {
                    Some(format!("`{}` is of kind \"{kind}\": only CXL devices can be shared", pool.device))
                } else if let Some(set) = set {
                    Some(format!(
                        "`{}` is in the interleave set `{}`: it cannot be shared as well",
                        pool.device, set.name
                    ))
                } else {
                    let other = pooled.insert(pool.device.clone(), pool.name.clone());
                    other.map(|other| format!("`{}` is in the pool `{other}` already", pool.device))
                };
                if let Some(message) = message {
                    self.complain(place, message);
                }
            }
            if pool.hosts.len() < 2 {
                let hosts = self.places.of("pool", &pool.name, "hosts");
                self.complain(
                    hosts,
                    "a pool is shared by two hosts at least; without one the device belongs to its host alone",
                );
            }
            for (number, host) in pool.hosts.iter().enumerate() {
                let place = self.places.of("pool", &element(&pool.name, number), "hosts");
                if self.refers(host, place.clone(), &["host"]) && pool.hosts.iter().take(number).any(|h| h == host) {
                    self.complain(place, format!("`{host}` is in the list already"));
                }
            }
        }
    }

    /// Who reaches what, over links that can be followed.
    pub(super) fn ways(&mut self) {
        let graph = Graph::of(self.topology);
        let reach: BTreeMap<String, Vec<(String, u64)>> =
            self.topology.devices.iter().map(|device| (device.name.clone(), graph.hosts_above(&device.name))).collect();
        let above: BTreeMap<String, Vec<String>> =
            self.topology.devices.iter().map(|device| (device.name.clone(), graph.parents(&device.name))).collect();
        for device in self.topology.devices.clone() {
            let (hosts, parents) = (&reach[&device.name], &above[&device.name]);
            self.device_ways(&device, hosts, parents);
        }
        for pool in self.topology.pools.clone() {
            let Some(hosts) = reach.get(&pool.device).filter(|hosts| !hosts.is_empty()) else { continue };
            for (number, host) in pool.hosts.iter().enumerate() {
                let is_host = self.known.kinds.get(host.as_str()) == Some(&"host");
                if is_host && hosts.iter().all(|(reaching, _)| reaching != host) {
                    let place = self.places.of("pool", &element(&pool.name, number), "hosts");
                    self.complain(place, format!("no way leads from `{host}` to `{}`: add a [[link]]", pool.device));
                }
            }
        }
        for set in self.topology.interleave_sets.clone() {
            let hosts_of =
                |name: &String| reach.get(name).map(|hosts| hosts.iter().map(|(h, _)| h.clone()).collect::<Vec<_>>());
            let Some((first, own)) = set.devices.first().and_then(|name| Some((name, hosts_of(name)?))) else {
                continue;
            };
            for (number, name) in set.devices.iter().enumerate().skip(1) {
                let Some(theirs) =
                    hosts_of(name).filter(|theirs| *theirs != own && !theirs.is_empty() && !own.is_empty())
                else {
                    continue;
                };
                let place = self.places.of("interleave", &element(&set.name, number), "devices");
                let message = format!(
                    "`{name}` belongs to {} and `{first}` to {}: one host interleaves them all",
                    list(&theirs),
                    list(&own)
                );
                self.complain(place, message);
            }
        }
    }

    fn device_ways(&mut self, device: &Device, hosts: &[(String, u64)], parents: &[String]) {
        let name = &device.name;
        let place = self.places.of("device", name, "");
        if hosts.is_empty() {
            let message = if parents.is_empty() {
                format!("nothing leads to `{name}`: add a [[link]] with to = \"{name}\"")
            } else {
                format!("no host reaches `{name}`: {} is linked to none", list(parents))
            };
            return self.complain(place, message);
        }
        if let Some((host, ways)) = hosts.iter().find(|(_, ways)| *ways > 1) {
            let message = format!("{ways} ways lead from `{host}` to `{name}` (through {}): leave one", list(parents));
            return self.complain(place, message);
        }
        // A pool whose device is not known may be meant for this one.
        let known = |name: &str| self.known.kinds.get(name) == Some(&"device");
        let pooled = self.topology.pools.iter().any(|pool| pool.device == *name || !known(&pool.device));
        if hosts.len() > 1 && !pooled {
            let names: Vec<String> = hosts.iter().map(|(host, _)| host.clone()).collect();
            let message = if device.kind == DeviceKind::Cxl {
                format!(
                    "{} reach `{name}`, which is in no pool: add one, [pool.…] with device = \"{name}\"",
                    list(&names)
                )
            } else {
                format!("{} reach `{name}`: only CXL devices can be shared by hosts", list(&names))
            };
            self.complain(place, message);
        }
    }
}
