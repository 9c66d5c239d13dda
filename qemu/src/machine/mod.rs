//! From a topology to virtual machines: one for each host, with QEMU's arguments and the plan that its guest follows.
//!
//! ```text
//! topology                      QEMU                                            guest's kernel
//! host                          one process
//! node                          -numa node, latency and bandwidth in HMAT       node0, node1, …
//! bridge (or none: one bridge)  pxb-cxl, its ACPI generic port in HMAT          host bridge, decoder window (CFMWS)
//! link from host or bridge      cxl-rp                                          root port
//! switch                        cxl-upstream, cxl-downstream per link
//! device                        cxl-type3, latency and bandwidth in its CDAT    memN, found by its serial number
//! interleave set                window over its bridges                         one region with so many ways
//! pool                          one file behind the device of each host
//! ```

mod cdat;
mod memory;
mod numa;
mod wiring;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tiermem_topology::{DeviceKind, Topology};

use crate::error::{Error, ErrorKind, Result};
use crate::guest::plan::Plan;

/// Decoders work in steps of this many bytes for each device (CXL 3.1, 8.2.4.20; Linux `region_size` attribute).
pub const CXL_STEP: u64 = 256 << 20;
/// Bytes of a persistent device that hold its labels.
const LABELS: u64 = 1 << 20;

/// A virtual machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The host's name in the topology.
    pub name: String,
    /// QEMU's arguments for processors, memory and CXL.
    pub arguments: Vec<String>,
    /// What the guest does.
    pub plan: Plan,
    /// QEMU's names of the CXL devices, by their names in the topology.
    pub devices: BTreeMap<String, String>,
    /// Memory that it takes of this machine's, at most, bytes.
    pub memory_bytes: u64,
    /// Files that must lie there before it starts; those of pools are everybody's.
    pub files: Vec<Backing>,
    /// What of the topology it does not have, for people.
    pub notes: Vec<String>,
}

/// A file that stands for memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Where it lies.
    pub path: PathBuf,
    /// How long it is, bytes.
    pub bytes: u64,
    /// What it begins with if it is made anew.
    pub contents: Vec<u8>,
    /// It outlives the machine and is left as it is if it is there already.
    pub kept: bool,
}

/// Where the files of machines go.
#[derive(Clone, Copy, Debug)]
pub struct Folders<'a> {
    /// Gone afterwards.
    pub scratch: &'a Path,
    /// What persistent devices hold.
    pub state: &'a Path,
}

/// The machines for the first `guests` hosts of `topology`. A topology with one host gives as many copies of it as asked for;
/// they share the memory of its CXL devices, as hosts at a pool do.
///
/// # Errors
/// [`ErrorKind::BadInput`] for a topology that cannot become a machine, with the reason; too many guests.
pub fn machines(topology: &Topology, guests: Option<u32>, folders: Folders<'_>) -> Result<Vec<Machine>> {
    let hosts: Vec<&str> = topology.hosts.iter().map(|host| host.name.as_str()).collect();
    let bad = |why: String| Error::new(ErrorKind::BadInput, format!("topology `{}`: {why}", topology.name));
    let Some(&only) = hosts.first() else { return Err(bad("it has no host".into())) };
    let wanted = guests.map_or(hosts.len(), |guests| guests as usize);
    if wanted == 0 {
        return Err(bad("no guest is asked for".into()));
    }
    if hosts.len() > 1 && wanted > hosts.len() {
        return Err(bad(format!("it has {} hosts, {wanted} are asked for", hosts.len())));
    }
    let copies = hosts.len() == 1 && wanted > 1;
    let named =
        |index: usize| if copies { (only, format!("{only}{index}")) } else { (hosts[index], hosts[index].into()) };
    (0..wanted)
        .map(|index| {
            let (host, name) = named(index);
            let view = View { topology, host, guests: wanted, shared: copies, folders };
            let mut machine = view.machine().map_err(|e| e.within(format!("topology `{}`", topology.name)))?;
            machine.name.clone_from(&name);
            machine.plan.host = name;
            machine.plan.index = u32::try_from(index).unwrap_or(u32::MAX);
            machine.plan.guests = u32::try_from(wanted).unwrap_or(u32::MAX);
            Ok(machine)
        })
        .collect()
}

/// A topology as one of its hosts sees it.
#[derive(Clone, Copy)]
struct View<'a> {
    topology: &'a Topology,
    host: &'a str,
    guests: usize,
    /// All CXL devices are those of the other guests too.
    shared: bool,
    folders: Folders<'a>,
}

impl View<'_> {
    fn machine(&self) -> Result<Machine> {
        let wiring = wiring::Wiring::of(self)?;
        let windows = memory::windows(self, &wiring)?;
        let processors = self.processors();
        let numa = numa::Numa::of(self, processors, &wiring.bridges)?;
        let mut machine = String::from("q35,hmat=on");
        if !wiring.bridges.is_empty() {
            machine.push_str(",cxl=on");
        }
        machine.push_str(&memory::arguments(&windows));
        let mut arguments = vec!["-M".to_owned(), machine, "-smp".to_owned(), processors.to_string()];
        let mut files = Vec::new();
        let mut devices = BTreeMap::new();
        let mut memory_bytes = numa.bytes;
        let mut backends = Vec::new();
        for device in wiring.devices() {
            let built = memory::device(self, device)?;
            devices.insert(device.name.clone(), device.id.clone());
            memory_bytes += device.bytes;
            backends.extend(built.backends);
            files.extend(built.files);
        }
        arguments.extend(numa.memory);
        arguments.extend(backends);
        arguments.extend(wiring.bridge_arguments());
        arguments.extend(numa.ports);
        arguments.extend(numa.tables);
        arguments.extend(wiring.device_arguments(|device| memory::device(self, device).map(|built| built.properties))?);
        let plan = Plan {
            regions: windows.into_iter().map(|window| window.region).collect(),
            nodes: numa.nodes,
            ..Plan::default()
        };
        Ok(Machine { name: self.host.into(), arguments, plan, devices, memory_bytes, files, notes: self.notes() })
    }

    /// Two at least where guests share memory: with one, QEMU leaves the locks out of atomic operations, and then they are
    /// none between guests.
    fn processors(&self) -> u32 {
        let wanted: u32 = self.topology.nodes.iter().filter(|node| node.host == self.host).map(|node| node.cpus).sum();
        wanted.max(if self.guests > 1 { 2 } else { 1 })
    }

    fn notes(&self) -> Vec<String> {
        let left_out = self.topology.devices.iter().filter(|device| device.kind != DeviceKind::Cxl);
        let left_out = left_out.filter(|device| self.topology.way(self.host, &device.name).is_some());
        left_out.map(|device| format!("{} is not in the guest: the lab has CXL memory only", device.name)).collect()
    }

    fn bad(why: impl Into<String>) -> Error {
        Error::new(ErrorKind::BadInput, why)
    }
}
