//! NUMA nodes as sysfs shows them.

use std::fs;

use tiermem_sys::file;
use tiermem_sys::text::{PathBuffer, leading_number};

use crate::Bytes;

/// What the kernel keeps for itself on a node; a bound reservation leaves this much.
pub(super) const HEADROOM: Bytes = Bytes::mib(16);

const NODES: &str = "/sys/devices/system/node";

/// A NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Memory that it has.
    pub total: Bytes,
    /// Whether CPUs belong to it.
    pub has_cpus: bool,
}

/// The node with this number, if there is one. Allocates.
pub(super) fn find(number: u32) -> Option<Node> {
    let folder = format!("{NODES}/node{number}");
    let meminfo = fs::read(format!("{folder}/meminfo")).ok()?;
    let cpus = fs::read_to_string(format!("{folder}/cpulist")).unwrap_or_default();
    let total = field(&meminfo, b"MemTotal:").unwrap_or(Bytes::ZERO);
    Some(Node { total, has_cpus: !cpus.trim().is_empty() })
}

/// Numbers of the nodes with memory; empty on kernels without NUMA. Allocates.
pub(super) fn with_memory() -> Vec<u32> {
    let Ok(entries) = fs::read_dir(NODES) else { return Vec::new() };
    let numbers =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("node")?.parse::<u32>().ok());
    let mut numbers: Vec<u32> = numbers.filter(|&n| find(n).is_some_and(|node| node.total > Bytes::ZERO)).collect();
    numbers.sort_unstable();
    numbers
}

/// Memory of the whole machine. Allocates.
pub(super) fn machine_total() -> Option<Bytes> {
    field(&fs::read("/proc/meminfo").ok()?, b"MemTotal:")
}

/// Memory that is free on a node right now; `None` if sysfs does not say. Does not allocate.
pub(super) fn free(number: u32) -> Option<Bytes> {
    let mut path = PathBuffer::new();
    path.push(NODES.as_bytes()).push(b"/node").push_number(number.into()).push(b"/meminfo");
    let mut text = [0u8; 2048];
    let len = file::read_small(path.as_c_str(), &mut text).ok()?;
    field(text.get(..len)?, b"MemFree:")
}

/// The value after `name` in a meminfo file, which counts in kB.
fn field(meminfo: &[u8], name: &[u8]) -> Option<Bytes> {
    let at = meminfo.windows(name.len()).position(|window| window == name)?;
    leading_number(meminfo.get(at + name.len()..)?)?.checked_mul(1024).map(Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_meminfo() {
        let text = b"Node 1 MemTotal:       2048 kB\nNode 1 MemFree:          12 kB\n";
        assert_eq!(field(text, b"MemTotal:"), Some(Bytes::mib(2)));
        assert_eq!(field(text, b"MemFree:"), Some(Bytes::kib(12)));
        assert_eq!(field(text, b"SwapTotal:"), None);
    }

    #[test]
    fn the_machine_has_memory() {
        let total = machine_total().unwrap();
        assert!(total > Bytes::mib(64));
        for number in with_memory() {
            assert!(free(number).unwrap() <= find(number).unwrap().total);
        }
        assert_eq!(find(100_000), None);
    }
}
