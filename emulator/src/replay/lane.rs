//! A thread of the recorded program, as it goes through its stream again.

use std::collections::VecDeque;

use super::access::Accesses;
use super::batch::Batch;
use super::report::ThreadReport;
use super::table::Table;
use super::work::Work;
use super::{Machine, ReplayError};
use crate::model::Serve;
use crate::time::Time;
use crate::trace::{Catalog, Cursor, Error, Event, Events, ReadAt, StreamId};

/// A thread.
pub struct Lane<'t, S, const N: usize> {
    stream: StreamId,
    cursor: Cursor<'t, S>,
    events: Option<Events<Vec<u8>>>,
    /// Accesses that were decoded and not done yet.
    batch: Batch,
    barrier: Option<Event>,
    /// Times of the barriers in the rest of this block, where other threads need to know.
    barriers: VecDeque<u64>,
    several: bool,
    /// Time of the block's last event.
    block_end: u64,
    ended: bool,
    /// Up to the last access that was decoded, or barrier that was passed.
    work: Work,
    accesses: Accesses<N>,
    damage: Vec<Error>,
}

impl<'t, S: ReadAt, const N: usize> Lane<'t, S, N> {
    /// One at its beginning.
    pub fn new(
        stream: StreamId,
        cursor: Cursor<'t, S>,
        accesses: Accesses<N>,
        work: Work,
        several: bool,
    ) -> Result<Self, ReplayError> {
        let mut lane = Self {
            stream,
            cursor,
            events: None,
            batch: Batch::default(),
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

    /// Its clock, picoseconds; of several placements the first one's.
    pub const fn now(&self) -> u64 {
        self.accesses.waits[0].clock.now
    }

    pub fn is_done(&self) -> bool {
        self.ended && self.batch.first().is_none() && self.barrier.is_none()
    }

    pub const fn barrier(&self) -> Option<Event> {
        self.barrier
    }

    /// The barrier is done.
    pub fn pass_barrier(&mut self) {
        if let Some(event) = self.barrier.take() {
            self.barriers.pop_front();
            let work = self.work.until(event.at());
            self.accesses.waits.iter_mut().for_each(|waits| waits.clock.now += work);
        }
    }

    /// The recorded time up to which there is no barrier.
    pub fn barrier_bound(&self) -> u64 {
        if self.is_done() { u64::MAX } else { self.barriers.front().copied().unwrap_or(self.block_end) }
    }

    /// The recorded time of the next event; `u64::MAX` if there is none.
    pub fn next_time<M>(&mut self, machine: &mut Machine<M, N>) -> Result<u64, ReplayError> {
        if self.batch.first().is_none() && self.barrier.is_none() {
            self.decode(machine)?;
        }
        let access = self.batch.first().map(|touch| touch.at);
        Ok(access.or(self.barrier.map(|event| event.at())).unwrap_or(u64::MAX))
    }

    /// Goes on until it comes to a barrier or the end.
    pub fn run_alone<M: Serve>(&mut self, machine: &mut Machine<M, N>) -> Result<(), ReplayError> {
        self.batch.follow(machine);
        loop {
            while self.batch.first().is_some() {
                let touches = self.batch.next_few();
                self.accesses.go_through(machine, touches);
                let done = touches.len();
                self.batch.pass(done);
            }
            self.decode(machine)?;
            if self.batch.first().is_none() {
                return Ok(());
            }
        }
    }

    /// Goes on until it is past `limit` in virtual time, comes to a barrier or the end, or to an access that was recorded after
    /// `bound`. False if that is the next one already.
    pub fn run<M: Serve>(&mut self, machine: &mut Machine<M, N>, limit: u64, bound: u64) -> Result<bool, ReplayError> {
        let mut is_first = true;
        self.batch.follow(machine);
        loop {
            let mut done = 0;
            for touch in self.batch.rest() {
                let is_past = self.accesses.waits[0].clock.now > limit;
                if touch.at > bound || is_past {
                    self.batch.pass(done);
                    return Ok(done > 0 || !is_first || is_past);
                }
                self.accesses.go_through(machine, std::slice::from_mut(touch));
                done += 1;
            }
            self.batch.pass(done);
            is_first &= done == 0;
            self.decode(machine)?;
            if self.batch.first().is_none() {
                return Ok(true);
            }
        }
    }

    /// Decodes the accesses that come next, or finds what else does. Those before it must be done.
    fn decode<M>(&mut self, machine: &mut Machine<M, N>) -> Result<(), ReplayError> {
        while !self.ended {
            let Self { batch, work, accesses, .. } = self;
            let Some(events) = &mut self.events else {
                self.next_block()?;
                continue;
            };
            batch.decode(events, machine, accesses.core, work);
            if batch.first().is_some() {
                return Ok(());
            }
            match events.advance() {
                Some(Event::Access(access)) => {
                    batch.take_in(&access, machine, accesses.core, work);
                    return Ok(());
                }
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
        self.accesses.waits.iter_mut().for_each(|waits| waits.clock.drain());
    }

    pub fn take_damage(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.damage)
    }

    /// What it did, and what it waited for as one of the placements has it.
    pub fn table(&self, placement: usize) -> Table {
        let mut table = self.accesses.table.clone();
        for (region, ps) in self.accesses.waits[placement].clock.lost().filter(|(_, ps)| *ps > 0) {
            table.of(region).lost_ps += ps;
        }
        table
    }

    /// The same in short; `table` is its [table](Self::table).
    pub fn report(&self, placement: usize, table: &Table, catalog: &Catalog) -> ThreadReport {
        let clock = &self.accesses.waits[placement].clock;
        ThreadReport {
            stream: self.stream,
            name: catalog.stream(self.stream).map_or(String::new(), |(_, name)| name.to_owned()),
            count: table.total(),
            work: Time(self.work.total),
            lost_to_caches: Time(clock.lost_to_caches),
            end: Time(clock.now),
        }
    }
}

/// Whether an event changes where memory is.
const fn is_barrier(event: &Event) -> bool {
    matches!(event, Event::Allocate(_) | Event::Free(_) | Event::Reallocate(_) | Event::Place(_))
}
