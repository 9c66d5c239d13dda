//! The QEMU lab's verbs that start guests: `run`, `exec`, `shell` and what keeps a shared guest.

mod exec;
mod keep;
mod options;
mod program;
mod run;
mod shell;
mod start;
mod watch;

use std::hash::{DefaultHasher, Hash, Hasher};

use tiermem_qemu::host::Lab;
use tiermem_qemu::{Error, ErrorKind, image};
use tiermem_topology::{LoadError, Topology};

pub use exec::{Exec, Stop};
pub use keep::Keep;
pub use run::Run;
pub use shell::Shell;

use crate::exit::{Exit, Failure};

/// Says what a shared guest was booted from: one with the same key is the same.
///
/// # Errors
/// Those of the file system.
fn key(topology: &Topology, lab: &Lab) -> Result<String, Error> {
    let files = [lab.kernel.image.as_path(), &lab.busybox, &lab.agent];
    let made_of = (format!("{topology:?}"), format!("{lab:?}"), image::stamp(files)?);
    let mut hasher = DefaultHasher::new();
    made_of.hash(&mut hasher);
    Ok(format!("{}-{:016x}", topology.name, hasher.finish()))
}

/// How a failure of the lab ends tierctl.
pub fn failure(error: &Error) -> Failure {
    let exit = match error.kind() {
        ErrorKind::NotFound => Exit::NotFound,
        ErrorKind::BadInput => Exit::BadInput,
        ErrorKind::NoRights => Exit::NoRights,
        ErrorKind::Unsupported => Exit::Unsupported,
        ErrorKind::NotExecutable => Exit::Command(126),
        ErrorKind::Boot | ErrorKind::BringUp | ErrorKind::Panic => Exit::Command(125),
        ErrorKind::TimedOut => Exit::Command(124),
        _ => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

/// The topology of this name or file.
///
/// # Errors
/// Not found, or everything that is wrong with it.
pub fn topology(which: &str) -> Result<Topology, Failure> {
    Topology::load(which).map_err(|error| {
        let exit = match &error {
            LoadError::Unknown { .. } => Exit::NotFound,
            _ => Exit::BadInput,
        };
        Failure::new(exit, error.to_string())
    })
}
