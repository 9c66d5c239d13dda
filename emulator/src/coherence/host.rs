//! What the program of a host can do.

mod annotate;
mod atomic;
mod inert;

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use corosensei::Yielder;
use inert::Inert;

use super::finding::{Finding, FindingKind};
use super::history::{Clock, StoreId, Write};
use super::machine::{Flush, Machine, PoisonHit, State};
use super::shadow::range_len;
use super::timeline::show;
use crate::cache::LINE;

/// A host of a scenario, as its program sees it: memory behind a private cache.
///
/// Offsets are those of the pool. Loads and stores may have any size; they are divided at lines of 64 bytes, and within
/// a line they are one step. Outside of [coherent](super::Scenario::coherent) regions, what a host loads may be old and
/// what it stores may stay in its cache, until it says otherwise:
///
/// | to | use |
/// |---|---|
/// | make stores reach the pool | [`clean`](Self::clean) or [`flush`](Self::flush), then [`fence`](Self::fence) |
/// | see what others have put there | [`flush`](Self::flush) or [`invalidate`](Self::invalidate), then [`fence`](Self::fence), then load |
/// | tell others | a store or an atomic operation in a coherent region |
///
/// # Panics
/// All operations panic if their range lies outside of the pool; the run then ends with that as its finding.
pub struct Host<'a> {
    pub(super) machine: &'a Rc<RefCell<Machine>>,
    pub(super) yielder: &'a Yielder<(), ()>,
    pub(super) id: usize,
}

/// The line is poisoned: its contents are gone. A real load ends in a machine check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poisoned {
    /// Where the line begins.
    pub offset: u64,
}

impl fmt::Display for Poisoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the line at {:#x} is poisoned: quarantine it", self.offset)
    }
}

impl std::error::Error for Poisoned {}

/// What an optimistic load has seen; see [`Host::load_optimistic`].
#[derive(Clone, Debug, Default)]
pub struct Glance {
    offset: u64,
    from: Vec<StoreId>,
    clock: Clock,
}

impl fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Host<'_> {
    /// The host's name in the scenario.
    pub fn name(&self) -> String {
        self.machine.borrow().name(self.id).to_owned()
    }

    /// Loads bytes.
    ///
    /// # Panics
    /// If a line is poisoned, as a real load ends the program; see [`Self::try_load`].
    pub fn load(&self, offset: u64, into: &mut [u8]) {
        if let Err(poisoned) = self.try_load(offset, into) {
            panic!("{poisoned}");
        }
    }

    /// Loads eight bytes, little-endian.
    ///
    /// # Panics
    /// As [`Self::load`].
    pub fn load_u64(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.load(offset, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Loads bytes that may be poisoned (guarded access).
    ///
    /// # Errors
    /// The first poisoned line; nothing is promised about `into` then.
    pub fn try_load(&self, offset: u64, into: &mut [u8]) -> Result<(), Poisoned> {
        self.load_with(offset, into, true).map(|_| ())
    }

    /// Loads bytes that may be old or torn, because the program will find out by itself (a sequence number, a
    /// checksum): no detector watches. Once it has found them to be right, [`Self::rely_on`] says so.
    ///
    /// # Panics
    /// As [`Self::load`].
    pub fn load_optimistic(&self, offset: u64, into: &mut [u8]) -> Glance {
        match self.load_with(offset, into, false) {
            Ok(glance) => glance,
            Err(poisoned) => panic!("{poisoned}"),
        }
    }

    /// The program has validated an optimistic load and goes on with it: it must have been neither old nor torn when
    /// it was made.
    pub fn rely_on(&self, glance: &Glance) {
        self.local(|machine| {
            machine.judge_load(self.id, glance.offset, &glance.from, &glance.clock);
            for id in &glance.from {
                let clock = machine.stores.get(*id).clock;
                machine.hosts[self.id].hear(&clock, machine.steps);
            }
        });
    }

    fn load_with(&self, offset: u64, into: &mut [u8], checked: bool) -> Result<Glance, Poisoned> {
        let range = self.range(offset, into.len());
        let looks = |_: &Machine| true;
        self.operation(looks, |machine| {
            if checked {
                machine.check_use(self.id, &range);
                machine.check_known_poison(self.id, &range, "loads");
            }
            machine.loaded.clear();
            let mut done = 0;
            for (line, span) in Machine::spans(offset, into.len()) {
                machine.touch(self.id, line, false);
                let part = &mut into[done..done + span.len()];
                done += span.len();
                if let Err(PoisonHit) = machine.view(self.id, line, span, part) {
                    return Err(Poisoned { offset: line as u64 * LINE });
                }
            }
            let how = if checked { "load" } else { "load (optimistic)" };
            machine
                .log
                .event(machine.steps, self.id, || format!("{how} {} -> {}", machine.labels.place(&range), show(into)));
            Ok(self.loaded(machine, offset, checked))
        })
    }

    /// Judges what has been loaded, or keeps it to be judged later.
    fn loaded(&self, machine: &mut Machine, offset: u64, checked: bool) -> Glance {
        let from = std::mem::take(&mut machine.loaded);
        if !checked {
            return Glance { offset, from, clock: machine.hosts[self.id].clock };
        }
        let mut last = StoreId::INITIAL;
        for &id in &from {
            if id != last {
                let clock = machine.stores.get(id).clock;
                machine.hosts[self.id].hear(&clock, machine.steps);
                last = id;
            }
        }
        let clock = machine.hosts[self.id].clock;
        machine.judge_load(self.id, offset, &from, &clock);
        machine.loaded = from;
        Glance::default()
    }

    /// Stores bytes.
    pub fn store(&self, offset: u64, bytes: &[u8]) {
        let range = self.range(offset, bytes.len());
        let looks = |machine: &Machine| {
            machine.shadow.governs(offset)
                || Machine::spans(offset, bytes.len())
                    .any(|(line, span)| !machine.lines[line].coherent && span.len() < LINE as usize)
        };
        self.operation(looks, |machine| {
            machine.check_use(self.id, &range);
            machine.check_known_poison(self.id, &range, "stores to");
            machine
                .log
                .event(machine.steps, self.id, || format!("store {} = {}", machine.labels.place(&range), show(bytes)));
            let mut done = 0;
            for (line, span) in Machine::spans(offset, bytes.len()) {
                machine.touch(self.id, line, false);
                let write = self.write(machine, line, &span, &bytes[done..done + span.len()]);
                done += span.len();
                if machine.lines[line].coherent {
                    machine.buffer_store(self.id, line, write);
                } else if machine.private_store(self.id, line, write).is_err() {
                    // The line came without its contents; the store makes the rest of it no better.
                    continue;
                }
                machine.progressed();
            }
        });
    }

    fn write(&self, machine: &mut Machine, line: usize, span: &Range<usize>, bytes: &[u8]) -> Write {
        let id = machine.new_store(self.id);
        let seen = machine.lines[line].latest();
        let (start, len) = (u8::try_from(span.start).unwrap_or(0), u8::try_from(span.len()).unwrap_or(0));
        let fences = machine.hosts[self.id].fences;
        let mut write = Write { id, start, len, data: [0; LINE as usize], seen, fences };
        write.data[span.clone()].copy_from_slice(bytes);
        machine.lines[line].stores.push((id, start, len));
        write
    }

    /// Stores eight bytes, little-endian.
    pub fn store_u64(&self, offset: u64, value: u64) {
        self.store(offset, &value.to_le_bytes());
    }

    /// Asks for the lines of a range to be written back and dropped (CLFLUSHOPT). It is done at the next
    /// [`fence`](Self::fence), or before.
    pub fn flush(&self, range: Range<u64>) {
        self.flush_with(&range, Flush::WriteBackAndDrop, "flush");
    }

    /// Asks for the lines of a range to be written back and kept (CLWB).
    pub fn clean(&self, range: Range<u64>) {
        self.flush_with(&range, Flush::WriteBack, "clean");
    }

    /// Asks for the lines of a range to be dropped; dirty ones may or may not be written back first. x86 programs
    /// cannot do that and [`flush`](Self::flush) instead.
    pub fn invalidate(&self, range: Range<u64>) {
        self.flush_with(&range, Flush::Drop, "invalidate");
    }

    fn flush_with(&self, range: &Range<u64>, kind: Flush, word: &str) {
        let range = self.range(range.start, range_len(range));
        let looks = |machine: &Machine| machine.shadow.governs(range.start);
        self.operation(looks, |machine| {
            if kind == Flush::WriteBack {
                machine.check_use(self.id, &range);
            }
            machine.log.event(machine.steps, self.id, || format!("{word} {}", machine.labels.place(&range)));
            for (line, _) in Machine::spans(range.start, range_len(&range)) {
                machine.flush_line(self.id, line, kind);
            }
        });
    }

    /// Waits until all stores are visible and all flushes done, and keeps later loads behind (MFENCE).
    pub fn fence(&self) {
        self.fence_with(true);
    }

    /// Keeps later stores behind all flushes before it; later loads may come earlier, and see what the flushes were to
    /// drop (SFENCE).
    pub fn store_fence(&self) {
        self.fence_with(false);
    }

    fn fence_with(&self, full: bool) {
        let looks = |machine: &Machine| {
            let host = &machine.hosts[self.id];
            full && !(host.buffer.is_empty() && host.pending.is_empty() && host.dirty.is_empty())
        };
        self.operation(looks, |machine| {
            let word = if full { "fence" } else { "store fence" };
            machine.log.event(machine.steps, self.id, || word.to_owned());
            if full {
                machine.drain_all(self.id);
                machine.arrived(self.id, StoreId(u32::MAX));
            }
            machine.hosts[self.id].fences += 1;
            if full {
                machine.fence_flushes(self.id);
            } else {
                machine.store_fence_flushes(self.id);
            }
        });
    }

    /// Waits until something has changed that this host might be waiting for. Loops that wait must call it.
    pub fn pause(&self) {
        if self.inert() {
            return;
        }
        self.machine.borrow_mut().pause(self.id);
        self.wait();
    }

    /// A choice of the program's own that is to be explored, such as whether a timeout fires: one of `0..options`, 0
    /// being the usual.
    ///
    /// # Panics
    /// If `options` is 0.
    pub fn choose(&self, options: u8) -> u8 {
        assert!(options > 0, "nothing to choose from");
        self.operation(|_| false, |machine| machine.decide(self.id, options))
    }

    /// Whether the host of this name has crashed or lost its power: what a recovery learns from its cluster's membership.
    ///
    /// # Panics
    /// If the scenario has no such host.
    pub fn has_crashed(&self, name: &str) -> bool {
        self.operation(
            |_| true,
            |machine| {
                let named = machine.hosts.iter().find(|host| &*host.name == name);
                let Some(named) = named else { panic!("the scenario has no host \"{name}\"") };
                let dead = named.state == State::Dead;
                machine.saw(self.id, u64::from(dead));
                dead
            },
        )
    }

    fn range(&self, offset: u64, len: usize) -> Range<u64> {
        let pool = self.machine.borrow().lines.len() as u64 * LINE;
        let end = offset.checked_add(len as u64).filter(|&end| end <= pool);
        let Some(end) = end else { panic!("{offset:#x} + {len} bytes is outside of the pool of {pool:#x} bytes") };
        offset..end
    }

    /// Whether the program is being unwound: its destructors do nothing to the pool.
    pub(super) fn inert(&self) -> bool {
        std::thread::panicking()
    }

    /// Suspends until this host is the one to go on.
    pub(super) fn wait(&self) {
        loop {
            {
                let machine = self.machine.borrow();
                if machine.running() && machine.current == Some(self.id) {
                    return;
                }
            }
            self.yielder.suspend(());
        }
    }

    /// Something that takes no time and that nobody can come between.
    fn local<R: Default>(&self, act: impl FnOnce(&mut Machine) -> R) -> R {
        if self.inert() {
            return R::default();
        }
        let result = act(&mut self.machine.borrow_mut());
        self.wait();
        result
    }

    /// An operation: others may come first where that can make a difference.
    fn operation<R: Inert>(&self, looks: impl FnOnce(&Machine) -> bool, act: impl FnOnce(&mut Machine) -> R) -> R {
        if self.inert() {
            return R::inert();
        }
        let stays = {
            let mut machine = self.machine.borrow_mut();
            machine.begin(self.id);
            let looks = looks(&machine);
            !looks || machine.turn(self.id)
        };
        if !stays {
            self.wait();
        }
        let result = {
            let mut machine = self.machine.borrow_mut();
            machine.step();
            act(&mut machine)
        };
        self.wait();
        result
    }

    /// Ends the run: the program has panicked.
    pub(super) fn panicked(machine: &mut Machine, host: usize, message: &str) {
        let story = format!("{}: {message}", machine.name(host));
        machine.report(Finding { kind: FindingKind::Panic, story });
    }
}
