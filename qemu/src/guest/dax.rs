//! What becomes of a region's memory: a NUMA node (driver `kmem`) or a device (`device_dax`), and one from the other.

use std::fs;
use std::path::{Path, PathBuf};

use super::modules;
use super::sysfs::{entries, name, number, read, refused, target, wait_for, write};
use crate::error::{Error, ErrorKind, Result};

const DEVICES: &str = "/sys/bus/dax/devices";
const DRIVERS: &str = "/sys/bus/dax/drivers";
const BLOCKS: &str = "/sys/devices/system/memory";

/// What drives a DAX device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Makes it a NUMA node.
    Kmem,
    /// Makes it a device to map.
    Device,
}

impl Driver {
    const fn name(self) -> &'static str {
        match self {
            Self::Kmem => "kmem",
            Self::Device => "device_dax",
        }
    }
}

/// The DAX device that lies below this folder of sysfs (a region's), as soon as it is there.
///
/// # Errors
/// [`ErrorKind::BringUp`] if it does not appear.
pub fn device_below(folder: &Path) -> Result<String> {
    let folder = target(folder).unwrap_or_else(|| folder.to_path_buf());
    wait_for(&format!("the DAX device of {}", name(&folder)), || {
        entries(DEVICES).into_iter().find(|path| target(path).is_some_and(|real| real.starts_with(&folder)))
    })
    .map(|path| name(&path))
}

/// Gives a DAX device to a driver, and waits until it can be used.
///
/// # Errors
/// [`ErrorKind::BringUp`] with the kernel's reason: the memory is in use, blocks cannot be taken offline.
pub fn give(device: &str, to: Driver) -> Result<()> {
    modules::load(&[to.name()])?;
    let now = driver(device);
    if now.as_deref() == Some(to.name()) {
        return usable(device, to);
    }
    if let Some(now) = now {
        if now == Driver::Kmem.name() {
            offline(device)?;
        }
        let folder = Path::new(DRIVERS).join(&now);
        write(folder.join("unbind"), device)?;
        // A device that was given by name stays the driver's by name until it is taken back; others were not, and then
        // there is nothing to take back.
        let _ = fs::write(folder.join("remove_id"), device);
    }
    if to == Driver::Kmem {
        write(Path::new(BLOCKS).join("auto_online_blocks"), "online_movable")?;
    }
    let folder = Path::new(DRIVERS).join(to.name());
    write(folder.join("new_id"), device)?;
    if driver(device).is_none() {
        // It was known by name already, so the line above did not make the driver look again.
        let _ = fs::write(folder.join("bind"), device);
    }
    usable(device, to)
}

fn driver(device: &str) -> Option<String> {
    target(Path::new(DEVICES).join(device).join("driver")).map(|path| name(&path))
}

fn usable(device: &str, by: Driver) -> Result<()> {
    wait_for(&format!("{} to take {device}", by.name()), || {
        (driver(device).as_deref() == Some(by.name())).then_some(())
    })?;
    let bytes = number(Path::new(DEVICES).join(device).join("size")).unwrap_or(0);
    match by {
        Driver::Device => wait_for(&format!("/dev/{device}"), || {
            fs::File::options().read(true).write(true).open(Path::new("/dev").join(device)).ok().map(drop)
        }),
        // Blocks come online one after the other; the device's own first ones may hold what describes the rest.
        Driver::Kmem => wait_for(&format!("the memory of {device} to come online"), || {
            let node = node(device)?;
            (node_bytes(node)? >= bytes - bytes / 8).then_some(())
        }),
    }
}

/// The NUMA node that a DAX device is or would become.
pub fn node(device: &str) -> Option<u32> {
    number(Path::new(DEVICES).join(device).join("target_node")).and_then(|node| u32::try_from(node).ok())
}

/// The node that this device's memory is and that has memory online.
pub fn online_node(device: &str) -> Option<u32> {
    let is_node = driver(device).as_deref() == Some(Driver::Kmem.name());
    node(device).filter(|&node| is_node && node_bytes(node).is_some_and(|bytes| bytes > 0))
}

/// Bytes of memory that a node has.
pub fn node_bytes(node: u32) -> Option<u64> {
    let text = read(format!("/sys/devices/system/node/node{node}/meminfo"))?;
    let line = text.lines().find(|line| line.contains("MemTotal:"))?;
    Some(line.split_whitespace().nth(3)?.parse::<u64>().ok()? << 10)
}

/// Takes a device's memory out of use: its contents move to other nodes.
fn offline(device: &str) -> Result<()> {
    let node = node(device).ok_or_else(|| Error::new(ErrorKind::BringUp, format!("{device} has no node")))?;
    let blocks = entries(BLOCKS).into_iter().filter(|path| path.join(format!("node{node}")).exists());
    let blocks: Vec<PathBuf> = blocks.filter(|path| name(path).starts_with("memory")).collect();
    for block in blocks {
        // Pages that are just being used may not move at once: some tries are normal.
        let state = block.join("state");
        let mut refusal = None;
        for _ in 0..10 {
            refusal = fs::write(&state, "offline").err().filter(|_| read(&state).as_deref() != Some("offline"));
            if refusal.is_none() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        if let Some(error) = refusal {
            let what = format!("taking {} of node {node} offline", name(&block));
            return Err(refused(&what, &format!("{error}; programs may hold memory there")));
        }
    }
    Ok(())
}
