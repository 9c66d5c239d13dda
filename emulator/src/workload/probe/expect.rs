//! What a probe must find, from the profiles alone.

use tiermem_topology::{GpuFigures, MemoryFigures, NvmeFigures, Profile, ProfileFigures, Topology};

use super::measure::{Bench, Copied, LoadedPoint, Probed};
use crate::model::{Direction, HostIndex, ModelError, System, TierIndex, Way};

/// What a tier must look like from a host, by the profiles of its devices and of the links between.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    figures: ProfileFigures,
    way: Way,
    /// Devices that the tier is interleaved over.
    devices: f64,
}

/// A figure, as it must be and as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Which figure.
    pub figure: String,
    /// By the profile.
    pub expected: f64,
    /// By the probe.
    pub found: f64,
}

impl Check {
    fn new(figure: impl Into<String>, expected: f64, found: f64) -> Self {
        Self { figure: figure.into(), expected, found }
    }

    /// How far the probe is off, as a part of what is expected; positive where it found too much.
    pub fn error(&self) -> f64 {
        self.found / self.expected - 1.0
    }
}

/// What `tier` must look like from `host`.
///
/// # Errors
/// Where the topology names a profile that there is not.
///
/// # Panics
/// If `host` has no way to `tier`.
pub fn expected(
    topology: &Topology,
    system: &System,
    host: HostIndex,
    tier: TierIndex,
) -> Result<Expected, ModelError> {
    let info = &system.tiers()[usize::from(tier.0)];
    let device = info.devices.first().map_or("", String::as_str);
    let node = topology.nodes.iter().find(|node| node.name == device).map(|node| &node.profile);
    let named = node.or_else(|| topology.devices.iter().find(|d| d.name == device).map(|device| &device.profile));
    let missing = || ModelError::NoDevice { user: info.name.clone(), device: device.to_owned() };
    let name = named.ok_or_else(missing)?;
    let own = topology.profiles.iter().find(|profile| profile.name == *name).cloned();
    let missing = || ModelError::NoProfile { user: device.to_owned(), profile: name.clone() };
    let profile = own.or_else(|| Profile::builtin(name)).ok_or_else(missing)?;
    let Some(way) = system.way(host, tier) else { panic!("host {} has no way to {}", host.0, info.name) };
    #[expect(clippy::cast_precision_loss, reason = "at most 16")]
    let devices = info.devices.len() as f64;
    Ok(Expected { figures: profile.figures, way, devices })
}

impl Expected {
    /// The figures of the tier's memory, where theory needs nothing else: one device, nothing between.
    pub fn alone(&self) -> Option<&MemoryFigures> {
        match &self.figures {
            ProfileFigures::Memory(figures) if self.devices == 1.0 && self.way.latency.0 == 0 => Some(figures),
            _ => None,
        }
    }

    /// What must be found at `utilisation` of the devices' read bandwidth.
    fn point(&self, figures: &MemoryFigures, utilisation: f64) -> LoadedPoint {
        LoadedPoint {
            bandwidth: utilisation * figures.read_bandwidth.value * self.devices,
            latency_ns: self.latency(figures, utilisation),
        }
    }

    fn latency(&self, figures: &MemoryFigures, utilisation: f64) -> f64 {
        figures.read_latency_ns.value * figures.latency_factor(utilisation) + self.way.latency.as_ns()
    }

    /// Compares each figure that the profile has with what a probe of `system` finds.
    pub fn compare(&self, system: &System, host: HostIndex, tier: TierIndex) -> Vec<Check> {
        let bench = Bench { system, host, tier };
        match &self.figures {
            ProfileFigures::Memory(figures) => self.memory(figures, &bench),
            ProfileFigures::Nvme(figures) => self.drive(figures, &super::probe(system, host, tier)),
            ProfileFigures::Gpu(figures) => self.gpu(figures, &super::probe(system, host, tier)),
            _ => Vec::new(),
        }
    }

    fn memory(&self, figures: &MemoryFigures, bench: &Bench<'_>) -> Vec<Check> {
        let way = self.way.latency.as_ns();
        // A single chase is a load, too, if a small one.
        let alone = |idle: f64, bandwidth: f64| {
            let mut latency = idle + way;
            for _ in 0..50 {
                latency = idle * figures.latency_factor(64e9 / latency / (bandwidth * self.devices)) + way;
            }
            latency
        };
        let read = alone(figures.read_latency_ns.value, figures.bandwidth(1.0));
        let write = alone(figures.write_latency_ns.value, figures.bandwidth(0.0));
        let [idle, idle_write] = [Direction::Read, Direction::Write].map(|direction| bench.idle(direction, 64));
        let mut checks = vec![
            Check::new("idle read latency, ns", read, idle),
            Check::new("idle write latency, ns", write, idle_write),
        ];
        let shares = figures.mixed_bandwidth.iter().flat_map(|mixes| &mixes.value).map(|mix| mix.read_share);
        for share in [1.0, 0.0].into_iter().chain(shares) {
            // In hundredths, as accesses are mixed.
            let share = (share * 100.0).round() / 100.0;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
            let (_, found) = bench.most((share * 100.0) as u64, idle);
            let links = (self.way.read_bandwidth / share).min(self.way.write_bandwidth / (1.0 - share));
            let expected = (figures.bandwidth(share) * self.devices).min(links);
            checks.push(Check::new(format!("bandwidth of {:.0} % reads, B/s", share * 100.0), expected, found));
        }
        checks.extend(self.curve(figures, bench, idle));
        checks
    }

    /// Every point of the curve that the way lets through, each at the load that was reached.
    fn curve(&self, figures: &MemoryFigures, bench: &Bench<'_>, idle: f64) -> Vec<Check> {
        let limit = self.way.read_bandwidth * 0.97;
        let mut checks = Vec::new();
        for utilisation in figures.loaded.value.iter().skip(1).map(|point| point.utilisation) {
            let point = self.point(figures, utilisation);
            if point.bandwidth >= limit {
                continue;
            }
            let what = |found: LoadedPoint| format!("latency at {:.1} GB/s, ns", found.bandwidth / 1e9);
            if utilisation < 1.0 {
                let found = bench.paced(point.bandwidth, idle);
                let reached = found.bandwidth / (figures.read_bandwidth.value * self.devices);
                checks.push(Check::new(what(found), self.latency(figures, reached), found.latency_ns));
            } else {
                // Full load is as many lines in flight as bandwidth times latency makes (Little's law).
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand")]
                let found = bench.in_flight((point.bandwidth * point.latency_ns / 64e9).round() as u64, idle);
                checks.push(Check::new("bandwidth under full load, B/s", point.bandwidth, found.bandwidth));
                checks.push(Check::new(what(found), point.latency_ns, found.latency_ns));
            }
        }
        checks
    }

    fn drive(&self, figures: &NvmeFigures, found: &Probed) -> Vec<Check> {
        let way = self.way.latency.as_ns();
        let Copied { read_iops, write_iops } = found.copied.unwrap_or(Copied { read_iops: 0.0, write_iops: 0.0 });
        // Small commands are bounded by their number or by their bytes.
        let commands = |iops: f64, bandwidth: f64, links: f64| iops.min(bandwidth.min(links) / 4096.0);
        let (reads, writes) = (self.way.read_bandwidth, self.way.write_bandwidth);
        let read = figures.read_bandwidth.value;
        let write = figures.write_bandwidth.value;
        vec![
            Check::new("4 KiB read latency, ns", figures.read_latency_ns.value + way, found.read_latency_ns),
            Check::new("4 KiB write latency, ns", figures.write_latency_ns.value + way, found.write_latency_ns),
            Check::new("read bandwidth, B/s", read.min(reads), found.read_bandwidth),
            Check::new("write bandwidth, B/s", write.min(writes), found.write_bandwidth),
            Check::new("4 KiB reads a second", commands(figures.read_iops.value, read, reads), read_iops),
            Check::new("4 KiB writes a second", commands(figures.write_iops.value, write, writes), write_iops),
        ]
    }

    fn gpu(&self, figures: &GpuFigures, found: &Probed) -> Vec<Check> {
        let way = self.way.latency.as_ns();
        let (to, from) = (figures.to_device_bandwidth.value, figures.from_device_bandwidth.value);
        let latency = |bandwidth: f64| figures.copy_latency_ns.value + way + (4096.0 - 64.0) / bandwidth * 1e9;
        vec![
            Check::new("4 KiB read latency, ns", latency(from), found.read_latency_ns),
            Check::new("4 KiB write latency, ns", latency(to), found.write_latency_ns),
            Check::new("read bandwidth, B/s", from.min(self.way.read_bandwidth), found.read_bandwidth),
            Check::new("write bandwidth, B/s", to.min(self.way.write_bandwidth), found.write_bandwidth),
        ]
    }
}
