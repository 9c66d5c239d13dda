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
    let about = |line: &&str| ["cxl", "dax", "nd_", "pmem", "region"].iter().any(|word| line.contains(word));
    let lines: Vec<&str> = log.lines().filter(about).collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("\n  {line}")).collect()
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
