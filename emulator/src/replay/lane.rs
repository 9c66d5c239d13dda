//! A thread of the recorded program, as it goes through its stream again.

use std::collections::VecDeque;

use super::ahead::Ahead;
use super::clock::{Cause, ThreadClock};
use super::report::ThreadReport;
use super::table::{RegionIndex, Table};
use super::{Dependence, Machine, ReplayError};
use crate::cache::{CoreIndex, LINE, LookedAt, Lookup, Traffic};
use crate::model::{Direction, Request, Serve};
use crate::time::Time;
use crate::trace::{Access, Catalog, Cursor, Error, Event, Events, ReadAt, StreamId};

/// Why a thread stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is ahead of the others in virtual time.
    Ahead,
    /// Its next access was recorded after something that another thread has still to do.
    Recorded,
    /// It is to allocate or free.
    Barrier,
    /// It has ended.
    End,
}

/// A thread.
pub struct Lane<'t, S> {
    stream: StreamId,
    core: CoreIndex,
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
    /// Recorded time of the last event.
    tick: u64,
    passed: u64,
    work: u64,
    /// Work of less than a picosecond.
    fraction: f64,
    clock: ThreadClock,
    table: Table,
    traffic: Vec<Traffic>,
    /// Lines that the prefetcher asked for, and when they come.
    prefetches: Vec<(u64, u64)>,
    damage: Vec<Error>,
}

impl<'t, S: ReadAt> Lane<'t, S> {
    /// One at its beginning.
    pub fn new(
        stream: StreamId,
        core: CoreIndex,
        cursor: Cursor<'t, S>,
        start: u64,
        several: bool,
    ) -> Result<Self, ReplayError> {
        let mut lane = Self {
            stream,
            core,
            cursor,
            events: None,
            ahead: Ahead::default(),
            looked_at: LookedAt::default(),
            barrier: None,
            barriers: VecDeque::new(),
            several,
            block_end: 0,
            ended: false,
            tick: start,
            passed: 0,
            work: 0,
            fraction: 0.0,
            clock: ThreadClock::new(),
            table: Table::default(),
            traffic: Vec::new(),
            prefetches: Vec::new(),
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

    pub const fn now(&self) -> u64 {
        self.clock.now
    }

    pub const fn passed(&self) -> u64 {
        self.passed
    }

    pub fn is_done(&self) -> bool {
        self.ended && self.ahead.first().is_none() && self.barrier.is_none()
    }

    pub const fn barrier(&self) -> Option<Event> {
        self.barrier
    }

    /// The barrier has been done.
    pub fn pass_barrier(&mut self) {
        self.barrier = None;
        self.barriers.pop_front();
        self.passed += 1;
    }

    /// The recorded time up to which there is no barrier.
    pub fn barrier_bound(&self) -> u64 {
        if self.is_done() { u64::MAX } else { self.barriers.front().copied().unwrap_or(self.block_end) }
    }

    /// The recorded time of the next event; `u64::MAX` if there is none.
    pub fn next_time(&mut self) -> Result<u64, ReplayError> {
        if let Some(access) = self.ahead.first() {
            return Ok(access.at);
        }
        if let Some(event) = &self.barrier {
            return Ok(event.at());
        }
        self.look()?;
        Ok(self.ahead.first().map(|access| access.at).or(self.barrier.map(|event| event.at())).unwrap_or(u64::MAX))
    }

    /// Finds the next event.
    fn look(&mut self) -> Result<(), ReplayError> {
        while !self.ended {
            match self.events.as_mut().and_then(Events::advance) {
                Some(Event::Access(access)) => {
                    self.ahead.push(access);
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

    /// Goes on until it is past `limit` in virtual time, or an access was recorded after `bound`.
    pub fn run<M: Serve>(&mut self, machine: &mut Machine<M>, limit: u64, bound: u64) -> Result<Stop, ReplayError> {
        loop {
            let Some(&access) = self.ahead.first() else {
                self.decode(machine)?;
                match self.ahead.first() {
                    Some(_) => continue,
                    None if self.barrier.is_some() => return Ok(Stop::Barrier),
                    None => return Ok(Stop::End),
                }
            };
            if access.at > bound || self.clock.now > limit {
                return Ok(if self.clock.now > limit { Stop::Ahead } else { Stop::Recorded });
            }
            self.ahead.pop();
            self.passed += 1;
            self.access(machine, &access);
        }
    }

    /// Decodes the accesses that come next, or finds what else does. Their place in the host's memory is asked for in time: the
    /// caches' tags and states take more room than the host's own caches have.
    fn decode<M: Serve>(&mut self, machine: &mut Machine<M>) -> Result<(), ReplayError> {
        self.look()?;
        let Some(access) = self.ahead.first() else { return Ok(()) };
        machine.expect(self.core, access.address);
        let (ahead, looked_at) = (&mut self.ahead, &mut self.looked_at);
        if let Some(events) = &mut self.events {
            events.accesses(ahead.room(), |access| {
                if looked_at.is_new(access.address) {
                    machine.expect(self.core, access.address);
                }
                ahead.push(*access);
            });
        }
        Ok(())
    }

    /// Works until the recorded time `tick`.
    #[inline]
    pub fn work_until(&mut self, tick: u64, ps_per_tick: f64) {
        let ticks = tick.saturating_sub(self.tick);
        if ticks == 0 {
            return;
        }
        self.tick += ticks;
        let (whole, rest) = split(ticks, ps_per_tick, self.fraction);
        self.fraction = rest;
        self.work += whole;
        self.clock.now += whole;
    }

    #[inline]
    fn access<M: Serve>(&mut self, machine: &mut Machine<M>, access: &Access) {
        self.work_until(access.at, machine.ps_per_tick);
        let dependent = match machine.dependence {
            Dependence::Recorded => access.dependent,
            Dependence::All => true,
            Dependence::Never => false,
        };
        if dependent {
            let (ready, from) = (self.clock.ready, self.clock.ready_from);
            self.clock.wait(ready, from, &mut self.table);
        }
        self.clock.begin(machine.window, &mut self.table);
        let region = machine.space.lookup(access.address);
        self.table.of(region).accesses += 1;
        let mut line = access.address & !(LINE - 1);
        let last = access.address.saturating_add(u64::from(access.len.max(1)) - 1) & !(LINE - 1);
        self.line(machine, line, region, access.write);
        while line < last {
            line += LINE;
            let region = machine.space.lookup(line);
            self.line(machine, line, region, access.write);
        }
    }

    #[inline]
    fn line<M: Serve>(&mut self, machine: &mut Machine<M>, line: u64, region: RegionIndex, write: bool) {
        let traffic = &mut self.traffic;
        let short = machine.compact.shorten(line);
        let found = machine.caches.access(self.core, short, write, &mut |one| traffic.push(one));
        let (ready, from) = match found {
            Lookup::Hit(level) => {
                let hit = (self.clock.now + machine.hit_ps[usize::from(level)], Cause::Cache);
                self.clock.on_its_way(line).unwrap_or(hit)
            }
            Lookup::Prefetched(level) => self.prefetched(line, machine.hit_ps[usize::from(level)], region),
            Lookup::Miss => {
                self.clock.make_room(machine.outstanding, &mut self.table);
                let done = machine.send(self.clock.now, line, region, Direction::Read);
                self.clock.ask(line, done, region);
                self.table.of(region).misses += 1;
                (done, Cause::Region(region))
            }
        };
        if !write {
            (self.clock.ready, self.clock.ready_from) = (ready, from);
        }
        if !self.traffic.is_empty() {
            self.send_traffic(machine);
        }
    }

    /// The first use of a line that the prefetcher has asked for: it may still be on its way.
    fn prefetched(&mut self, line: u64, hit_ps: u64, region: RegionIndex) -> (u64, Cause) {
        let hit = self.clock.now + hit_ps;
        let Some(at) = self.prefetches.iter().position(|&(there, _)| there == line) else { return (hit, Cause::Cache) };
        let (_, done) = self.prefetches.swap_remove(at);
        if done > hit { (done, Cause::Region(region)) } else { (hit, Cause::Cache) }
    }

    #[cold]
    fn send_traffic<M: Serve>(&mut self, machine: &mut Machine<M>) {
        let now = self.clock.now;
        for one in self.traffic.drain(..) {
            match one {
                Traffic::WriteBack(short) => {
                    let line = machine.compact.lengthen(short);
                    let region = machine.space.lookup(line);
                    machine.send(now, line, region, Direction::Write);
                    self.table.of(region).written_back += 1;
                }
                Traffic::Prefetch(short) => {
                    let line = machine.compact.lengthen(short);
                    let region = machine.space.lookup(line);
                    let done = machine.send(now, line, region, Direction::Read);
                    self.table.of(region).prefetched += 1;
                    self.prefetches.push((line, done));
                }
            }
        }
        if self.prefetches.len() > PREFETCHES_MAX {
            // What came long ago and was never used is in no hurry.
            self.prefetches.retain(|&(_, done)| done > now);
        }
    }

    /// Waits for all that is still on its way.
    pub fn finish(&mut self) {
        self.clock.drain(&mut self.table);
    }

    pub fn take_damage(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.damage)
    }

    pub const fn table(&self) -> &Table {
        &self.table
    }

    pub fn report(&self, catalog: &Catalog) -> ThreadReport {
        ThreadReport {
            stream: self.stream,
            name: catalog.stream(self.stream).map_or(String::new(), |(_, name)| name.to_owned()),
            count: self.table.total(),
            work: Time(self.work),
            lost_to_caches: Time(self.clock.lost_to_caches),
            end: Time(self.clock.now),
        }
    }
}

/// Beyond so many lines on their way for the prefetcher, old ones are forgotten.
const PREFETCHES_MAX: usize = 256;

/// `ticks * ps_per_tick + fraction` as whole picoseconds, and the rest.
#[inline]
fn split(ticks: u64, ps_per_tick: f64, fraction: f64) -> (u64, f64) {
    // The same twice, but for the range of the conversions: narrow ones take an instruction each.
    if let Ok(ticks) = u32::try_from(ticks) {
        let exact = f64::from(ticks) * ps_per_tick + fraction;
        if exact < f64::from(i32::MAX) {
            #[expect(clippy::cast_possible_truncation, reason = "just compared")]
            let whole = exact as i32;
            return (u64::from(whole.cast_unsigned()), exact - f64::from(whole));
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a gap of 2^53 ticks is none")]
    let exact = ticks as f64 * ps_per_tick + fraction;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is meant")]
    let whole = exact as u64;
    #[expect(clippy::cast_precision_loss, reason = "as above")]
    let rest = exact - whole as f64;
    (whole, rest)
}

/// Whether an event changes where memory is.
fn is_barrier(event: &Event) -> bool {
    matches!(event, Event::Allocate(_) | Event::Free(_) | Event::Reallocate(_) | Event::Place(_))
}

impl<M: Serve> Machine<M> {
    #[inline]
    fn expect(&mut self, core: CoreIndex, address: u64) {
        let short = self.compact.shorten(address);
        self.caches.expect(core, short);
    }

    /// Sends a line to or from memory; when that is done.
    #[inline]
    fn send(&mut self, at: u64, line: u64, region: RegionIndex, direction: Direction) -> u64 {
        let tier = self.space.describe(region).tier;
        let offset = match self.capacities.get(usize::from(tier.0)).copied().unwrap_or(0) {
            0 => line,
            // Dividing takes longer than all the rest of this.
            capacity if capacity.is_power_of_two() => line & (capacity - 1),
            capacity => line % capacity,
        };
        let request = Request { host: self.host, tier, direction, offset, len: LINE as u32 };
        self.memory.serve(Time(at), request).0
    }
}
