//! Which accesses reach memory at all: the caches of a host.
//!
//! A [`Hierarchy`] holds tags and states, no data and no time: the caller says what a hit or a miss costs. It models
//!
//! - private levels of each core and, behind them, one level that all cores share (any number of private levels, the
//!   shared one may be left out);
//! - **replacement** by least recent use, exactly. Hardware approximates it (tree or RRIP policies) and hashes its
//!   shared level's sets, so working sets close to a level's size behave more abruptly here than there;
//! - **write-back and write-allocate**: a store that misses reads its line first; a dirty line is written to memory only
//!   when the last level lets go of it, or when it is flushed or cleaned;
//! - **neither inclusive nor exclusive** levels: a miss fills every level, a victim that is dirty moves one level down,
//!   one that is clean is forgotten, and what the shared level drops stays in the private ones. A line that was
//!   modified, passed down and modified again can be written to memory twice;
//! - **coherence between the cores** (MESI): a store takes the line from the other cores, a load of a line that another
//!   core has modified gets it through the shared level and marks it dirty there. Cores of *different* hosts are not
//!   kept in step here;
//! - an optional **stream prefetcher** of each core (see [`Prefetch`]).
//!
//! Addresses are what the caller says they are. With virtual ones the sets of the larger levels follow the address
//! space's layout, with physical or invented frames theirs.

mod ahead;
mod config;
mod flush;
mod hierarchy;
mod level;
mod near;
mod prefetch;
#[cfg(test)]
mod reference;
mod set;
#[cfg(test)]
mod tests;
mod visitors;

pub(crate) use ahead::LookedAt;
pub(crate) use config::LEVELS_MAX;
pub use config::{CacheConfig, CacheConfigError, LevelConfig, Prefetch};
pub use hierarchy::{CoreIndex, Hierarchy};

/// Bytes of a cache line, everywhere here.
pub const LINE: u64 = 64;

/// Where an access found its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// In this level, 1 for the first. A line that another core had modified counts as found in the last level.
    Hit(u8),
    /// In this level, and it is the first use of a line that the prefetcher brought: it may still be on its way.
    Prefetched(u8),
    /// Nowhere: it is read from memory, also for a store.
    Miss,
}

/// What the caches send to memory beside the line that a [`Lookup::Miss`] reads. Addresses are those of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    /// A dirty line is written.
    WriteBack(u64),
    /// The prefetcher reads a line.
    Prefetch(u64),
}

/// Takes the [`Traffic`] of an access, while the access is going on. Every `FnMut(Traffic)` does.
pub trait Memory {
    /// One line of traffic.
    fn traffic(&mut self, traffic: Traffic);
}

impl<F: FnMut(Traffic)> Memory for F {
    fn traffic(&mut self, traffic: Traffic) {
        self(traffic);
    }
}

/// How often what happened, in lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Accesses that found their line in level `i + 1`.
    pub hits: [u64; config::LEVELS_MAX],
    /// Accesses that read memory.
    pub misses: u64,
    /// Dirty lines written to memory.
    pub written_back: u64,
    /// Lines that the prefetcher read from memory.
    pub prefetched: u64,
    /// Lines taken away from other cores by a store.
    pub invalidated: u64,
}

impl CacheCounts {
    /// All accesses.
    pub fn accesses(&self) -> u64 {
        self.hits.iter().sum::<u64>() + self.misses
    }
}
