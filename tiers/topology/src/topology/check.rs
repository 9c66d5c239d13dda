//! Whether the parts of a topology fit each other.

mod together;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tiermem_complaint::units::clip;
use tiermem_complaint::{Complaints, suggestion};

use super::graph::Graph;
use super::parse::{Kind, LINK, Places};
use super::profiles;
use super::{DeviceKind, Exposure, Persistence, Topology};

/// Interleave ways that CXL knows (CXL 3.1, section 8.2.4.20, HDM decoder capability).
const WAYS: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 16];

/// Complains of whatever does not fit.
pub(super) fn check(topology: &mut Topology, places: &Places, complaints: &mut Complaints<'_>) {
    let known = Known::gather(places, complaints);
    let mut check = Check { topology, places, known, complaints };
    check.hosts();
    check.nodes();
    let bridges_are_sound = check.bridges_and_switches();
    check.devices();
    let links_are_sound = check.links();
    check.interleave_sets();
    check.pools();
    if links_are_sound && bridges_are_sound {
        check.ways();
    }
    profiles::add_shipped(topology);
}

/// What each name names.
struct Known<'p> {
    kinds: BTreeMap<&'p str, Kind>,
}

impl<'p> Known<'p> {
    fn gather(places: &'p Places, complaints: &mut Complaints<'_>) -> Self {
        let mut kinds = BTreeMap::new();
        for (place, kind, name) in places.names() {
            if let Some(&earlier) = kinds.get(name) {
                let message = format!("`{name}` names {} already: a name is unique across all kinds", article(earlier));
                complaints.add(place, message);
            } else {
                kinds.insert(name, kind);
            }
        }
        Self { kinds }
    }

    fn of_kinds(&self, wanted: &[Kind]) -> impl Iterator<Item = &'p str> + Clone {
        self.kinds
            .iter()
            .filter(|(_, kind)| wanted.contains(kind))
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .into_iter()
    }
}

struct Check<'t, 'p, 'c, 'text> {
    topology: &'t mut Topology,
    places: &'p Places,
    known: Known<'p>,
    complaints: &'c mut Complaints<'text>,
}

/// `a node`, `an interleave set`.
fn article(kind: Kind) -> &'static str {
    match kind {
        "host" => "a host",
        "node" => "a node",
        "bridge" => "a bridge",
        "switch" => "a switch",
        "device" => "a device",
        "interleave" => "an interleave set",
        "pool" => "a pool",
        _ => "a profile",
    }
}

impl Check<'_, '_, '_, '_> {
    fn complain(&mut self, place: Option<Range<usize>>, message: impl Into<String>) {
        // What has no place has had its complaint.
        if let Some(place) = place {
            self.complaints.add(place, message);
        }
    }

    /// Whether `name`, which stands at `place`, names one of the `wanted` kinds; complains if not.
    fn refers(&mut self, name: &str, place: Option<Range<usize>>, wanted: &[Kind]) -> bool {
        if place.is_none() {
            return false;
        }
        let kind = self.known.kinds.get(name).copied();
        if kind.is_some_and(|kind| wanted.contains(&kind)) {
            return true;
        }
        let wanted_words = wanted.iter().map(|kind| article(kind)).collect::<Vec<_>>().join(" or ");
        let message = match kind {
            Some(kind) => format!("`{}` is {}, and this must be {wanted_words}", clip(name), article(kind)),
            None => {
                let names = self.known.of_kinds(wanted);
                let hint = if names.clone().next().is_none() {
                    format!("; this must be {wanted_words}, and there is none")
                } else {
                    suggestion(name, names)
                };
                let what = wanted.first().filter(|_| wanted.len() == 1).copied().unwrap_or("name");
                format!("unknown {what} `{}`{hint}", clip(name))
            }
        };
        self.complain(place, message);
        false
    }

    /// Whether `name` is a profile of the `wanted` kind.
    fn profile(&mut self, owner: Kind, owner_name: &str, name: &str, wanted: &'static str) {
        let place = self.places.of(owner, owner_name, "profile");
        let message = match profiles::kind_of(name, &self.topology.profiles) {
            Some(kind) if kind == wanted => return,
            Some(kind) => {
                let (is, must_be) = (profiles::article(kind), profiles::article(wanted));
                format!("`{}` is {is}, and this must be {must_be}", clip(name))
            }
            None if profiles::is_broken(name, self.topology, self.places) => return,
            None => {
                let fitting = profiles::names(wanted, &self.topology.profiles);
                format!("unknown profile `{}`{}", clip(name), suggestion(name, fitting.iter().map(String::as_str)))
            }
        };
        self.complain(place, message);
    }

    fn hosts(&mut self) {
        if self.topology.hosts.is_empty() {
            self.complain(Some(0..0), "there is no host: add one, for example [host.server]");
        }
        for host in self.topology.hosts.clone() {
            let mut own = self.topology.nodes.iter().filter(|node| node.host == host.name).peekable();
            let message = if own.peek().is_none() {
                format!(
                    "host `{}` has no node: add one with its CPUs and memory, [node.…] with host = \"{0}\"",
                    host.name
                )
            } else if own.all(|node| node.cpus == 0) {
                format!("host `{}` has no CPU: give one of its nodes `cpus`", host.name)
            } else {
                continue;
            };
            self.complain(self.places.of("host", &host.name, ""), message);
        }
    }

    fn nodes(&mut self) {
        for node in self.topology.nodes.clone() {
            self.refers(&node.host, self.places.of("node", &node.name, "host"), &["host"]);
            self.profile("node", &node.name, &node.profile, "memory");
        }
    }

    /// Whether every bridge has its host.
    fn bridges_and_switches(&mut self) -> bool {
        let mut sound = true;
        for bridge in self.topology.bridges.clone() {
            sound &= self.refers(&bridge.host, self.places.of("bridge", &bridge.name, "host"), &["host"]);
        }
        for switch in self.topology.switches.clone() {
            self.profile("switch", &switch.name, &switch.profile, "link");
        }
        sound
    }

    fn devices(&mut self) {
        for device in self.topology.devices.clone() {
            let name = device.name.as_str();
            if self.places.of("device", name, "kind").is_none() {
                continue;
            }
            self.profile("device", name, &device.profile, profiles::kind_for(device.kind));
            let exposure = self.places.of("device", name, "exposure");
            if device.kind != DeviceKind::Cxl {
                let kind = device.kind;
                self.complain(
                    exposure,
                    format!("only CXL devices have an exposure, and this one's kind is \"{kind}\""),
                );
                let persistence = self.places.of("device", name, "persistence");
                self.complain(
                    persistence,
                    format!("only CXL devices have a persistence, and this one's kind is \"{kind}\""),
                );
            } else if device.exposure == Exposure::Fsdax && device.persistence == Persistence::Volatile {
                self.complain(exposure, fsdax_needs_persistence("persistence = \"persistent\""));
            }
        }
    }

    /// Whether the links can be followed.
    fn links(&mut self) -> bool {
        let mut sound = true;
        let mut seen = BTreeSet::new();
        for (number, link) in self.topology.links.clone().into_iter().enumerate() {
            let number = number.to_string();
            let place = |key| self.places.of(LINK, &number, key);
            let (from, to) = (place("from"), place("to"));
            let backwards =
                self.known.kinds.get(link.to.as_str()).is_some_and(|kind| ["host", "bridge"].contains(kind));
            if backwards {
                let message = format!(
                    "`{}` cannot be the end of a link: links go from the host's side to the device's",
                    clip(&link.to)
                );
                self.complain(to.clone(), message);
                sound = false;
            } else {
                sound &= self.refers(&link.from, from, &["host", "bridge", "switch"]);
                sound &= self.refers(&link.to, to.clone(), &["switch", "device"]);
            }
            if let Some(profile) = &link.profile {
                self.profile(LINK, &number, profile, "link");
            }
            if sound && !seen.insert((link.from.clone(), link.to.clone())) {
                self.complain(to, format!("`{}` and `{}` are linked already", link.from, link.to));
                sound = false;
            }
        }
        if sound && let Some((number, circle)) = Graph::of(self.topology).circle() {
            let message = format!("the links go in a circle: {}", circle.join(" → "));
            self.complain(self.places.of(LINK, &number.to_string(), "to"), message);
            sound = false;
        }
        sound && self.known.kinds.len() == self.places.names().len()
    }
}

fn fsdax_needs_persistence(what: &str) -> String {
    format!("a file system lives on persistent memory only: \"fsdax\" needs {what}")
}

/// `a`, `b` and `c`, in backticks.
fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
