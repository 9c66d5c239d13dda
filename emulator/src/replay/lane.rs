//! A thread of the recorded program, as it goes through its stream again.

use std::collections::VecDeque;

use super::access::Accesses;
use super::ahead::Ahead;
use super::report::ThreadReport;
use super::table::Table;
use super::work::Work;
use super::{Machine, ReplayError};
use crate::cache::LookedAt;
use crate::model::Serve;
use crate::time::Time;
use crate::trace::{Catalog, Cursor, Error, Event, Events, ReadAt, StreamId};

/// A thread.
pub struct Lane<'t, S> {
    stream: StreamId,
    cursor: Cursor<'t, S>,
    events: Option<Events<Vec<u8>>>,
    /// Accesses that were decoded and not done yet.
    ahead: Ahead,
    looked_at: LookedAt,
    barrier: Option<Event>,
    /// Times of the barriers in the rest of this block, where other threads need to know.
    barriers: VecDeque<u64>,
    several: bool,
    /// Time of the block's last event.
    block_end: u64,
    ended: bool,
    /// Up to the last access that was decoded, or barrier that was passed.
    work: Work,
    accesses: Accesses,
    damage: Vec<Error>,
}

impl<'t, S: ReadAt> Lane<'t, S> {
    /// One at its beginning.
    pub fn new(
        stream: StreamId,
        cursor: Cursor<'t, S>,
        accesses: Accesses,
        work: Work,
        several: bool,
    ) -> Result<Self, ReplayError> {
        let mut lane = Self {
            stream,
            cursor,
            events: None,
            ahead: Ahead::default(),
            looked_at: LookedAt::default(),
            barrier: None,
            barriers: VecDeque::new(),
            several,
            block_end: 0,
            ended: false,
            work,
            accesses,
            damage: Vec::new(),
        };
        lane.next_block()?;
        Ok(lane)
    }

    fn next_block(&mut self) -> Result<(), ReplayError> {
        let block = self.cursor.next_block(self.events.take());
        self.damage.extend(self.cursor.take_damage());
        let Some((events, end)) = block? else {
            self.ended = true;
            self.block_end = u64::MAX;
            return Ok(());
        };
        if self.several {
            self.barriers = events.others().filter(is_barrier).map(|event| event.at()).collect();
        }
        self.block_end = end;
        self.events = Some(events);
        Ok(())
    }

    /// Its clock, picoseconds.
    pub const fn now(&self) -> u64 {
        self.accesses.clock.now
    }

    pub fn is_done(&self) -> bool {
        self.ended && self.ahead.rest().is_empty() && self.barrier.is_none()
    }

    pub const fn barrier(&self) -> Option<Event> {
        self.barrier
    }

    /// The barrier is done.
    pub fn pass_barrier(&mut self) {
        if let Some(event) = self.barrier.take() {
            self.barriers.pop_front();
            self.accesses.clock.now += self.work.until(event.at());
        }
    }

    /// The recorded time up to which there is no barrier.
    pub fn barrier_bound(&self) -> u64 {
        if self.is_done() { u64::MAX } else { self.barriers.front().copied().unwrap_or(self.block_end) }
    }

    /// The recorded time of the next event; `u64::MAX` if there is none.
    pub fn next_time<M>(&mut self, machine: &mut Machine<M>) -> Result<u64, ReplayError> {
        if self.ahead.rest().is_empty() && self.barrier.is_none() {
            self.decode(machine)?;
        }
        let access = self.ahead.rest().first().map(|access| access.at);
        Ok(access.or(self.barrier.map(|event| event.at())).unwrap_or(u64::MAX))
    }

    /// Goes on until it is past `limit` in virtual time, comes to a barrier or the end, or to an access that was recorded after
    /// `bound`. False if that is the next one already.
    pub fn run<M: Serve>(&mut self, machine: &mut Machine<M>, limit: u64, bound: u64) -> Result<bool, ReplayError> {
        let mut is_first = true;
        self.ahead.follow(machine);
        loop {
            let mut done = 0;
            for access in self.ahead.rest() {
                let is_past = self.accesses.clock.now > limit;
                if access.at > bound || is_past {
                    self.ahead.pass(done);
                    return Ok(done > 0 || !is_first || is_past);
                }
                self.accesses.access(machine, access);
                done += 1;
            }
            self.ahead.pass(done);
            is_first &= done == 0;
            self.decode(machine)?;
            if self.ahead.rest().is_empty() {
                return Ok(true);
            }
        }
    }

    /// Decodes the accesses that come next, or finds what else does. Those before it must be done.
    fn decode<M>(&mut self, machine: &mut Machine<M>) -> Result<(), ReplayError> {
        let core = self.accesses.core;
        self.ahead.restart(&machine.space);
        while !self.ended {
            let Self { ahead, looked_at, work, .. } = self;
            let Some(events) = &mut self.events else {
                self.next_block()?;
                continue;
            };
            events.accesses(ahead.room(), |access| ahead.push(machine.prepare(access, core, work, looked_at)));
            if !ahead.rest().is_empty() {
                ahead.finish(&machine.space);
                return Ok(());
            }
            match events.advance() {
                Some(Event::Access(access)) => ahead.push(machine.prepare_alone(&access, core, work, looked_at)),
                Some(event) if is_barrier(&event) => {
                    self.barrier = Some(event);
                    return Ok(());
                }
                // Samples and counts stand beside the accesses, not among them.
                Some(_) => {}
                None => self.next_block()?,
            }
        }
        Ok(())
    }

    /// Waits for all that is still on its way.
    pub fn finish(&mut self) {
        self.accesses.clock.drain(&mut self.accesses.table);
    }

    pub fn take_damage(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.damage)
    }

    pub const fn table(&self) -> &Table {
        &self.accesses.table
    }

    pub fn report(&self, catalog: &Catalog) -> ThreadReport {
        ThreadReport {
            stream: self.stream,
            name: catalog.stream(self.stream).map_or(String::new(), |(_, name)| name.to_owned()),
            count: self.accesses.table.total(),
            work: Time(self.work.total),
            lost_to_caches: Time(self.accesses.clock.lost_to_caches),
            end: Time(self.accesses.clock.now),
        }
    }
}

/// Whether an event changes where memory is.
const fn is_barrier(event: &Event) -> bool {
    matches!(event, Event::Allocate(_) | Event::Free(_) | Event::Reallocate(_) | Event::Place(_))
}
