//! A thread's accesses: what the caches make of them, and what the thread waits for.

use super::Machine;
use super::batch::Touch;
use super::clock::{Cause, ThreadClock};
use super::space::Space;
use super::table::{RegionIndex, Table};
use crate::cache::{CoreIndex, LINE, Lookup, Traffic};
use crate::model::{Direction, HostIndex, Request, Serve};
use crate::time::Time;

/// Beyond so many lines on their way for the prefetcher, old ones are forgotten.
const PREFETCHES_MAX: usize = 256;

/// What accesses change of a thread.
pub struct Accesses<const N: usize> {
    pub core: CoreIndex,
    /// What was done, whatever it cost.
    pub table: Table,
    /// By placement.
    pub waits: [Waits; N],
    traffic: Vec<Traffic>,
    asides: Vec<Aside>,
}

/// A line that goes to or from memory beside those that were missed: written back, or asked for by the prefetcher.
#[derive(Clone, Copy)]
struct Aside {
    line: u64,
    region: RegionIndex,
    direction: Direction,
}

impl<const N: usize> Accesses<N> {
    /// None so far.
    pub fn new(core: CoreIndex, clock: impl Fn() -> ThreadClock) -> Self {
        let waits = std::array::from_fn(|_| Waits { clock: clock(), prefetches: Vec::new() });
        Self { core, table: Table::default(), waits, traffic: Vec::new(), asides: Vec::new() }
    }

    /// Does these accesses, of which only the last one may cross lines.
    #[inline(always)]
    pub fn go_through<M: Serve>(&mut self, machine: &mut Machine<M, N>, touches: &mut [Touch]) {
        self.find(machine, touches, true);
        self.wait(machine, touches, true);
        if let Some(last) = touches.last().filter(|last| last.crosses()) {
            self.cross(machine, last);
        }
    }

    /// The lines behind the first one of an access that crosses lines.
    #[cold]
    #[inline(never)]
    fn cross<M: Serve>(&mut self, machine: &mut Machine<M, N>, first: &Touch) {
        let mut touch = *first;
        while touch.crosses() {
            // The address space may end within the access.
            let Some(next) = touch.line().checked_add(LINE) else { return };
            touch.len -= (next - touch.address) as u32;
            touch.address = next;
            let (page, short) = machine.space.locate(next);
            (touch.region, touch.short) = (machine.space.lookup_in(page, next), short);
            self.find(machine, std::slice::from_mut(&mut touch), false);
            self.wait(machine, std::slice::from_ref(&touch), false);
        }
    }

    /// Has the caches look for these lines; they are the `first` ones of their accesses or others.
    #[inline(always)]
    fn find<M>(&mut self, machine: &mut Machine<M, N>, touches: &mut [Touch], first: bool) {
        let traffic = &mut self.traffic;
        traffic.clear();
        for touch in touches {
            let lookup = machine.caches.access(self.core, touch.short, touch.write, &mut |one| traffic.push(one));
            touch.found = lookup.into();
            touch.asides = traffic.len() as u32;
            let count = self.table.of(touch.region);
            count.accesses += u64::from(first);
            if lookup == Lookup::Miss {
                count.misses += 1;
            }
        }
        if !traffic.is_empty() {
            self.turn_aside(&mut machine.space);
        }
    }

    #[inline(never)]
    fn turn_aside(&mut self, space: &mut Space<N>) {
        self.asides.clear();
        for &one in &self.traffic {
            let (Traffic::WriteBack(short) | Traffic::Prefetch(short)) = one;
            let (line, region) = space.whole(short);
            let count = self.table.of(region);
            let direction = if matches!(one, Traffic::WriteBack(_)) {
                count.written_back += 1;
                Direction::Write
            } else {
                count.prefetched += 1;
                Direction::Read
            };
            self.asides.push(Aside { line, region, direction });
        }
    }

    /// Has the thread wait for these lines, which were [looked for](Self::find) together, in each placement.
    #[inline(always)]
    fn wait<M: Serve>(&mut self, machine: &mut Machine<M, N>, touches: &[Touch], first: bool) {
        let Machine { memories, space, host, hit_ps, .. } = machine;
        for (placement, (waits, memory)) in self.waits.iter_mut().zip(memories).enumerate() {
            let mut bus = Bus { memory, space, placement, host: *host };
            let mut sent = 0;
            for touch in touches {
                if first {
                    waits.begin(touch);
                }
                waits.wait(&mut bus, touch, hit_ps);
                let asides = touch.asides as usize;
                if asides != sent {
                    waits.send(&mut bus, &self.asides[sent..asides]);
                    sent = asides;
                }
            }
        }
    }
}

/// The way to memory that lies as one of the placements says.
struct Bus<'a, M, const N: usize> {
    memory: &'a mut M,
    space: &'a Space<N>,
    placement: usize,
    host: HostIndex,
}

impl<M: Serve, const N: usize> Bus<'_, M, N> {
    /// Sends a line to or from memory; when that is done.
    #[inline(always)]
    fn send(&mut self, at: u64, line: u64, region: RegionIndex, direction: Direction) -> u64 {
        let home = self.space.homes(region)[self.placement];
        let (tier, offset) = (home.tier, home.offset(line));
        let request = Request { host: self.host, tier, direction, offset, len: LINE as u32 };
        self.memory.serve(Time(at), request).0
    }
}

/// What a thread waits for, where memory lies as one of the placements says.
pub struct Waits {
    pub clock: ThreadClock,
    /// Lines that the prefetcher asked for, and when they come.
    prefetches: Vec<(u64, u64)>,
}

impl Waits {
    /// Begins an access.
    #[inline(always)]
    fn begin(&mut self, touch: &Touch) {
        self.clock.now += touch.work;
        if touch.dependent {
            let (ready, from) = (self.clock.ready, self.clock.ready_from);
            self.clock.wait(ready, from);
        }
        self.clock.begin();
    }

    /// Waits for a line as far as that must be, and notes when its value is there.
    #[inline(always)]
    fn wait<M: Serve, const N: usize>(&mut self, bus: &mut Bus<'_, M, N>, touch: &Touch, hit_ps: &[u64]) {
        let region = touch.region;
        let line = touch.line();
        let (ready, from) = match touch.found.lookup() {
            Lookup::Hit(level) => {
                let hit = (self.clock.now + hit_ps[usize::from(level)], Cause::Cache);
                self.clock.on_its_way(line).unwrap_or(hit)
            }
            Lookup::Prefetched(level) => self.prefetched(line, hit_ps[usize::from(level)], region),
            Lookup::Miss => {
                self.clock.make_room();
                let done = bus.send(self.clock.now, line, region, Direction::Read);
                self.clock.ask(line, done, region);
                (done, Cause::Region(region))
            }
        };
        if !touch.write {
            (self.clock.ready, self.clock.ready_from) = (ready, from);
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
    fn send<M: Serve, const N: usize>(&mut self, bus: &mut Bus<'_, M, N>, asides: &[Aside]) {
        let now = self.clock.now;
        for &Aside { line, region, direction } in asides {
            let done = bus.send(now, line, region, direction);
            if direction == Direction::Read {
                self.prefetches.push((line, done));
            }
        }
        if self.prefetches.len() > PREFETCHES_MAX {
            // What came long ago and was never used is in no hurry.
            self.prefetches.retain(|&(_, done)| done > now);
        }
    }
}
