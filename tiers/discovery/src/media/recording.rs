//! The kernel's record of events, in an instance of our own, so that others who trace are not disturbed.

use std::fs;
use std::path::PathBuf;

use crate::{Error, Roots};

/// What is recorded: CXL's events, and memory failures as the kernel deals with them.
const EVENTS: [&str; 4] = ["cxl/cxl_poison", "cxl/cxl_general_media", "cxl/cxl_dram", "ras/memory_failure_event"];
/// Where tracefs is mounted.
const PLACES: [&str; 2] = ["kernel/tracing", "kernel/debug/tracing"];

/// A record that goes on until it is dropped.
#[derive(Debug)]
pub(super) struct Recording {
    folder: PathBuf,
}

impl Recording {
    pub(super) fn start(roots: &Roots) -> Result<Self, Error> {
        let homes = PLACES.map(|place| roots.sys.join(place));
        let home = homes.iter().find(|home| home.join("instances").is_dir()).unwrap_or(&homes[0]);
        let folder = home.join("instances").join(format!("tiermem-{}", std::process::id()));
        fs::create_dir(&folder).map_err(|cause| Error::Unwritable { path: folder.clone(), cause })?;
        let recording = Self { folder };
        for event in EVENTS {
            let path = recording.folder.join("events").join(event).join("enable");
            // A kernel without a module has not its events either.
            if path.exists() {
                fs::write(&path, "1").map_err(|cause| Error::Unwritable { path, cause })?;
            }
        }
        Ok(recording)
    }

    /// All that is in it, oldest first, one event a line.
    pub(super) fn text(&self) -> Result<String, Error> {
        let path = self.folder.join("trace");
        let bytes = fs::read(&path).map_err(|cause| Error::Unreadable { path, cause })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // Removing the instance switches its events off. If that fails, it stays and records, which harms nobody.
        let _ = fs::remove_dir(&self.folder);
    }
}
