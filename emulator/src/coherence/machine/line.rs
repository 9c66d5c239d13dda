//! A line of the pool, and what a host has of it.

use super::super::history::{Content, StoreId, Write, mix};
use super::flush::PendingFlush;
use crate::cache::LINE;

/// Contents that a line of the pool had at some time.
#[derive(Clone, Debug)]
pub(in super::super) struct Version {
    pub(in super::super) content: Content,
    /// Who wrote it; `None` for what was there before the run.
    pub(in super::super) writer: Option<u8>,
    /// One bit for each byte that the writer meant to write; the others came along with the line.
    pub(in super::super) meant: u64,
    /// The line's hash once it was there.
    pub(in super::super) hash: u64,
}

/// A line of the pool.
#[derive(Clone, Debug)]
pub(in super::super) struct Line {
    pub(in super::super) coherent: bool,
    /// All contents that it has had, the newest last; never empty.
    versions: Vec<Version>,
    /// Every store to it, in the order of execution.
    pub(in super::super) stores: Vec<(StoreId, u8, u8)>,
    /// One bit for each host that has used it.
    pub(in super::super) users: u8,
    /// One bit for each host that has used it atomically.
    pub(in super::super) atomic_users: u8,
    pub(in super::super) poison: Poison,
    /// Coherent lines: the version that the pool itself holds, and who holds a newer one.
    pub(in super::super) persisted: usize,
    pub(in super::super) owner: Option<u8>,
    pub(in super::super) hash: u64,
}

/// Whether a line is poisoned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum Poison {
    #[default]
    No,
    /// It is, and nobody knows.
    Hidden,
    /// This host has been told, at this operation of its.
    Known { host: u8, index: u32 },
}

impl Line {
    pub(in super::super) fn new() -> Self {
        Self {
            coherent: false,
            versions: vec![Version { content: Content::ZERO, writer: None, meant: 0, hash: 0 }],
            stores: Vec::new(),
            users: 0,
            atomic_users: 0,
            poison: Poison::No,
            persisted: 0,
            owner: None,
            hash: 0,
        }
    }

    /// As `new`, without giving the memory back.
    pub(in super::super) fn reset(&mut self) {
        self.coherent = false;
        self.versions.truncate(1);
        self.versions[0].content = Content::ZERO;
        self.stores.clear();
        self.users = 0;
        self.atomic_users = 0;
        self.poison = Poison::No;
        self.persisted = 0;
        self.owner = None;
        self.hash = 0;
    }

    /// Number of the newest version.
    #[expect(clippy::cast_possible_truncation, reason = "bounded by the steps of a run")]
    pub(in super::super) fn latest(&self) -> u32 {
        self.versions.len() as u32 - 1
    }

    pub(in super::super) fn newest(&self) -> &Version {
        self.version(self.latest())
    }

    pub(in super::super) fn version(&self, number: u32) -> &Version {
        &self.versions[number as usize]
    }

    /// Bytes before the run.
    pub(in super::super) fn initial(&mut self) -> &mut [u8; LINE as usize] {
        &mut self.versions[0].content.data
    }

    pub(super) fn push(&mut self, mut version: Version, identity: u64) {
        let writer = version.writer.map_or(u64::MAX, u64::from);
        self.hash = mix(mix(self.hash, writer), identity);
        version.hash = self.hash;
        self.versions.push(version);
    }

    /// The first store to a byte after this one.
    pub(in super::super) fn next_store(&self, byte: usize, after: StoreId) -> Option<StoreId> {
        let covers = |&&(id, start, len): &&(StoreId, u8, u8)| {
            id > after && (usize::from(start)..usize::from(start) + usize::from(len)).contains(&byte)
        };
        self.stores.iter().find(covers).map(|&(id, _, _)| id)
    }
}

/// A line that a host has changed in its cache.
#[derive(Clone, Debug)]
pub(in super::super) struct Dirty {
    /// The line as it was fetched.
    pub(in super::super) base: Content,
    /// Which version that was.
    pub(in super::super) base_version: u32,
    /// Whether its stores may still be on their way to the cache, so that the line may be fetched anew under them.
    pub(in super::super) open: bool,
    /// What was stored since, in order.
    pub(in super::super) writes: Vec<Write>,
    /// The base with all stores.
    pub(in super::super) content: Content,
}

/// What a host has of a line.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Private {
    /// The oldest version that it may still see: it has seen this one, or invalidated the line when this was the newest.
    pub(in super::super) floor: u32,
    pub(in super::super) dirty: Option<Box<Dirty>>,
    pub(in super::super) pending: Option<PendingFlush>,
}

impl Private {
    pub(in super::super) fn fresh(floor: u32) -> Self {
        Self { floor, dirty: None, pending: None }
    }
}
