//! The half of the lab that runs inside the guest: the agent, which brings the memory up, runs programs and carries their
//! files, and what programs there can ask for.

mod agent;
mod ask;
mod bring_up;
mod cxl;
mod dax;
mod modules;
pub mod plan;
mod pmem;
mod sessions;
mod sysfs;
mod window;

pub use agent::run as run_agent;
pub use ask::ask;
pub use dax::Driver;

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::Deed;

/// The folder whose files go back to the host when a program has ended.
pub const OUT: &str = "/out";
/// Where the agent hears what programs ask for.
const SOCKET: &str = "/lab/ask";
/// Where the plan lies.
pub const PLAN: &str = "lab/plan.json";

/// Where the memory is noted that was brought up.
const MEMORY: &str = "lab/memory.json";

/// Whether this process runs in a guest of the lab.
pub fn is_here() -> bool {
    Path::new(SOCKET).exists()
}

/// Gives the memory of a DAX device (`dax0.0`, `/dev/dax0.0`) to another driver: from a device to a NUMA node or back, while
/// everything runs.
///
/// # Errors
/// [`ErrorKind::Unsupported`] outside of a guest of the lab; [`ErrorKind::BringUp`] with the kernel's reason.
pub fn convert(device: &str, to: Driver) -> Result<()> {
    if !is_here() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "this is for use inside a guest of the lab (`tierctl qemu run`)",
        ));
    }
    dax::give(device.trim_start_matches("/dev/"), to)
}

/// Has the host pull a CXL device out. Memory that is a node's and in use is not given up for that, unless `force` says so: the
/// kernel cannot take it back any more.
///
/// # Errors
/// [`ErrorKind::Unsupported`] outside of a guest of the lab; [`ErrorKind::BringUp`] for memory in use, with what to do;
/// [`ErrorKind::Failed`] with QEMU's reason.
pub fn remove(device: &str, force: bool) -> Result<()> {
    let read = |name: &str| std::fs::read(Path::new("/").join(name)).unwrap_or_default();
    let plan: plan::Plan = serde_json::from_slice(&read(PLAN)).unwrap_or_default();
    let memory: Vec<plan::Memory> = serde_json::from_slice(&read(MEMORY)).unwrap_or_default();
    if let Some(why) = plan.regions.iter().find_map(|region| {
        let of_region = memory.iter().find(|memory| memory.name == region.name)?;
        let is_part = region.devices.iter().any(|name| name == device);
        is_part.then(|| in_use(device, of_region.path.as_deref()?.trim_start_matches("/dev/"))).flatten()
    }) && !force
    {
        return Err(Error::new(ErrorKind::BringUp, why));
    }
    ask(&Deed::Remove { device: device.into() })
}

/// Why a device should not be pulled out, if its memory (a DAX device) is a node's.
fn in_use(device: &str, dax: &str) -> Option<String> {
    let node = dax::online_node(dax)?;
    Some(format!(
        "{device} is memory of node {node}, which is online: the kernel cannot give it back any more once the device is gone, and \
         whatever lies there goes with it. Take it out of use first: `tierctl qemu guest convert {dax} devdax` (--force pulls it \
         out as it is)"
    ))
}
