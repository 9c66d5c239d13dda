//! The connections of a topology: who reaches what, and over which links.

use std::collections::BTreeMap;

use super::{Link, Topology};

/// The links, to be followed from devices up to hosts.
pub(super) struct Graph<'t> {
    topology: &'t Topology,
    /// The links into each switch and device, by its name.
    above: BTreeMap<&'t str, Vec<&'t Link>>,
}

impl<'t> Graph<'t> {
    pub(super) fn of(topology: &'t Topology) -> Self {
        let mut above: BTreeMap<&str, Vec<&Link>> = BTreeMap::new();
        for link in &topology.links {
            above.entry(&link.to).or_default().push(link);
        }
        Self { topology, above }
    }

    fn links_to(&self, name: &str) -> &[&'t Link] {
        self.above.get(name).map_or(&[], Vec::as_slice)
    }

    /// What is linked to `name` from above.
    pub(super) fn parents(&self, name: &str) -> Vec<String> {
        self.links_to(name).iter().map(|link| link.from.clone()).collect()
    }

    /// The host that `name` is or, as a bridge, belongs to.
    fn host(&self, name: &str) -> Option<&'t str> {
        let host = self.topology.hosts.iter().find(|host| host.name == name).map(|host| host.name.as_str());
        host.or_else(|| self.topology.bridges.iter().find(|b| b.name == name).map(|bridge| bridge.host.as_str()))
    }

    /// The first link that closes a circle with those before it: its number, and the names along the circle.
    pub(super) fn circle(&self) -> Option<(usize, Vec<String>)> {
        let mut below: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (number, link) in self.topology.links.iter().enumerate() {
            if let Some(way) = down(&below, &link.to, &link.from) {
                let names = way.into_iter().chain([link.to.as_str()]).map(str::to_owned);
                return Some((number, names.collect()));
            }
            below.entry(&link.from).or_default().push(&link.to);
        }
        None
    }

    /// The hosts that reach `name`, each with the number of ways. The links have no circle.
    pub(super) fn hosts_above(&self, name: &str) -> Vec<(String, u64)> {
        let counts = self.count_ways(name, &mut BTreeMap::new());
        let in_order =
            self.topology.hosts.iter().filter_map(|host| Some((host.name.clone(), *counts.get(host.name.as_str())?)));
        in_order.collect()
    }

    fn count_ways(&self, name: &str, known: &mut BTreeMap<String, BTreeMap<&'t str, u64>>) -> BTreeMap<&'t str, u64> {
        if let Some(host) = self.host(name) {
            return [(host, 1)].into();
        }
        if let Some(counts) = known.get(name) {
            return counts.clone();
        }
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for link in self.links_to(name) {
            for (host, ways) in self.count_ways(&link.from, known) {
                let count = counts.entry(host).or_default();
                *count = count.saturating_add(ways);
            }
        }
        known.insert(name.to_owned(), counts.clone());
        counts
    }

    /// The links from `host` to `name`, from the host's side, where there is a way.
    pub(super) fn way(&self, host: &str, name: &str) -> Option<Vec<&'t Link>> {
        if self.host(name) == Some(host) {
            return Some(Vec::new());
        }
        self.links_to(name).iter().find_map(|link| {
            let mut way = self.way(host, &link.from)?;
            way.push(link);
            Some(way)
        })
    }
}

/// A way from `start` to `end`, both included, along what is `below` what.
fn down<'t>(below: &BTreeMap<&'t str, Vec<&'t str>>, start: &'t str, end: &str) -> Option<Vec<&'t str>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut to_visit = vec![start];
    while let Some(at) = to_visit.pop() {
        if at == end {
            let mut way = vec![at];
            while let Some(&before) = way.last().and_then(|last| came_from.get(last)) {
                way.push(before);
            }
            way.reverse();
            return Some(way);
        }
        for &next in below.get(at).into_iter().flatten() {
            if next != start && !came_from.contains_key(next) {
                came_from.insert(next, at);
                to_visit.push(next);
            }
        }
    }
    None
}
