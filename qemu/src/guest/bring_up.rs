//! From a plan to memory that programs can use.

use std::fs;
use std::path::Path;

use super::plan::{Exposure, Memory, Plan, Region};
use super::{cxl, dax, modules, pmem, sysfs};
use crate::error::Result;

/// Follows the plan. Devices come before nodes: once the driver `kmem` is there it takes every new DAX device.
///
/// # Errors
/// [`crate::ErrorKind::BringUp`]: the region, what the kernel refused, and its last words about it.
pub fn bring_up(plan: &Plan) -> Result<Vec<Memory>> {
    if plan.regions.is_empty() {
        return Ok(Vec::new());
    }
    modules::load(&cxl::MODULES)?;
    // Why it refuses a region the kernel says in messages for developers, mostly.
    let _ = fs::write("/proc/dynamic_debug/control", "module cxl_core +p");
    if plan.regions.iter().any(|region| region.persistent) {
        modules::load(&pmem::MODULES)?;
    }
    modules::load(&["dax_cxl", "device_dax"])?;
    let mut memory: Vec<Option<Memory>> = vec![None; plan.regions.len()];
    for nodes in [false, true] {
        for (region, place) in plan.regions.iter().zip(&mut memory) {
            if (region.exposure == Exposure::Node) == nodes {
                *place = Some(one(region).map_err(|error| error.within(&region.name).followed_by(&last_words()))?);
            }
        }
    }
    Ok(memory.into_iter().flatten().collect())
}

fn one(region: &Region) -> Result<Memory> {
    if region.exposure == Exposure::Node {
        sysfs::write("/sys/devices/system/memory/auto_online_blocks", "online_movable")?;
        modules::load(&["kmem"])?;
    }
    let committed = cxl::commit(region)?;
    let mut memory = Memory {
        name: region.name.clone(),
        region: committed.name.clone(),
        address: committed.address,
        bytes: committed.bytes,
        ways: u32::try_from(region.serials.len()).unwrap_or(u32::MAX),
        exposure: region.exposure,
        node: None,
        path: None,
    };
    if region.persistent {
        memory.path = Some(pmem::bring_up(region, &committed)?);
        return Ok(memory);
    }
    let device = dax::device_below(&committed.path)?;
    memory.node = dax::node(&device);
    memory.path = Some(format!("/dev/{device}"));
    let driver = if region.exposure == Exposure::Node { dax::Driver::Kmem } else { dax::Driver::Device };
    dax::give(&device, driver)?;
    Ok(memory)
}

/// What the kernel said last about CXL and DAX.
fn last_words() -> String {
    const LINES: usize = 6;
    let log = kernel_log();
    let lines = about_memory(&log);
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("\n  {line}")).collect()
}

/// The lines about CXL and DAX. Of a warning, what it says, and not where in the kernel it was said.
fn about_memory(log: &str) -> Vec<&str> {
    let mut is_trace = false;
    let lines = log.lines().filter(|line| {
        if line.contains("WARNING: ") || line.contains("BUG: ") {
            is_trace = true;
        }
        let is_part = is_trace;
        if line.contains("end trace") {
            is_trace = false;
        }
        !is_part && ["cxl", "dax", "nd_", "pmem", "region"].iter().any(|word| line.contains(word))
    });
    lines.collect()
}

/// The kernel's messages.
pub fn kernel_log() -> String {
    let output = std::process::Command::new("/bin/busybox").arg("dmesg").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Everything that sysfs says about memory, one attribute a line, for the log folder.
pub fn snapshot() -> String {
    const PLACES: [(&str, usize); 9] = [
        ("/sys/bus/cxl/devices", 2),
        ("/sys/bus/dax/devices", 2),
        ("/sys/bus/nd/devices", 2),
        ("/sys/devices/system/node", 4),
        ("/sys/devices/virtual/memory_tiering", 2),
        ("/sys/kernel/mm/mempolicy/weighted_interleave", 1),
        ("/sys/kernel/mm/numa", 1),
        ("/proc/iomem", 0),
        ("/proc/cmdline", 0),
    ];
    let mut text = String::new();
    for (place, depth) in PLACES {
        attributes(Path::new(place), depth, &mut text);
    }
    text
}

/// Attributes whose reading has effects, or that are long and say nothing.
const UNREAD: [&str; 6] = ["uevent", "trigger_poison_list", "config", "resource0", "vmstat", "numastat"];

fn attributes(path: &Path, depth: usize, text: &mut String) {
    let Ok(data) = fs::metadata(path) else { return };
    if data.is_file() {
        if !UNREAD.contains(&sysfs::name(path).as_str())
            && let Some(value) = sysfs::read(path)
        {
            let separator = if value.contains('\n') { "\n" } else { " " };
            text.push_str(&format!("{} ={separator}{value}\n", path.display()));
        }
    } else if depth > 0 {
        for entry in sysfs::entries(path) {
            // The devices of a bus are links; others lead in circles.
            let is_link = fs::symlink_metadata(&entry).is_ok_and(|data| data.is_symlink());
            if !is_link || sysfs::name(path) == "devices" {
                attributes(&entry, depth - 1, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::about_memory;

    /// As Linux 7.3 and 6.12 write it: what is warned of stands before the trace, or behind its first line.
    #[test]
    fn a_warnings_trace_is_left_out() {
        let log = "[ 1.0] pci 0000:0c: a bridge\n[ 2.0] cxl region0: Failed to synchronize CPU cache state\n\
                   [ 2.1] WARNING: drivers/cxl/core/region.c:235 at cxl_region_invalidate_memregion+0x61/0x70\n\
                   [ 2.1] Modules linked in: kmem device_dax\n[ 2.2] RIP: cxl_region_invalidate_memregion\n\
                   [ 2.3] ---[ end trace 0000000000000000 ]---\n[ 2.4] cxl region0: the next\n";
        let lines = about_memory(log);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("cache state") && lines[1].contains("the next"));
    }
}
