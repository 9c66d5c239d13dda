//! File systems: how much room there is.

use std::path::Path;

use crate::Result;

/// Room in a file system, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What this user may still take.
    pub available: u64,
}

/// Room in the file system that holds `path`.
///
/// # Errors
/// As statvfs(3).
pub fn space(path: &Path) -> Result<Space> {
    let answer = nix::sys::statvfs::statvfs(path)?;
    let unit = answer.fragment_size();
    Ok(Space { total: answer.blocks().saturating_mul(unit), available: answer.blocks_available().saturating_mul(unit) })
}
