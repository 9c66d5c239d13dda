//! How long an access takes: device models built from a topology and its profiles.

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
