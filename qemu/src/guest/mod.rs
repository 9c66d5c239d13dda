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

pub use agent::run as run_agent;
pub use ask::ask;
pub use dax::Driver;

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// The folder whose files go back to the host when a program has ended.
pub const OUT: &str = "/out";
/// Where the agent hears what programs ask for.
const SOCKET: &str = "/lab/ask";
/// Where the plan lies.
pub const PLAN: &str = "lab/plan.json";

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
