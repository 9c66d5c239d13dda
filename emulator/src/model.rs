//! How long an access takes: device models built from a topology and its profiles.
//!
//! A [`System`] is built from a [`Topology`](tiermem_topology::Topology) and serves requests one by one:
//!
//! ```text
//!  host ──► link ──► switch port ──► link ──► device        each arrow: a latency, and a lane with a bandwidth for each
//!   ▲                                           │           direction, shared by everything that passes it
//!   └───────────────────────────────────────────┘
//! ```
//!
//! - A **lane** admits as many bytes a second as the profile says. Whoever comes when it is full waits.
//! - **Memory** answers after its idle latency, multiplied by the profile's curve at the utilisation that the last few
//!   microseconds had. In a steady state that is the curve itself, not an approximation of it. What the curve adds is
//!   the waiting that goes with a load, so a backlog counts only where it is longer than that.
//! - **NVMe** is a queue with as many servers as commands may be in flight, behind limits of bandwidth and of commands
//!   a second.
//! - A **GPU** is reached through copy engines, each of which does one copy at a time.
//!
//! Time is counted in whole picoseconds and nothing is drawn by chance: the same requests in the same order give the
//! same times on every machine. `docs/models.md` says what is left out.

mod error;
mod gpu;
mod interleave;
mod lane;
mod memory;
mod nvme;
mod route;
mod system;

pub use error::ModelError;
pub use interleave::Interleave;
pub use system::{System, TierInfo, Way};

use crate::time::Time;

/// Number of a host in a topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostIndex(pub u16);

/// Number of a tier: a node, a device, an interleave set or a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TierIndex(pub u16);

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Towards the host.
    Read,
    /// Towards the memory.
    Write,
}

/// One access to memory, after the caches: what a host sends to a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub host: HostIndex,
    /// Where.
    pub tier: TierIndex,
    /// What.
    pub direction: Direction,
    /// Offset in the tier, bytes.
    pub offset: u64,
    /// How much: a line of 64 for loads and stores, more for copies.
    pub len: u32,
}

/// Serves requests in virtual time. Calls come in any order of hosts and tiers, with `at` rising or nearly so.
pub trait Serve {
    /// When the request that leaves its host at `at` is done.
    fn serve(&mut self, at: Time, request: Request) -> Time;
}
