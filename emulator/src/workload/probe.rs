//! `tierctl probe` in virtual time: what a tier looks like from outside, and whether that is what its profile says.
//!
//! The workload is that of the probe on real hardware: one thread follows pointers while others read with pauses. There,
//! they read 4 KiB at a time and a pause is a number of spins; here, they read 256 bytes at a time and begin at fixed
//! times, so that the load is even and what it is meant to be.

mod expect;
mod measure;

pub use expect::{Check, Expected, expected};
pub use measure::{Copied, Loaded, LoadedPoint, Probed, probe, probe_at};

use tiermem_tiers::Bytes;
use tiermem_topology::{Device, DeviceKind, Exposure, Host, Link, Persistence, Profile, ProfileFigures, Topology};

use crate::model::{HostIndex, ModelError, System, TierIndex};

/// Probes `tier` in a model of `topology` and compares it with the profiles there: every figure, and every point of the
/// loaded-latency curve.
///
/// # Errors
/// Where the topology cannot be modelled.
///
/// # Panics
/// If `host` has no way to `tier`.
pub fn fidelity(topology: &Topology, host: HostIndex, tier: TierIndex) -> Result<Vec<Check>, ModelError> {
    let system = System::new(topology)?;
    let expected = expected(topology, &system, host, tier)?;
    Ok(expected.compare(&system, host, tier))
}

/// A machine with nothing but a host and, directly attached, one device of this profile, `device`. `None` for a link,
/// which holds nothing.
pub fn around(profile: Profile) -> Option<Topology> {
    let kind = match profile.figures {
        ProfileFigures::Memory(_) => DeviceKind::Cxl,
        ProfileFigures::Nvme(_) => DeviceKind::Nvme,
        ProfileFigures::Gpu(_) => DeviceKind::Gpu,
        _ => return None,
    };
    let device = Device {
        name: "device".to_owned(),
        kind,
        capacity: Bytes(64 << 30),
        profile: profile.name.clone(),
        exposure: Exposure::Node,
        persistence: Persistence::Volatile,
    };
    Some(Topology {
        name: profile.name.clone(),
        description: profile.description.clone(),
        hosts: vec![Host { name: "host".to_owned() }],
        devices: vec![device],
        links: vec![Link { from: "host".to_owned(), to: "device".to_owned(), profile: None }],
        profiles: vec![profile],
        ..Topology::default()
    })
}
