//! Memory that is known to be bad: what CXL devices have in their poison lists and report as events of their media, and what
//! the kernel has noted about memory failures.
//!
//! Kernel documents: `ABI/testing/sysfs-bus-cxl` (`trigger_poison_list`), `trace/events.rst`, `mm/hwpoison.rst`. CXL 3.1:
//! poison list in section 8.2.9.9.4.1, events in 8.2.9.2.1.

mod place;
mod recording;
mod report;

use std::collections::BTreeSet;

use crate::roots::entries;
use crate::{Error, Roots};
pub use place::Place;
use recording::Recording;
pub use report::{BadMemory, Origin};

/// Listens to what is reported, from its start on.
#[derive(Debug)]
pub struct Watch<'a> {
    roots: &'a Roots,
    recording: Recording,
    /// A record is shown again and again until newer ones push it out.
    seen: BTreeSet<String>,
}

impl<'a> Watch<'a> {
    /// Begins to listen. Devices' events go to whoever listens when they happen, so begin early.
    ///
    /// # Errors
    /// [`Error::Unwritable`] without the rights (root) or without tracefs.
    pub fn start(roots: &'a Roots) -> Result<Self, Error> {
        Ok(Self { roots, recording: Recording::start(roots)?, seen: BTreeSet::new() })
    }

    /// Asks every memory device for its poison list.
    ///
    /// # Errors
    /// [`Error::Unwritable`] if a device does not give it.
    pub fn ask(&self) -> Result<(), Error> {
        let folder = self.roots.sys.join("bus/cxl/devices");
        for name in entries(&folder).iter().filter(|name| name.starts_with("mem")) {
            let path = folder.join(name).join("trigger_poison_list");
            // Devices without a list have no such file.
            if path.exists() {
                std::fs::write(&path, "1").map_err(|cause| Error::Unwritable { path, cause })?;
            }
        }
        Ok(())
    }

    /// What has been reported since the last call, each with the tier where it lies.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if the records cannot be read.
    pub fn news(&mut self) -> Result<Vec<BadMemory>, Error> {
        let places = place::places(self.roots);
        let text = self.recording.text()?;
        let new = text.lines().filter(|line| self.seen.insert((*line).to_owned()));
        Ok(new.filter_map(report::from_event).map(|bad| bad.located(&places)).collect())
    }
}

/// What the kernel's log says about memory failures that it has dealt with since it started, as far back as the log goes.
pub fn failures(roots: &Roots, kernel_log: &str) -> Vec<BadMemory> {
    let places = place::places(roots);
    let mut found: Vec<BadMemory> = kernel_log.lines().filter_map(report::from_log).collect();
    found.sort_by_key(|bad| bad.address);
    found.dedup();
    found.into_iter().map(|bad| bad.located(&places)).collect()
}
