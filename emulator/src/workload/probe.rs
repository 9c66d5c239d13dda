//! `tierctl probe` in virtual time: what a tier looks like from outside, and whether that is what its profile says.
//!
//! The workload is that of the probe on real hardware: one thread follows pointers while others read with pauses. There,
//! they read 4 KiB at a time and a pause is a number of spins; here, they read 256 bytes at a time and begin at fixed
//! times, so that the load is even and what it is meant to be.

mod expect;
mod measure;

pub use expect::{Check, Expected, expected};
pub use measure::{Copied, Loaded, LoadedPoint, Probed, probe, probe_at};

use crate::model::{HostIndex, ModelError, System, TierIndex};
use tiermem_topology::Topology;

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
