//! What there is and how it hangs together.

mod check;
mod draw;
mod graph;
mod parse;
mod profiles;
mod shipped;
mod show;
mod view;
mod word;

use std::path::PathBuf;

use tiermem_complaint::FileError;
use tiermem_tiers::Bytes;

use crate::Profile;
use graph::Graph;

pub use shipped::SHIPPED;
pub use view::{TierFigures, TierView};

/// A machine, or several that share memory. Everything is named, names are unique across kinds, and references have
/// been checked: whoever holds one need not check again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    /// As the file says.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Computers, each with an OS of its own.
    pub hosts: Vec<Host>,
    /// NUMA nodes with memory of the host's own.
    pub nodes: Vec<Node>,
    /// Host bridges, where a host has more than one, or where links name them.
    pub bridges: Vec<Bridge>,
    /// CXL switches.
    pub switches: Vec<Switch>,
    /// CXL memory, NVMe drives, accelerators.
    pub devices: Vec<Device>,
    /// Who is connected with whom.
    pub links: Vec<Link>,
    /// Devices that are used as one.
    pub interleave_sets: Vec<InterleaveSet>,
    /// Devices that several hosts share.
    pub pools: Vec<Pool>,
    /// Every profile that is named above, shipped or written in the file itself.
    pub profiles: Vec<Profile>,
}

impl Topology {
    /// Parses and checks the text of a topology file. `file_name` appears in the complaints only.
    ///
    /// ```
    /// use tiermem_topology::Topology;
    /// let text = "version = 1\nname = 'mine'\n[host.a]\n[node.dram]\nhost = 'b'\ncpus = 1\ncapacity = '2G'\nprofile = 'dram-ddr5'";
    /// let error = Topology::parse(text, "mine.toml").unwrap_err();
    /// assert!(error.to_string().starts_with("mine.toml:3:7: host `a` has no node"));
    /// assert_eq!(error.entries()[1].message, "unknown host `b`; did you mean `a`?");
    /// ```
    ///
    /// # Errors
    /// Everything that is wrong with it, each complaint with line and column.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, FileError> {
        parse::parse(text, file_name)
    }

    /// Like [`parse`](Self::parse), for what was read from a file and may be anything.
    ///
    /// # Errors
    /// As `parse`; also where the bytes are not UTF-8.
    pub fn parse_bytes(bytes: &[u8], file_name: &str) -> Result<Self, FileError> {
        parse::parse_bytes(bytes, file_name)
    }

    /// The topology of this name that tiermem [ships](SHIPPED).
    pub fn shipped(name: &str) -> Option<Self> {
        let (name, text) = SHIPPED.iter().find(|(shipped, _)| *shipped == name)?;
        Self::parse(text, &format!("{name}.toml")).ok()
    }

    /// The shipped topology `which`, or the one in the file `which`. A file whose name is that of a shipped topology is
    /// named by a path, `./one-expander`.
    ///
    /// ```
    /// use tiermem_topology::Topology;
    /// assert_eq!(Topology::load("one-expander").unwrap().devices[0].name, "cxl0");
    /// assert!(Topology::load("two-expander").unwrap_err().to_string().contains("did you mean `one-expander`?"));
    /// ```
    ///
    /// # Errors
    /// There is no such topology, its file cannot be read, or everything that is wrong with it.
    pub fn load(which: &str) -> Result<Self, LoadError> {
        shipped::load(which)
    }

    /// A drawing: hosts with their memory above, what hangs below them, and what is used as one tier. Every figure is
    /// from a profile; those that nobody measured say so.
    ///
    /// ```
    /// let drawing = tiermem_topology::Topology::shipped("pool-2").unwrap().to_svg();
    /// assert!(drawing.starts_with("<svg ") && drawing.contains("cxl0"));
    /// ```
    pub fn to_svg(&self) -> String {
        draw::svg(self)
    }

    /// The links from `host` to the switch or device `name`, from the host's side; `None` if there is no way. Empty
    /// for the host itself and its bridges.
    pub fn way(&self, host: &str, name: &str) -> Option<Vec<&Link>> {
        Graph::of(self).way(host, name)
    }

    /// The hosts that have a way to the switch or device `name`, in the order of the file.
    pub fn hosts_above(&self, name: &str) -> Vec<&str> {
        let hosts = Graph::of(self).hosts_above(name);
        let reaching = self.hosts.iter().filter(|host| hosts.iter().any(|(name, _)| *name == host.name));
        reaching.map(|host| host.name.as_str()).collect()
    }
}

/// Why a topology could not be had.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// There is neither a shipped topology of this name nor such a file.
    Unknown {
        /// What was asked for.
        which: String,
    },
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is no topology.
    Invalid(FileError),
}

/// A computer.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Its name.
    pub name: String,
}

/// A NUMA node of a host, with CPUs or without.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub host: String,
    /// How many CPUs; 0 for a node of memory only.
    pub cpus: u32,
    /// How much memory.
    pub capacity: Bytes,
    /// A memory profile.
    pub profile: String,
}

/// A CXL host bridge: a root of its own, so that interleaving over two bridges is done by the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub host: String,
}

/// A CXL switch.
#[derive(Clone, Debug, PartialEq)]
pub struct Switch {
    /// Its name.
    pub name: String,
    /// A link profile: what the hop through it costs.
    pub profile: String,
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// CXL type 3 memory.
    Cxl,
    /// An NVMe drive.
    Nvme,
    /// An accelerator with memory of its own.
    Gpu,
}

/// How CXL memory appears to the programs of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Exposure {
    /// A CPU-less NUMA node.
    #[default]
    Node,
    /// A `/dev/dax` device.
    Devdax,
    /// A file on a file system in DAX mode (persistent memory only).
    Fsdax,
}

/// What a device's memory holds after power is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Persistence {
    /// Nothing.
    #[default]
    Volatile,
    /// All that reached it.
    Persistent,
}

/// A device.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// How much it holds.
    pub capacity: Bytes,
    /// A profile of the fitting kind.
    pub profile: String,
    /// How it appears (CXL only).
    pub exposure: Exposure,
    /// What it keeps (CXL only).
    pub persistence: Persistence,
}

/// A connection. It is directed from the host's side to the device's; the graph has no cycles.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// A host, a bridge or a switch.
    pub from: String,
    /// A switch or a device.
    pub to: String,
    /// A link profile; `None` where the device's own profile includes it.
    pub profile: Option<String>,
}

/// Devices of one size used as one, line by line in turn.
#[derive(Clone, Debug, PartialEq)]
pub struct InterleaveSet {
    /// The name of the resulting tier.
    pub name: String,
    /// Its CXL devices, in order.
    pub devices: Vec<String>,
    /// How many bytes lie on one device before the next one's turn, a power of two from 256.
    pub granularity: u32,
    /// How the set appears.
    pub exposure: Exposure,
}

/// Who keeps the caches of the hosts of a pool in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Coherence {
    /// The hardware (back-invalidation).
    Hardware,
    /// A protocol in software that the system provides.
    Software,
    /// Nobody: programs flush and fence.
    None,
}

/// A device that several hosts share.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// The name of the resulting tier.
    pub name: String,
    /// The CXL device.
    pub device: String,
    /// The hosts that reach it, two and more; each has a way to the device.
    pub hosts: Vec<String>,
    /// Who keeps their caches in step.
    pub coherence: Coherence,
}
