//! Modelled machines: profiles, probing in virtual time, predictions.

pub mod curves;
pub mod from_probe;
pub mod prediction;
pub mod virtual_probe;

use std::path::Path;

use tiermem_emulator::model::{HostIndex, System};
use tiermem_emulator::workload::probe::around;
use tiermem_topology::{BUILTIN_NAMES, Profile, SHIPPED, Topology};

use crate::exit::{Exit, Failure};

/// The shipped profile of that name, or that in the file.
///
/// # Errors
/// There is neither, or the file is no profile.
pub fn profile(which: &str) -> Result<Profile, Failure> {
    if let Some(profile) = Profile::builtin(which) {
        return Ok(profile);
    }
    let text = text(which, &format!("neither a shipped profile ({}) nor a file: {which}", BUILTIN_NAMES.join(", ")))?;
    Profile::parse(&text, which).map_err(|error| Failure::new(Exit::BadInput, error.to_string()))
}

/// The shipped topology or the machine around the shipped profile of that name, or what the file describes.
///
/// # Errors
/// There is nothing of the kind, the file is neither a topology nor a profile, or it is a link, which holds nothing.
pub fn machine(which: &str) -> Result<Topology, Failure> {
    if SHIPPED.iter().any(|(name, _)| *name == which) {
        return Topology::load(which).map_err(|error| Failure::new(Exit::BadInput, error.to_string()));
    }
    let is_profile = BUILTIN_NAMES.contains(&which) || {
        let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).chain(BUILTIN_NAMES.iter().copied()).collect();
        let missing = format!("neither a shipped topology or profile ({}) nor a file: {which}", names.join(", "));
        // Every topology has hosts, and no profile has.
        !text(which, &missing)?.lines().any(|line| line.trim_start().starts_with("[host"))
    };
    if !is_profile {
        return Topology::load(which).map_err(|error| Failure::new(Exit::BadInput, error.to_string()));
    }
    let link = || format!("{which} is a link and holds nothing: name a topology that uses it");
    around(profile(which)?).ok_or_else(|| Failure::new(Exit::Unsupported, link()))
}

/// A model of `topology`, and the host of that name in it or, without a name, the first one.
///
/// # Errors
/// It cannot be modelled, or there is no such host.
pub fn system(topology: &Topology, host: Option<&str>) -> Result<(System, HostIndex), Failure> {
    let system = System::new(topology).map_err(|error| Failure::new(Exit::BadInput, error.to_string()))?;
    let found = host.map_or(Some(HostIndex(0)), |host| system.host(host));
    let known = system.hosts().join(", ");
    let host = found.filter(|host| usize::from(host.0) < system.hosts().len()).ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("no host {} in this topology: {known}", host.unwrap_or_default()))
    })?;
    Ok((system, host))
}

fn text(file: &str, missing: &str) -> Result<String, Failure> {
    match std::fs::read_to_string(Path::new(file)) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Failure::new(Exit::NotFound, missing.to_owned()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(Failure::new(Exit::BadInput, format!("{file}: this is not UTF-8 text")))
        }
        Err(error) => Err(Failure::from_io(format!("cannot read {file}"), &error)),
    }
}
