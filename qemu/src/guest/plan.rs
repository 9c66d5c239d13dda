//! What the host tells the guest about its memory, and what the guest answers.

use serde::{Deserialize, Serialize};

/// How memory is to appear in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exposure {
    /// A NUMA node without CPUs.
    Node,
    /// `/dev/dax…`.
    Devdax,
    /// A file system, mapped past the page cache.
    Fsdax,
}

/// A guest's part of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The host's name in the topology.
    pub host: String,
    /// Which of the guests it is, from 0.
    pub index: u32,
    /// How many guests there are.
    pub guests: u32,
    /// The memory to bring up, in this order.
    pub regions: Vec<Region>,
    /// Memory that is there without doing: nodes of the topology, with their number in the guest.
    pub nodes: Vec<(String, u32)>,
}

/// CXL memory to bring up: one device, or several interleaved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// The device's or interleave set's name in the topology.
    pub name: String,
    /// Which of the machine's windows it lies in, from 0.
    pub window: u32,
    /// Its devices' names in the topology, in the order of their turns.
    pub devices: Vec<String>,
    /// Their serial numbers, in the same order.
    pub serials: Vec<u64>,
    /// The host bridges of the window that it lies in, by their ACPI number, in order.
    pub bridges: Vec<u32>,
    /// Bytes on one device before the next one's turn.
    pub granularity: u32,
    /// Bytes of each device.
    pub bytes_each: u64,
    /// Whether its contents outlive the guest.
    pub persistent: bool,
    /// How it is to appear.
    pub exposure: Exposure,
}

/// Memory that the guest has brought up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Its name in the topology.
    pub name: String,
    /// The kernel's name of the region.
    pub region: String,
    /// Where it lies in the guest's physical address space.
    pub address: u64,
    /// Its size, bytes.
    pub bytes: u64,
    /// Over how many devices it is interleaved.
    pub ways: u32,
    /// How it appears.
    pub exposure: Exposure,
    /// The NUMA node that it is or would become.
    pub node: Option<u32>,
    /// The device (`/dev/dax0.0`) or the folder that the file system is mounted on.
    pub path: Option<String>,
}

impl Memory {
    /// The tier as a SPEC, the way `tierctl --tier` and the `conformance` program take it.
    pub fn spec(&self) -> String {
        match (self.exposure, self.node, &self.path) {
            (Exposure::Devdax, _, Some(path)) => format!("{}=devdax:{path}", self.name),
            (Exposure::Fsdax, _, Some(path)) => format!("{}=dax-file:{path}/tier", self.name),
            (_, node, _) => format!("{}=cxl-node:{}", self.name, node.unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Exposure, Memory};

    #[test]
    fn memory_is_named_as_a_tier() {
        let memory = |exposure, path: Option<&str>| Memory {
            name: "cxl0".into(),
            region: "region0".into(),
            address: 1 << 32,
            bytes: 1 << 28,
            ways: 1,
            exposure,
            node: Some(2),
            path: path.map(str::to_owned),
        };
        assert_eq!(memory(Exposure::Node, None).spec(), "cxl0=cxl-node:2");
        assert_eq!(memory(Exposure::Devdax, Some("/dev/dax0.0")).spec(), "cxl0=devdax:/dev/dax0.0");
        assert_eq!(memory(Exposure::Fsdax, Some("/mnt/cxl0")).spec(), "cxl0=dax-file:/mnt/cxl0/tier");
    }
}
