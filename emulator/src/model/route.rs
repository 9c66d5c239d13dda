//! The way from a host to a device.

use std::collections::HashMap;

use tiermem_topology::{Link, LinkFigures, ProfileFigures, Topology};

use super::lane::Lane;
use super::{Direction, ModelError};
use crate::time::Time;

/// Slot of the lanes of links, picoseconds.
const SLOT: u64 = 1 << 19;

/// A connection, with what limits it in each direction.
#[derive(Clone, Debug, Default)]
pub(super) struct Edge {
    down: Option<Lane>,
    up: Option<Lane>,
    /// What crossing it costs, there and back together, picoseconds; the switches at its ends not included.
    latency: u64,
}

impl Edge {
    /// Whether it limits what passes in either direction.
    pub(super) const fn limits(&self) -> bool {
        self.down.is_some() || self.up.is_some()
    }

    /// How long `len` bytes wait for their turn; picoseconds.
    #[inline]
    pub(super) fn pass(&mut self, at: u64, direction: Direction, len: u32) -> u64 {
        self.lane(direction).map_or(0, |lane| {
            let work = lane.work(u64::from(len));
            lane.admit(at, work)
        })
    }

    /// Picoseconds that `bytes` take to cross it, if it limits them.
    pub(super) fn transfer(&mut self, direction: Direction, bytes: u64) -> u64 {
        self.lane(direction).map_or(0, |lane| lane.work(bytes).time())
    }

    /// What it lets pass, bytes a second; infinite where it limits nothing.
    pub(super) fn bandwidth(&self, direction: Direction) -> f64 {
        let lane = match direction {
            Direction::Read => &self.up,
            Direction::Write => &self.down,
        };
        lane.as_ref().map_or(f64::INFINITY, Lane::bandwidth)
    }

    fn lane(&mut self, direction: Direction) -> Option<&mut Lane> {
        match direction {
            Direction::Read => self.up.as_mut(),
            Direction::Write => self.down.as_mut(),
        }
    }
}

/// All connections, in the order of the topology's links.
#[derive(Clone, Debug)]
pub(super) struct Network<'t> {
    topology: &'t Topology,
    switches: HashMap<&'t str, &'t LinkFigures>,
    pub(super) edges: Vec<Edge>,
}

impl<'t> Network<'t> {
    pub(super) fn new(topology: &'t Topology) -> Result<Self, ModelError> {
        let mut switches = HashMap::new();
        for switch in &topology.switches {
            switches.insert(switch.name.as_str(), link_figures(topology, &switch.name, &switch.profile)?);
        }
        let mut edges = Vec::new();
        for link in &topology.links {
            edges.push(edge(topology, link, &switches)?);
        }
        Ok(Self { topology, switches, edges })
    }

    /// The connections from `host` to `device` in order, and what the way adds to the latency; `None` if there is none.
    /// Where there are several ways, the one with the fewest hops.
    pub(super) fn way(&self, host: &str, device: &str) -> Option<(Vec<usize>, u64)> {
        let bridges = self.topology.bridges.iter().filter(|bridge| bridge.host == host);
        let starts = std::iter::once(host).chain(bridges.map(|bridge| bridge.name.as_str()));
        let mut ways: Vec<(&str, Vec<usize>)> = starts.map(|start| (start, Vec::new())).collect();
        // Without cycles no way is longer than there are links.
        for _ in 0..=self.topology.links.len() {
            if let Some((_, way)) = ways.iter().find(|(end, _)| *end == device) {
                let switches = way.iter().filter_map(|&link| self.switches.get(self.topology.links[link].to.as_str()));
                let hops: u64 = switches.map(|switch| Time::from_ns(switch.latency_ns.value).0).sum();
                let latency = hops + way.iter().map(|&link| self.edges[link].latency).sum::<u64>();
                return Some((way.clone(), latency));
            }
            let longer = ways.iter().flat_map(|(end, way)| {
                let next = self.topology.links.iter().enumerate().filter(move |(_, link)| link.from == **end);
                next.map(|(index, link)| (link.to.as_str(), way.iter().copied().chain([index]).collect()))
            });
            ways = longer.collect();
        }
        None
    }
}

fn edge(topology: &Topology, link: &Link, switches: &HashMap<&str, &LinkFigures>) -> Result<Edge, ModelError> {
    let user = format!("the link from {} to {}", link.from, link.to);
    let own = link.profile.as_ref().map(|profile| link_figures(topology, &user, profile)).transpose()?;
    let ends = [&link.from, &link.to].map(|end| switches.get(end.as_str()).copied());
    let limits = || own.into_iter().chain(ends.into_iter().flatten());
    let slowest = |bandwidth: fn(&LinkFigures) -> f64| limits().map(bandwidth).reduce(f64::min);
    let lane = |bandwidth: Option<f64>| bandwidth.map(|bandwidth| Lane::new(bandwidth, SLOT));
    Ok(Edge {
        down: lane(slowest(|figures| figures.down_bandwidth.value)),
        up: lane(slowest(|figures| figures.up_bandwidth.value)),
        latency: own.map_or(0, |figures| Time::from_ns(figures.latency_ns.value).0),
    })
}

fn link_figures<'t>(topology: &'t Topology, user: &str, profile: &str) -> Result<&'t LinkFigures, ModelError> {
    match figures(topology, user, profile)? {
        ProfileFigures::Link(figures) => Ok(figures),
        _ => Err(ModelError::WrongKind { user: user.to_owned(), profile: profile.to_owned(), needed: "link" }),
    }
}

/// The figures of a profile that `user` names.
pub(super) fn figures<'t>(topology: &'t Topology, user: &str, profile: &str) -> Result<&'t ProfileFigures, ModelError> {
    let found = topology.profiles.iter().find(|candidate| candidate.name == profile);
    let missing = || ModelError::NoProfile { user: user.to_owned(), profile: profile.to_owned() };
    found.map(|profile| &profile.figures).ok_or_else(missing)
}
