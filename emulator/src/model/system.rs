//! All hosts, links and tiers of a topology at work.

use tiermem_tiers::Bytes;
use tiermem_topology::{Device, DeviceKind, Profile, ProfileFigures, Topology};

use super::gpu::Gpu;
use super::interleave::Interleave;
use super::memory::Memory;
use super::nvme::Nvme;
use super::route::{Edge, Network, figures};
use super::{Direction, HostIndex, ModelError, Request, Serve, TierIndex};
use crate::cache::LINE;
use crate::time::Time;

/// What a tier of a [`System`] is.
#[derive(Clone, Debug, PartialEq)]
pub struct TierInfo {
    /// Its name, which is that of the node, device, interleave set or pool.
    pub name: String,
    /// How much it holds.
    pub capacity: Bytes,
    /// What is behind it; `None` for a host's own memory.
    pub kind: Option<DeviceKind>,
    /// The names of the devices behind it, in the order of interleaving; of a node, its own name.
    pub devices: Vec<String>,
}

/// What lies between a host and the devices of a tier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Way {
    /// What links and switches add to the latency, there and back.
    pub latency: Time,
    /// What they let pass towards the host, bytes a second; infinite where nothing limits it.
    pub read_bandwidth: f64,
    /// What they let pass towards the devices.
    pub write_bandwidth: f64,
}

/// A model of a whole topology. Tiers are numbered in this order: nodes; then, host by host, the devices that it
/// reaches and that are in no set and no pool; interleave sets; pools. Within each, the order of the file.
#[derive(Clone, Debug)]
pub struct System {
    hosts: Vec<String>,
    tiers: Vec<TierInfo>,
    /// How each host reaches each tier, host by host; `None` if it does not.
    routes: Vec<Option<Route>>,
    /// By route: where nothing limits the way to memory on one device, that is all there is to it.
    near: Vec<Option<Near>>,
    edges: Vec<Edge>,
    devices: Vec<Model>,
}

/// How a host reaches a tier.
#[derive(Clone, Debug)]
struct Route {
    interleave: Interleave,
    /// One for each device of the tier.
    legs: Vec<Leg>,
}

/// A device that is memory and that nothing but itself limits.
#[derive(Clone, Copy, Debug)]
struct Near {
    device: u32,
    /// What the way adds to the latency, picoseconds.
    latency: u64,
}

/// How a host reaches one device.
#[derive(Clone, Debug)]
struct Leg {
    device: usize,
    /// Those that limit what passes.
    edges: Vec<usize>,
    /// What the whole way adds to the latency, picoseconds.
    latency: u64,
}

#[derive(Clone, Debug)]
enum Model {
    Memory(Box<Memory>),
    Nvme(Box<Nvme>),
    Gpu(Box<Gpu>),
}

impl System {
    /// A model of `topology`, idle and at time zero.
    ///
    /// # Errors
    /// Where references do not fit; a topology that was parsed has none of these.
    pub fn new(topology: &Topology) -> Result<Self, ModelError> {
        let topology = &with_shipped_profiles(topology);
        let network = Network::new(topology)?;
        let mut builder =
            Builder { topology, network: &network, tiers: Vec::new(), routes: Vec::new(), devices: Vec::new() };
        builder.nodes()?;
        builder.single_devices()?;
        builder.sets()?;
        builder.pools()?;
        let (hosts, tiers) = (topology.hosts.len(), builder.tiers.len());
        if hosts > usize::from(u16::MAX) || tiers > usize::from(u16::MAX) {
            return Err(ModelError::TooLarge);
        }
        // Gathered tier by tier, wanted host by host.
        let routes: Vec<Option<Route>> =
            (0..hosts * tiers).map(|at| builder.routes[at % tiers][at / tiers].clone()).collect();
        let Builder { tiers, devices, .. } = builder;
        let near = routes.iter().map(|route| route.as_ref()?.near(&devices)).collect();
        let hosts = topology.hosts.iter().map(|host| host.name.clone()).collect();
        Ok(Self { hosts, tiers, routes, near, edges: network.edges, devices })
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> Option<HostIndex> {
        self.hosts.iter().position(|host| host == name).and_then(|index| u16::try_from(index).ok()).map(HostIndex)
    }

    /// The tier of that name.
    pub fn tier(&self, name: &str) -> Option<TierIndex> {
        self.tiers.iter().position(|tier| tier.name == name).and_then(|index| u16::try_from(index).ok()).map(TierIndex)
    }

    /// The names of the hosts, in the order of their numbers.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The tiers, in the order of their numbers.
    pub fn tiers(&self) -> &[TierInfo] {
        &self.tiers
    }

    /// Whether `host` has a way to `tier`.
    pub fn reaches(&self, host: HostIndex, tier: TierIndex) -> bool {
        self.routes.get(self.route_index(host, tier)).is_some_and(Option::is_some)
    }

    /// What lies between `host` and the devices of `tier`; `None` if there is no way.
    pub fn way(&self, host: HostIndex, tier: TierIndex) -> Option<Way> {
        let route = self.routes.get(self.route_index(host, tier))?.as_ref()?;
        let limit = |direction| {
            let crossings = route.legs.iter().flat_map(|leg| &leg.edges);
            let limits = crossings.map(|edge| {
                let users = route.legs.iter().filter(|leg| leg.edges.contains(edge)).count();
                // Of a set, only a share of the traffic crosses this edge.
                self.edges[*edge].bandwidth(direction) * share(route.legs.len(), users)
            });
            limits.fold(f64::INFINITY, f64::min)
        };
        let latency = Time(route.legs.iter().map(|leg| leg.latency).max().unwrap_or(0));
        Some(Way { latency, read_bandwidth: limit(Direction::Read), write_bandwidth: limit(Direction::Write) })
    }

    /// From now on the devices of `tier` take `factor` times as long as their profiles say, in latency and in bandwidth,
    /// for everybody; links and switches stay as they are. 1 makes them sound again.
    ///
    /// # Panics
    /// If there is no such tier, or `factor` is below 1 or not a number.
    pub fn slow(&mut self, tier: TierIndex, factor: f64) {
        assert!(factor >= 1.0 && factor.is_finite(), "{factor} makes nothing slower");
        assert!(usize::from(tier.0) < self.tiers.len(), "tier {} of {}", tier.0, self.tiers.len());
        let routes = self.routes.iter().skip(usize::from(tier.0)).step_by(self.tiers.len());
        // Each host that reaches the tier reaches the same devices.
        let Some(route) = routes.flatten().next() else { return };
        for leg in &route.legs {
            match &mut self.devices[leg.device] {
                Model::Memory(memory) => memory.slow(factor),
                Model::Nvme(nvme) => nvme.slow(factor),
                Model::Gpu(gpu) => gpu.slow(factor),
            }
        }
    }

    #[inline]
    fn route_index(&self, host: HostIndex, tier: TierIndex) -> usize {
        assert!(usize::from(tier.0) < self.tiers.len(), "tier {} of {}", tier.0, self.tiers.len());
        usize::from(host.0) * self.tiers.len() + usize::from(tier.0)
    }

    /// Any request, over however many legs it takes.
    #[inline(never)]
    fn serve_any(&mut self, at: Time, request: Request) -> Time {
        let index = self.route_index(request.host, request.tier);
        let Some(Some(route)) = self.routes.get(index) else {
            panic!("host {} has no way to tier {}", request.host.0, request.tier.0);
        };
        let Request { direction, offset, len, .. } = request;
        let (edges, devices) = (&mut self.edges[..], &mut self.devices[..]);
        if let [leg] = route.legs.as_slice() {
            return Time(Self::send(edges, devices, leg, at.0, direction, len));
        }
        let mut send = |leg: &Leg, len: u32| Self::send(edges, devices, leg, at.0, direction, len);
        let (first, _) = route.interleave.place(offset);
        if len <= 1 || route.interleave.share(offset, u64::from(len), first) == u64::from(len) {
            return Time(send(&route.legs[first], len));
        }
        let shares = route.legs.iter().enumerate().map(|(way, leg)| {
            // No more than `len`, which is 32 bits.
            (leg, u32::try_from(route.interleave.share(offset, u64::from(len), way)).unwrap_or(u32::MAX))
        });
        Time(shares.filter(|&(_, share)| share > 0).map(|(leg, share)| send(leg, share)).max().unwrap_or(at.0))
    }

    /// Sends `len` bytes over one leg; picoseconds.
    fn send(edges: &mut [Edge], devices: &mut [Model], leg: &Leg, at: u64, direction: Direction, len: u32) -> u64 {
        let mut arrives = at;
        let mut transfer = 0;
        for &edge in &leg.edges {
            arrives += edges[edge].pass(arrives, direction, len);
            if u64::from(len) > LINE {
                transfer = transfer.max(edges[edge].transfer(direction, u64::from(len) - LINE));
            }
        }
        arrives += leg.latency;
        match &mut devices[leg.device] {
            Model::Memory(memory) => {
                let answered = memory.serve(arrives, direction, len);
                if u64::from(len) <= LINE { answered } else { answered + transfer.max(memory.transfer(direction, len)) }
            }
            Model::Nvme(nvme) => nvme.serve(arrives, direction, len),
            Model::Gpu(gpu) => gpu.serve(arrives, direction, len),
        }
    }
}

impl Route {
    fn near(&self, devices: &[Model]) -> Option<Near> {
        let [Leg { device, edges, latency }] = self.legs.as_slice() else { return None };
        let is_near = edges.is_empty() && matches!(devices[*device], Model::Memory(_));
        is_near.then_some(Near { device: u32::try_from(*device).ok()?, latency: *latency })
    }
}

impl Serve for System {
    /// # Panics
    /// If the request's host has no way to its tier; [`System::reaches`] tells.
    #[inline(always)]
    fn serve(&mut self, at: Time, request: Request) -> Time {
        // Nearly all requests, in as few steps as possible.
        if u64::from(request.len) == LINE
            && let Some(Some(near)) = self.near.get(self.route_index(request.host, request.tier))
            && let Some(Model::Memory(memory)) = self.devices.get_mut(near.device as usize)
            && let Some(answered) = memory.serve_at_once(at.0 + near.latency, request.direction)
        {
            return Time(answered);
        }
        self.serve_any(at, request)
    }
}

/// `all / users`, both small.
#[expect(clippy::cast_precision_loss, reason = "numbers of devices")]
fn share(all: usize, users: usize) -> f64 {
    all as f64 / users.max(1) as f64
}

/// The same topology with those of the profiles that it names and does not bring along that are shipped.
fn with_shipped_profiles(topology: &Topology) -> Topology {
    let mut complete = topology.clone();
    let nodes = topology.nodes.iter().map(|node| &node.profile);
    let devices = topology.devices.iter().map(|device| &device.profile);
    let switches = topology.switches.iter().map(|switch| &switch.profile);
    let links = topology.links.iter().filter_map(|link| link.profile.as_ref());
    for name in nodes.chain(devices).chain(switches).chain(links) {
        if complete.profiles.iter().all(|profile| profile.name != *name) {
            complete.profiles.extend(Profile::builtin(name));
        }
    }
    complete
}

/// Puts a system together.
struct Builder<'t> {
    topology: &'t Topology,
    network: &'t Network<'t>,
    tiers: Vec<TierInfo>,
    /// By tier, then by host.
    routes: Vec<Vec<Option<Route>>>,
    devices: Vec<Model>,
}

impl<'t> Builder<'t> {
    fn nodes(&mut self) -> Result<(), ModelError> {
        for node in &self.topology.nodes {
            let model = self.model(&node.name, &node.profile, None)?;
            let route = |host: &str| {
                let leg = Leg { device: model, edges: Vec::new(), latency: 0 };
                (host == node.host).then(|| Route { interleave: Interleave::new(1, 4096), legs: vec![leg] })
            };
            self.routes.push(self.topology.hosts.iter().map(|host| route(&host.name)).collect());
            let (name, devices) = (node.name.clone(), vec![node.name.clone()]);
            self.tiers.push(TierInfo { name, capacity: node.capacity, kind: None, devices });
        }
        Ok(())
    }

    fn single_devices(&mut self) -> Result<(), ModelError> {
        let topology = self.topology;
        for host in &topology.hosts {
            for device in &topology.devices {
                let in_set = topology.interleave_sets.iter().any(|set| set.devices.contains(&device.name));
                let in_pool = topology.pools.iter().any(|pool| pool.device == device.name);
                let known = self.tiers.iter().any(|tier| tier.name == device.name);
                if !in_set && !in_pool && !known && self.network.way(&host.name, &device.name).is_some() {
                    let everybody: Vec<&str> = topology.hosts.iter().map(|host| host.name.as_str()).collect();
                    self.tier(&device.name, &[device], 4096, &everybody)?;
                }
            }
        }
        Ok(())
    }

    fn sets(&mut self) -> Result<(), ModelError> {
        let topology = self.topology;
        let everybody: Vec<&str> = topology.hosts.iter().map(|host| host.name.as_str()).collect();
        for set in &topology.interleave_sets {
            let devices: Result<Vec<&Device>, ModelError> =
                set.devices.iter().map(|device| self.device(&set.name, device)).collect();
            self.tier(&set.name, &devices?, set.granularity, &everybody)?;
        }
        Ok(())
    }

    fn pools(&mut self) -> Result<(), ModelError> {
        let topology = self.topology;
        for pool in &topology.pools {
            let device = self.device(&pool.name, &pool.device)?;
            let hosts: Vec<&str> = pool.hosts.iter().map(String::as_str).collect();
            self.tier(&pool.name, &[device], 4096, &hosts)?;
        }
        Ok(())
    }

    fn device(&self, user: &str, name: &str) -> Result<&'t Device, ModelError> {
        let found = self.topology.devices.iter().find(|device| device.name == name);
        found.ok_or_else(|| ModelError::NoDevice { user: user.to_owned(), device: name.to_owned() })
    }

    /// Adds a tier over `devices` for those of `hosts` that have a way to all of them.
    fn tier(&mut self, name: &str, devices: &[&Device], granularity: u32, hosts: &[&str]) -> Result<(), ModelError> {
        let mut models = Vec::new();
        for device in devices {
            models.push(self.model(&device.name, &device.profile, Some(device.kind))?);
        }
        let interleave = Interleave::new(u32::try_from(devices.len()).unwrap_or(u32::MAX), granularity);
        let route = |host: &str| {
            let legs = devices.iter().zip(&models).map(|(device, &model)| {
                let (mut edges, latency) = self.network.way(host, &device.name)?;
                edges.retain(|&edge| self.network.edges[edge].limits());
                Some(Leg { device: model, edges, latency })
            });
            let legs: Option<Vec<Leg>> = if hosts.contains(&host) { legs.collect() } else { None };
            legs.map(|legs| Route { interleave, legs })
        };
        let routes = self.topology.hosts.iter().map(|host| route(&host.name)).collect();
        self.routes.push(routes);
        self.tiers.push(TierInfo {
            name: name.to_owned(),
            capacity: Bytes(devices.iter().map(|device| device.capacity.0).sum()),
            kind: devices.first().map(|device| device.kind),
            devices: devices.iter().map(|device| device.name.clone()).collect(),
        });
        Ok(())
    }

    /// Makes the model of a device, and gives its number.
    fn model(&mut self, user: &str, profile: &str, kind: Option<DeviceKind>) -> Result<usize, ModelError> {
        let needed = match kind {
            None | Some(DeviceKind::Cxl) => "memory",
            Some(DeviceKind::Nvme) => "nvme",
            Some(_) => "gpu",
        };
        let model = match (figures(self.topology, user, profile)?, needed) {
            (ProfileFigures::Memory(figures), "memory") => Model::Memory(Box::new(Memory::new(figures))),
            (ProfileFigures::Nvme(figures), "nvme") => Model::Nvme(Box::new(Nvme::new(figures))),
            (ProfileFigures::Gpu(figures), "gpu") => Model::Gpu(Box::new(Gpu::new(figures))),
            _ => {
                return Err(ModelError::WrongKind { user: user.to_owned(), profile: profile.to_owned(), needed });
            }
        };
        self.devices.push(model);
        Ok(self.devices.len() - 1)
    }
}
