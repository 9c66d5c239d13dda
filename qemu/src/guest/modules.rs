//! Loading the kernel's modules.

use std::process::Command;

use super::pmem::run;
use crate::error::Result;

/// Loads modules with what they need. Those that the image does not have are passed over: they may be built in, and what
/// really lacks shows at once.
///
/// # Errors
/// [`crate::ErrorKind::BringUp`] with what the kernel says about a module that it has and does not want.
pub fn load(names: &[&str]) -> Result<()> {
    let list = std::fs::read_to_string("/lab/modules").unwrap_or_default();
    for name in names.iter().filter(|name| list.lines().any(|known| known == **name)) {
        run(Command::new("/bin/busybox").args(["modprobe", name]))?;
    }
    Ok(())
}
