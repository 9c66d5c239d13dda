//! The tiers of a topology as its hosts see them.

use tiermem_tiers::Bytes;

use super::{Coherence, DeviceKind, Exposure, Persistence, Topology};
use crate::{LinkFigures, ProfileFigures, Status};

/// A tier: a node, a device of its own, an interleave set or a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct TierView {
    /// Its name: that of the node, device, set or pool.
    pub name: String,
    /// What is behind it; `None` for a node of the host's own memory.
    pub kind: Option<DeviceKind>,
    /// The CPUs of a node, else 0.
    pub cpus: u32,
    /// How much it holds.
    pub capacity: Bytes,
    /// Its profile; that of the first device of a set.
    pub profile: String,
    /// The devices behind it, in the order of interleaving; empty for a node.
    pub devices: Vec<String>,
    /// The hosts that use it.
    pub hosts: Vec<String>,
    /// How it appears.
    pub exposure: Exposure,
    /// What it keeps.
    pub persistence: Persistence,
    /// Who keeps its hosts' caches in step, if several share it.
    pub coherence: Option<Coherence>,
    /// How fast it is when idle and alone, seen from the first of its hosts.
    pub figures: TierFigures,
}

/// The figures of a tier, the way from the host included: latencies add up, the narrowest place limits the bandwidth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TierFigures {
    /// Idle latency of a read (of a copy of one line on a GPU, of 4 KiB on NVMe), nanoseconds.
    pub read_latency_ns: f64,
    /// Idle latency of a write, nanoseconds.
    pub write_latency_ns: f64,
    /// Read bandwidth, bytes per second.
    pub read_bandwidth: f64,
    /// Write bandwidth, bytes per second.
    pub write_bandwidth: f64,
    /// What the least certain of them is worth.
    pub status: Status,
}

impl TierFigures {
    /// Nothing known yet: the identity of what follows.
    const NONE: Self = Self {
        read_latency_ns: 0.0,
        write_latency_ns: 0.0,
        read_bandwidth: f64::INFINITY,
        write_bandwidth: f64::INFINITY,
        status: Status::Measured,
    };

    /// Behind a link or a switch.
    fn behind(self, link: &LinkFigures) -> Self {
        let statuses = [link.latency_ns.status, link.down_bandwidth.status, link.up_bandwidth.status];
        Self {
            read_latency_ns: self.read_latency_ns + link.latency_ns.value,
            write_latency_ns: self.write_latency_ns + link.latency_ns.value,
            read_bandwidth: self.read_bandwidth.min(link.up_bandwidth.value),
            write_bandwidth: self.write_bandwidth.min(link.down_bandwidth.value),
            status: statuses.into_iter().fold(self.status, worse),
        }
    }
}

/// The less certain one.
fn worse(a: Status, b: Status) -> Status {
    const ORDER: [Status; 4] = [Status::Measured, Status::Vendor, Status::Simulated, Status::Assumed];
    let rank = |status: Status| ORDER.iter().position(|&known| known == status);
    if rank(b) > rank(a) { b } else { a }
}

impl Topology {
    /// All tiers, in the order in which models and emulators number them: nodes; the devices that are in no set and no
    /// pool, host by host; interleave sets; pools.
    pub fn tiers(&self) -> Vec<TierView> {
        let nodes = self.nodes.iter().map(|node| TierView {
            name: node.name.clone(),
            kind: None,
            cpus: node.cpus,
            capacity: node.capacity,
            profile: node.profile.clone(),
            devices: Vec::new(),
            hosts: vec![node.host.clone()],
            exposure: Exposure::Node,
            persistence: Persistence::Volatile,
            coherence: None,
            figures: self.profile_figures(&node.profile),
        });
        let together = |name: &String| {
            self.interleave_sets.iter().any(|set| set.devices.contains(name))
                || self.pools.iter().any(|pool| pool.device == *name)
        };
        let alone = self.hosts.iter().flat_map(|host| {
            let own = self.devices.iter().filter(|device| !together(&device.name));
            own.filter(|device| self.hosts_above(&device.name).first() == Some(&host.name.as_str()))
        });
        let alone = alone.map(|device| {
            let hosts = self.hosts_above(&device.name).into_iter().map(str::to_owned).collect();
            self.over(&device.name, std::slice::from_ref(&device.name), hosts, None)
        });
        let sets = self.interleave_sets.iter().map(|set| {
            let hosts = set.devices.first().map(|device| self.hosts_above(device)).unwrap_or_default();
            let hosts = hosts.into_iter().map(str::to_owned).collect();
            TierView { exposure: set.exposure, ..self.over(&set.name, &set.devices, hosts, None) }
        });
        let pools = self.pools.iter().map(|pool| {
            self.over(&pool.name, std::slice::from_ref(&pool.device), pool.hosts.clone(), Some(pool.coherence))
        });
        nodes.chain(alone).chain(sets).chain(pools).collect()
    }

    fn over(&self, name: &str, devices: &[String], hosts: Vec<String>, coherence: Option<Coherence>) -> TierView {
        let behind: Vec<_> = devices.iter().filter_map(|name| self.devices.iter().find(|d| d.name == *name)).collect();
        let first = behind.first();
        TierView {
            name: name.to_owned(),
            kind: first.map(|device| device.kind),
            cpus: 0,
            capacity: Bytes(behind.iter().map(|device| device.capacity.0).sum()),
            profile: first.map(|device| device.profile.clone()).unwrap_or_default(),
            devices: devices.to_vec(),
            exposure: first.map(|device| device.exposure).unwrap_or_default(),
            persistence: first.map(|device| device.persistence).unwrap_or_default(),
            coherence,
            figures: self.figures(hosts.first().map_or("", String::as_str), devices),
            hosts,
        }
    }

    /// Latencies are those of the mean over the devices; a link that several of them need gives its bandwidth once.
    fn figures(&self, host: &str, devices: &[String]) -> TierFigures {
        let ways: Vec<_> = devices.iter().map(|device| self.way(host, device).unwrap_or_default()).collect();
        let mut all = TierFigures { read_bandwidth: 0.0, write_bandwidth: 0.0, ..TierFigures::NONE };
        let share = 1.0 / devices.len().max(1) as f64;
        for (device, way) in devices.iter().zip(&ways) {
            let profile = self.devices.iter().find(|d| d.name == *device).map_or("", |d| d.profile.as_str());
            let mut one = self.profile_figures(profile);
            for link in way {
                let users = ways.iter().filter(|other| other.contains(link)).count().max(1) as f64;
                let switch = self.switches.iter().find(|switch| switch.name == link.to);
                let passed = link.profile.iter().chain(switch.map(|switch| &switch.profile));
                for profile in passed.filter_map(|profile| self.link_figures(profile)) {
                    let mut part = profile.clone();
                    part.down_bandwidth.value /= users;
                    part.up_bandwidth.value /= users;
                    one = one.behind(&part);
                }
            }
            all.read_latency_ns += one.read_latency_ns * share;
            all.write_latency_ns += one.write_latency_ns * share;
            all.read_bandwidth += one.read_bandwidth;
            all.write_bandwidth += one.write_bandwidth;
            all.status = worse(all.status, one.status);
        }
        all
    }

    fn link_figures(&self, name: &str) -> Option<&LinkFigures> {
        self.profiles.iter().find(|profile| profile.name == name).and_then(|profile| match &profile.figures {
            ProfileFigures::Link(link) => Some(link),
            _ => None,
        })
    }

    fn profile_figures(&self, name: &str) -> TierFigures {
        let Some(profile) = self.profiles.iter().find(|profile| profile.name == name) else { return TierFigures::NONE };
        let (read_latency, write_latency, read, write) = match &profile.figures {
            ProfileFigures::Memory(memory) => {
                (&memory.read_latency_ns, &memory.write_latency_ns, &memory.read_bandwidth, &memory.write_bandwidth)
            }
            ProfileFigures::Nvme(nvme) => {
                (&nvme.read_latency_ns, &nvme.write_latency_ns, &nvme.read_bandwidth, &nvme.write_bandwidth)
            }
            ProfileFigures::Gpu(gpu) => {
                (&gpu.copy_latency_ns, &gpu.copy_latency_ns, &gpu.from_device_bandwidth, &gpu.to_device_bandwidth)
            }
            ProfileFigures::Link(_) => return TierFigures::NONE,
        };
        TierFigures {
            read_latency_ns: read_latency.value,
            write_latency_ns: write_latency.value,
            read_bandwidth: read.value,
            write_bandwidth: write.value,
            status: [write_latency.status, read.status, write.status].into_iter().fold(read_latency.status, worse),
        }
    }
}
