//! From a [`Topology`] back to the text of a file.

mod profile;

use std::fmt;

use tiermem_complaint::units::show_bytes;

use super::parse::VERSION;
use super::{Device, DeviceKind, InterleaveSet, Pool, Topology};
use crate::BUILTIN_NAMES;
use crate::quoted::Quoted;

/// A key of a table: bare where TOML allows that.
struct Key<'a>(&'a str);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains('.') { Quoted(self.0).fmt(f) } else { f.write_str(self.0) }
    }
}

fn quoted_list(names: &[String]) -> String {
    names.iter().map(|name| Quoted(name).to_string()).collect::<Vec<_>>().join(", ")
}

/// The topology as a file, complete. Parsing it gives the same topology.
impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "version = {VERSION}\nname = {}", Quoted(&self.name))?;
        if !self.description.is_empty() {
            writeln!(f, "description = {}", Quoted(&self.description))?;
        }
        for host in &self.hosts {
            writeln!(f, "\n[host.{}]", Key(&host.name))?;
        }
        for node in &self.nodes {
            writeln!(f, "\n[node.{}]\nhost = {}\ncpus = {}", Key(&node.name), Quoted(&node.host), node.cpus)?;
            let capacity = show_bytes(node.capacity.0);
            writeln!(f, "capacity = {}\nprofile = {}", Quoted(&capacity), Quoted(&node.profile))?;
        }
        for bridge in &self.bridges {
            writeln!(f, "\n[bridge.{}]\nhost = {}", Key(&bridge.name), Quoted(&bridge.host))?;
        }
        for switch in &self.switches {
            writeln!(f, "\n[switch.{}]\nprofile = {}", Key(&switch.name), Quoted(&switch.profile))?;
        }
        self.devices.iter().try_for_each(|device| self.show_device(f, device))?;
        for link in &self.links {
            writeln!(f, "\n[[link]]\nfrom = {}\nto = {}", Quoted(&link.from), Quoted(&link.to))?;
            if let Some(profile) = &link.profile {
                writeln!(f, "profile = {}", Quoted(profile))?;
            }
        }
        for InterleaveSet { name, devices, granularity, exposure } in &self.interleave_sets {
            writeln!(f, "\n[interleave.{}]\ndevices = [{}]", Key(name), quoted_list(devices))?;
            writeln!(f, "granularity = {granularity}\nexposure = \"{exposure}\"")?;
        }
        for Pool { name, device, hosts, coherence } in &self.pools {
            writeln!(f, "\n[pool.{}]\ndevice = {}", Key(name), Quoted(device))?;
            writeln!(f, "hosts = [{}]\ncoherence = \"{coherence}\"", quoted_list(hosts))?;
        }
        let own = self.profiles.iter().filter(|profile| !BUILTIN_NAMES.contains(&profile.name.as_str()));
        own.map(profile::Shown).try_for_each(|shown| shown.fmt(f))
    }
}

impl Topology {
    fn show_device(&self, f: &mut fmt::Formatter<'_>, device: &Device) -> fmt::Result {
        let Device { name, kind, capacity, profile, exposure, persistence } = device;
        writeln!(f, "\n[device.{}]\nkind = \"{kind}\"", Key(name))?;
        writeln!(f, "capacity = {}\nprofile = {}", Quoted(&show_bytes(capacity.0)), Quoted(profile))?;
        if *kind != DeviceKind::Cxl {
            return Ok(());
        }
        // In a set, the set's exposure counts.
        if self.interleave_sets.iter().all(|set| !set.devices.contains(name)) {
            writeln!(f, "exposure = \"{exposure}\"")?;
        }
        writeln!(f, "persistence = \"{persistence}\"")
    }
}
