//! A thread's accesses, one after the other.

use super::Machine;
use super::ahead::Next;
use super::clock::{Cause, ThreadClock};
use super::table::{RegionIndex, Table};
use crate::cache::{CoreIndex, LINE, Lookup, Traffic};
use crate::model::{Direction, Request, Serve};
use crate::time::Time;

/// Beyond so many lines on their way for the prefetcher, old ones are forgotten.
const PREFETCHES_MAX: usize = 256;

/// What accesses change of a thread.
pub struct Accesses {
    pub core: CoreIndex,
    pub clock: ThreadClock,
    pub table: Table,
    traffic: Vec<Traffic>,
    /// Lines that the prefetcher asked for, and when they come.
    prefetches: Vec<(u64, u64)>,
}

impl Accesses {
    /// None so far.
    pub fn new(core: CoreIndex, clock: ThreadClock) -> Self {
        let table = Table::default();
        Self { core, clock, table, traffic: Vec::new(), prefetches: Vec::new() }
    }

    /// Does one.
    #[inline(always)]
    pub fn access<M: Serve>(&mut self, machine: &mut Machine<M>, next: &Next) {
        self.clock.now += next.work;
        if next.dependent {
            let (ready, from) = (self.clock.ready, self.clock.ready_from);
            self.clock.wait(ready, from, &mut self.table);
        }
        self.clock.begin(&mut self.table);
        self.table.of(next.region).accesses += 1;
        self.line(machine, next.address & !(LINE - 1), next.short, next.region, next.write);
        if next.address % LINE + u64::from(next.len) > LINE {
            self.further_lines(machine, next);
        }
    }

    /// The lines behind the first one of an access that crosses lines.
    #[cold]
    #[inline(never)]
    fn further_lines<M: Serve>(&mut self, machine: &mut Machine<M>, next: &Next) {
        let mut line = next.address & !(LINE - 1);
        let last = next.address.saturating_add(u64::from(next.len) - 1) & !(LINE - 1);
        while line < last {
            line += LINE;
            let region = machine.space.lookup(line);
            let short = machine.compact.shorten(line);
            self.line(machine, line, short, region, next.write);
        }
    }

    #[inline(always)]
    fn line<M: Serve>(&mut self, machine: &mut Machine<M>, line: u64, short: u64, region: RegionIndex, write: bool) {
        let traffic = &mut self.traffic;
        let found = machine.caches.access(self.core, short, write, &mut |one| traffic.push(one));
        let (ready, from) = match found {
            Lookup::Hit(level) => {
                let hit = (self.clock.now + machine.hit_ps[usize::from(level)], Cause::Cache);
                self.clock.on_its_way(line).unwrap_or(hit)
            }
            Lookup::Prefetched(level) => self.prefetched(line, machine.hit_ps[usize::from(level)], region),
            Lookup::Miss => {
                self.clock.make_room(&mut self.table);
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

    #[inline(never)]
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
}

impl<M: Serve> Machine<M> {
    /// Sends a line to or from memory; when that is done.
    #[inline(always)]
    fn send(&mut self, at: u64, line: u64, region: RegionIndex, direction: Direction) -> u64 {
        let home = self.space.home(region);
        let request =
            Request { host: self.host, tier: home.tier, direction, offset: home.offset(line), len: LINE as u32 };
        self.memory.serve(Time(at), request).0
    }
}
