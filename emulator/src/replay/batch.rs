//! Accesses that were decoded before their turn.

use super::space::{Page, is_whole};
use super::table::RegionIndex;
use super::work::Work;
use super::{Dependence, Machine};
use crate::cache::{CoreIndex, LINE, LookedAt, Lookup};
use crate::trace::{Access, Events};

/// Accesses that are decoded together.
const AHEAD: usize = 24;

/// A line that an access touches, and what its turn needs to know.
#[derive(Clone, Copy, Default)]
pub struct Touch {
    /// Recorded time.
    pub at: u64,
    /// Work before it, picoseconds.
    pub work: u64,
    /// The first byte that is accessed.
    pub address: u64,
    /// The same as the caches are told.
    pub short: u64,
    /// Bytes of the access from here on.
    pub len: u32,
    /// Until all are prepared, the page.
    pub region: RegionIndex,
    /// How many lines the caches have sent or asked for on the side up to here, of those that were looked for together.
    pub asides: u32,
    /// What the caches said.
    pub found: Found,
    pub write: bool,
    /// Whether it waits for the last load.
    pub dependent: bool,
}

impl Touch {
    /// The first line of an access; where that lies is still to be found out. The parts are written one by one: what is read as it
    /// was written can be read at once.
    #[inline(always)]
    const fn set(&mut self, access: &Access) {
        (self.at, self.address, self.len) = (access.at, access.address, access.len);
        (self.write, self.dependent) = (access.write, access.dependent);
    }

    /// The line.
    #[inline(always)]
    pub const fn line(&self) -> u64 {
        self.address & !(LINE - 1)
    }

    /// Whether the access goes on in the next line.
    #[inline(always)]
    pub const fn crosses(&self) -> bool {
        self.address % LINE + self.len as u64 > LINE
    }
}

/// A [`Lookup`] in a byte, which is written and read as a whole.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Found(u8);

const PREFETCHED: u8 = 0x80;

impl From<Lookup> for Found {
    #[inline(always)]
    fn from(lookup: Lookup) -> Self {
        match lookup {
            Lookup::Hit(level) => Self(level),
            Lookup::Prefetched(level) => Self(level | PREFETCHED),
            Lookup::Miss => Self(0),
        }
    }
}

impl Found {
    #[inline(always)]
    pub const fn lookup(self) -> Lookup {
        match self.0 {
            0 => Lookup::Miss,
            level if level & PREFETCHED == 0 => Lookup::Hit(level),
            level => Lookup::Prefetched(level & !PREFETCHED),
        }
    }
}

/// Accesses in the order of the trace, filled when it is empty.
#[derive(Default)]
pub struct Batch {
    /// The first line of each.
    touches: [Touch; AHEAD],
    at: usize,
    end: usize,
    /// The version of the memory in which their regions are right.
    version: u64,
    looked_at: LookedAt,
    /// Whether one of them crosses lines.
    crosses: bool,
}

impl Batch {
    /// Those that are still to be done.
    #[inline(always)]
    pub fn rest(&mut self) -> &mut [Touch] {
        &mut self.touches[self.at..self.end]
    }

    /// Those of them up to the first one that crosses lines, or all.
    #[inline(always)]
    pub fn next_few(&mut self) -> &mut [Touch] {
        let crosses = self.crosses;
        let rest = self.rest();
        let crossing = if crosses { rest.iter().position(Touch::crosses) } else { None };
        let count = crossing.map_or(rest.len(), |at| at + 1);
        &mut rest[..count]
    }

    /// The next one.
    pub fn first(&self) -> Option<&Touch> {
        self.touches[self.at..self.end].first()
    }

    /// The first `count` are done.
    #[inline]
    pub const fn pass(&mut self, count: usize) {
        self.at += count;
    }

    /// Decodes the plain accesses that come next, and finds out what their turns will need to know. Nothing may be left of those
    /// before.
    ///
    /// A line's place in the host's memory is asked for in time: the caches' tags and states take more room than the host's own
    /// caches have.
    #[inline(always)]
    pub fn decode<B: AsRef<[u8]>, M, const N: usize>(
        &mut self,
        events: &mut Events<B>,
        machine: &mut Machine<M, N>,
        core: CoreIndex,
        work: &mut Work,
    ) {
        let mut end = 0;
        events.accesses(AHEAD, |access| {
            self.touches[end % AHEAD].set(access);
            end += 1;
        });
        self.prepare(end, machine, core, work);
    }

    /// Takes in an access that came alone. Nothing may be left of those before.
    pub fn take_in<M, const N: usize>(
        &mut self,
        access: &Access,
        machine: &mut Machine<M, N>,
        core: CoreIndex,
        work: &mut Work,
    ) {
        self.touches[0].set(access);
        self.prepare(1, machine, core, work);
    }

    #[inline(always)]
    fn prepare<M, const N: usize>(
        &mut self,
        end: usize,
        machine: &mut Machine<M, N>,
        core: CoreIndex,
        work: &mut Work,
    ) {
        let Machine { caches, space, dependence, .. } = machine;
        (self.at, self.end, self.version) = (0, end, space.version());
        let touches = &mut self.touches[..end];
        let outlook = caches.outlook(core);
        // All pages, one or another bit.
        let mut pages: Page = 0;
        self.crosses = false;
        for touch in &mut *touches {
            touch.work = work.until(touch.at);
            (touch.region, touch.short) = space.locate(touch.address);
            pages |= touch.region;
            self.crosses |= touch.crosses();
            if self.looked_at.is_new(touch.address) {
                outlook.expect(touch.short);
            }
        }
        if !is_whole(pages) {
            touches.iter_mut().for_each(|touch| touch.region = space.lookup_in(touch.region, touch.address));
        }
        match dependence {
            Dependence::Recorded => {}
            Dependence::All => touches.iter_mut().for_each(|touch| touch.dependent = true),
            Dependence::Never => touches.iter_mut().for_each(|touch| touch.dependent = false),
        }
    }

    /// Looks up the regions again if memory has changed.
    #[inline]
    pub fn follow<M, const N: usize>(&mut self, machine: &mut Machine<M, N>) {
        let version = machine.space.version();
        if self.version != version {
            self.version = version;
            for touch in &mut self.touches[self.at..self.end] {
                touch.region = machine.space.lookup(touch.address);
            }
        }
    }
}
