//! Where everything stands.

use std::collections::BTreeMap;

use super::super::{Coherence, Link, Topology};

pub(super) const BOX_WIDTH: f64 = 206.0;
pub(super) const BOX_HEIGHT: f64 = 88.0;
/// Between boxes beside each other.
const GAP: f64 = 26.0;
/// Between rows: room for a link that goes straight down beside three lines of text, and then turns.
const ROW_GAP: f64 = 112.0;
/// Between a frame and what it holds.
const INSET: f64 = 14.0;
/// Above or below the boxes in a frame, for its title.
const TITLE: f64 = 26.0;
/// Around everything, and the heading.
const MARGIN: f64 = 28.0;
const HEADING: f64 = 76.0;
/// A line of the table below.
pub(super) const LEGEND_LINE: f64 = 22.0;

/// A rectangle.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spot {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Spot {
    pub(super) fn top(&self) -> (f64, f64) {
        (self.x + self.width / 2.0, self.y)
    }

    pub(super) fn bottom(&self) -> (f64, f64) {
        (self.x + self.width / 2.0, self.y + self.height)
    }

    /// A frame with its title below, where no link arrives.
    fn around(spots: &[Self]) -> Self {
        let least = |get: fn(&Self) -> f64| spots.iter().map(get).fold(f64::INFINITY, f64::min);
        let most = |get: fn(&Self) -> f64| spots.iter().map(get).fold(f64::NEG_INFINITY, f64::max);
        let (x, y) = (least(|s| s.x) - INSET, least(|s| s.y) - INSET);
        let (right, bottom) = (most(|s| s.x + s.width) + INSET, most(|s| s.y + s.height) + TITLE);
        Self { x, y, width: right - x, height: bottom - y }
    }
}

/// Devices that are used as one, with a frame around them.
pub(super) struct Group {
    pub(super) spot: Spot,
    pub(super) title: String,
}

pub(super) struct Plan<'t> {
    spots: BTreeMap<&'t str, Spot>,
    pub(super) hosts: Vec<(&'t str, Spot)>,
    pub(super) links: Vec<(&'t Link, Spot, Spot)>,
    pub(super) groups: Vec<Group>,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) legend_top: f64,
}

impl<'t> Plan<'t> {
    /// Hosts in the top row, side by side, each with its nodes and below them its bridges; switches by their distance
    /// from the hosts; devices in the last row.
    pub(super) fn of(topology: &'t Topology) -> Self {
        let mut plan = Self {
            spots: BTreeMap::new(),
            hosts: Vec::new(),
            links: Vec::new(),
            groups: Vec::new(),
            width: 0.0,
            height: 0.0,
            legend_top: 0.0,
        };
        let mut bottom = plan.place_hosts(topology);
        let mut rows = switch_rows(topology);
        rows.push(ordered_devices(topology));
        let widest = rows.iter().map(|row| row_width(row.len())).fold(plan.width, f64::max);
        plan.shift_hosts((widest - plan.width) / 2.0);
        plan.width = widest;
        for row in rows.iter().filter(|row| !row.is_empty()) {
            bottom += ROW_GAP;
            plan.place_row(row, bottom, widest);
            bottom += BOX_HEIGHT;
        }
        plan.frame_groups(topology);
        plan.connect(topology);
        plan.legend_top = bottom + TITLE + 46.0;
        let tiers = topology.tiers().len() + 1;
        plan.height = plan.legend_top + LEGEND_LINE * tiers as f64 + MARGIN;
        plan.width = (widest + 2.0 * MARGIN).max(700.0);
        plan.centre((plan.width - widest) / 2.0);
        plan
    }

    /// Where `name` stands.
    pub(super) fn spot(&self, name: &str) -> Spot {
        self.spots.get(name).copied().unwrap_or_default()
    }

    fn place_hosts(&mut self, topology: &'t Topology) -> f64 {
        let mut x = 0.0;
        let mut bottom = HEADING;
        let any_bridge = !topology.bridges.is_empty();
        for host in &topology.hosts {
            let nodes: Vec<&str> =
                topology.nodes.iter().filter(|n| n.host == host.name).map(|n| n.name.as_str()).collect();
            let bridges: Vec<&str> =
                topology.bridges.iter().filter(|b| b.host == host.name).map(|b| b.name.as_str()).collect();
            let width = row_width(nodes.len().max(bridges.len()).max(1));
            let left = x + INSET;
            self.place_row_at(&nodes, left, HEADING + TITLE, width, BOX_HEIGHT);
            let mut height = TITLE + BOX_HEIGHT + INSET;
            if any_bridge {
                self.place_row_at(&bridges, left, HEADING + height, width, BOX_HEIGHT / 2.0);
                height += BOX_HEIGHT / 2.0 + INSET;
            }
            let spot = Spot { x, y: HEADING, width: width + 2.0 * INSET, height };
            self.hosts.push((&host.name, spot));
            self.spots.insert(&host.name, spot);
            x += spot.width + GAP;
            bottom = HEADING + height;
        }
        self.width = (x - GAP).max(0.0);
        bottom
    }

    fn place_row(&mut self, row: &[&'t str], y: f64, width: f64) {
        self.place_row_at(row, 0.0, y, width, BOX_HEIGHT);
    }

    fn place_row_at(&mut self, row: &[&'t str], left: f64, y: f64, width: f64, height: f64) {
        let mut x = left + (width - row_width(row.len())) / 2.0;
        for name in row {
            self.spots.insert(name, Spot { x, y, width: BOX_WIDTH, height });
            x += BOX_WIDTH + GAP;
        }
    }

    fn shift_hosts(&mut self, by: f64) {
        self.hosts.iter_mut().for_each(|(_, spot)| spot.x += by);
        self.spots.values_mut().for_each(|spot| spot.x += by);
    }

    fn centre(&mut self, by: f64) {
        self.shift_hosts(by);
        self.groups.iter_mut().for_each(|group| group.spot.x += by);
        for (_, from, to) in &mut self.links {
            from.x += by;
            to.x += by;
        }
    }

    fn frame_groups(&mut self, topology: &Topology) {
        for set in &topology.interleave_sets {
            let spots: Vec<Spot> = set.devices.iter().map(|name| self.spot(name)).collect();
            let title = format!("{}: interleaved every {} B, {}", set.name, set.granularity, set.exposure);
            self.groups.push(Group { spot: Spot::around(&spots), title });
        }
        for pool in &topology.pools {
            let coherence = match pool.coherence {
                Coherence::Hardware => "coherent",
                Coherence::Software => "software-coherent",
                Coherence::None => "NOT coherent",
            };
            let title = format!("{}: pool, {coherence}", pool.name);
            self.groups.push(Group { spot: Spot::around(&[self.spot(&pool.device)]), title });
        }
    }

    /// Links from one place leave it side by side, in the order in which they arrive.
    fn connect(&mut self, topology: &'t Topology) {
        for link in &topology.links {
            let arrival = |other: &Link| self.spot(&other.to).top().0;
            let mut beside: Vec<&Link> = topology.links.iter().filter(|other| other.from == link.from).collect();
            beside.sort_by(|a, b| arrival(a).total_cmp(&arrival(b)));
            let mut from = slot(self.spot(&link.from), &beside, link);
            if topology.bridges.iter().any(|bridge| bridge.host == link.from) {
                // Past the bridges, at the edge of the host, so that it does not seem to come from one of them.
                let host = self.spot(&link.from);
                let right = self.spot(&link.to).top().0 > host.top().0;
                from = Spot { x: host.x + if right { host.width - INSET } else { 0.0 }, width: INSET, ..host };
            }
            let departure = |other: &Link| self.spot(&other.from).top().0;
            let mut arriving: Vec<&Link> = topology.links.iter().filter(|other| other.to == link.to).collect();
            arriving.sort_by(|a, b| departure(a).total_cmp(&departure(b)));
            let to = slot(self.spot(&link.to), &arriving, link);
            self.links.push((link, from, to));
        }
    }
}

/// The part of `spot` that belongs to `link`, one of those `beside` each other.
fn slot(spot: Spot, beside: &[&Link], link: &Link) -> Spot {
    let at = beside.iter().position(|&other| std::ptr::eq(other, link)).unwrap_or_default();
    let width = spot.width / beside.len().max(1) as f64;
    Spot { x: spot.x + width * at as f64, width, ..spot }
}

fn row_width(count: usize) -> f64 {
    (count as f64 * (BOX_WIDTH + GAP) - GAP).max(0.0)
}

/// The switches, those nearest to the hosts first.
fn switch_rows(topology: &Topology) -> Vec<Vec<&str>> {
    let mut rows: Vec<Vec<&str>> = Vec::new();
    for switch in &topology.switches {
        let ways = topology.hosts.iter().filter_map(|host| topology.way(&host.name, &switch.name));
        let depth = ways.map(|way| way.len().saturating_sub(1)).max().unwrap_or_default();
        if rows.len() <= depth {
            rows.resize(depth + 1, Vec::new());
        }
        rows[depth].push(&switch.name);
    }
    rows
}

/// The devices of a set beside each other; else as in the file.
fn ordered_devices(topology: &Topology) -> Vec<&str> {
    let mut order: Vec<&str> = Vec::new();
    for device in &topology.devices {
        let set = topology.interleave_sets.iter().find(|set| set.devices.contains(&device.name));
        let together = set.map_or(std::slice::from_ref(&device.name), |set| set.devices.as_slice());
        for name in together.iter().map(String::as_str) {
            if !order.contains(&name) {
                order.push(name);
            }
        }
    }
    order
}
