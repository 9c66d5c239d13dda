//! Accesses that were decoded before their turn.

use super::space::{Page, Space, is_whole};
use super::table::RegionIndex;
use super::work::Work;
use super::{Dependence, Machine};
use crate::cache::{CoreIndex, LookedAt};
use crate::trace::Access;

/// Accesses that are decoded together.
const AHEAD: usize = 24;

/// An access, and what its turn needs to know of it.
#[derive(Clone, Copy, Default)]
pub struct Next {
    /// Recorded time.
    pub at: u64,
    /// Work before it, picoseconds.
    pub work: u64,
    pub address: u64,
    /// Its address as the caches see it.
    pub short: u64,
    pub len: u32,
    /// Until [`finish`](Ahead::finish), the page.
    pub region: RegionIndex,
    pub write: bool,
    /// Whether it waits for the last load.
    pub dependent: bool,
}

/// Accesses in the order of the trace, filled when it is empty.
#[derive(Default)]
pub struct Ahead {
    accesses: [Next; AHEAD],
    at: usize,
    end: usize,
    /// The version of the memory in which their regions are right.
    version: u64,
    /// All their pages, one or another bit.
    pages: Page,
}

impl Ahead {
    #[inline]
    pub fn rest(&self) -> &[Next] {
        &self.accesses[self.at..self.end]
    }

    #[inline]
    pub const fn room(&self) -> usize {
        AHEAD - self.end
    }

    /// Begins anew, with accesses whose regions are looked up now.
    pub const fn restart(&mut self, space: &Space) {
        (self.at, self.end, self.version, self.pages) = (0, 0, space.version(), 0);
    }

    #[inline]
    pub fn push(&mut self, access: Next) {
        self.pages |= access.region;
        self.accesses[self.end] = access;
        self.end += 1;
    }

    /// Those that were pushed are all for now.
    #[inline]
    pub fn finish(&mut self, space: &Space) {
        if is_whole(self.pages) {
            return;
        }
        for access in &mut self.accesses[..self.end] {
            access.region = space.lookup_in(access.region, access.address);
        }
    }

    /// The first `count` are done.
    #[inline]
    pub const fn pass(&mut self, count: usize) {
        self.at += count;
    }

    /// Looks up the regions again if memory has changed.
    #[inline]
    pub fn follow<M>(&mut self, machine: &mut Machine<M>) {
        let version = machine.space.version();
        if self.version != version {
            self.version = version;
            for access in &mut self.accesses[self.at..self.end] {
                access.region = machine.space.lookup(access.address);
            }
        }
    }
}

impl<M> Machine<M> {
    /// As [`prepare`](Self::prepare), of an access that came alone.
    #[cold]
    #[inline(never)]
    pub fn prepare_alone(
        &mut self,
        access: &Access,
        core: CoreIndex,
        work: &mut Work,
        looked_at: &mut LookedAt,
    ) -> Next {
        self.prepare(access, core, work, looked_at)
    }

    /// Finds out what the turn of an access will need to know. Its place in the host's memory is asked for in time: the caches'
    /// tags and states take more room than the host's own caches have.
    #[inline(always)]
    pub fn prepare(&mut self, access: &Access, core: CoreIndex, work: &mut Work, looked_at: &mut LookedAt) -> Next {
        let &Access { at, address, len, write, dependent } = access;
        let short = self.compact.shorten(address);
        if looked_at.is_new(address) {
            self.caches.expect(core, short);
        }
        let dependent = match self.dependence {
            Dependence::Recorded => dependent,
            Dependence::All => true,
            Dependence::Never => false,
        };
        Next { at, work: work.until(at), address, short, len, region: self.space.expect(address), write, dependent }
    }
}
