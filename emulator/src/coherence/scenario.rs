//! What is explored: a pool, the programs of its hosts, and what may go wrong.

use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use super::host::Host;
use super::labels::Labels;
use super::{MAX_HOSTS, machine::Machine};
use crate::cache::LINE;

/// A host's program, for one run.
pub(super) type Program = Box<dyn FnOnce(&Host<'_>)>;
/// A program that may run several times in a run.
pub(super) type Recovery = Rc<dyn Fn(&Host<'_>)>;

/// A test: hosts that share a pool. It is built anew for each run, so what it captures must be the same each time, and
/// the programs must do nothing that depends on anything but what they load.
#[derive(Default)]
pub struct Scenario {
    pool: Option<u64>,
    coherent: Vec<Range<u64>>,
    initial: Vec<(u64, Vec<u8>)>,
    pub(super) hosts: Vec<(Rc<str>, bool, Program)>,
    pub(super) recovery: Option<Recovery>,
    pub(super) finally: Option<Program>,
    crashes: u32,
    power: bool,
    may_poison: Vec<Range<u64>>,
    /// Only where a story is to be told.
    labels: Option<Labels>,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.hosts.iter().map(|(name, ..)| &**name).collect();
        f.debug_struct("Scenario").field("pool", &self.pool).field("hosts", &names).finish_non_exhaustive()
    }
}

/// Bytes of a pool unless the scenario says otherwise.
const POOL: u64 = 1024;
/// Largest pool, bytes: all of it is in memory, once for each version of a line.
const POOL_MAX: u64 = 1 << 20;
/// Hosts of a scenario; the rest of the places is for recoveries and the last look.
const HOSTS_MAX: usize = MAX_HOSTS - 3;

impl Scenario {
    /// An empty one; whether it is run to tell its story.
    pub(super) fn new(told: bool) -> Self {
        Self { labels: told.then(Labels::default), ..Self::default() }
    }

    /// The pool has this many bytes, rounded up to lines; 1024 if this is not called.
    ///
    /// # Panics
    /// If that is more than a MiB.
    pub fn pool(&mut self, bytes: u64) -> &mut Self {
        assert!(bytes <= POOL_MAX, "a pool to be explored has {POOL_MAX} bytes at most, not {bytes}");
        self.pool = Some(bytes.next_multiple_of(LINE));
        self
    }

    /// The hardware keeps the lines of this range coherent.
    pub fn coherent(&mut self, range: Range<u64>) -> &mut Self {
        self.coherent.push(range);
        self
    }

    /// What the range is called where the explorer tells what happened, as in `label(0..8, "lock")` or
    /// `label(64..128, format_args!("slot {number}"))`.
    pub fn label(&mut self, range: Range<u64>, name: impl fmt::Display) -> &mut Self {
        if let Some(labels) = &mut self.labels {
            labels.add(range, name.to_string());
        }
        self
    }

    /// What is in the pool before the run; zeroes elsewhere.
    pub fn initial(&mut self, offset: u64, bytes: &[u8]) -> &mut Self {
        self.initial.push((offset, bytes.to_vec()));
        self
    }

    /// Eight bytes that are in the pool before the run, little-endian.
    pub fn initial_u64(&mut self, offset: u64, value: u64) -> &mut Self {
        self.initial(offset, &value.to_le_bytes())
    }

    /// Adds a host.
    ///
    /// # Panics
    /// If there are five already.
    pub fn host(&mut self, name: &str, program: impl FnOnce(&Host<'_>) + 'static) -> &mut Self {
        self.add(name, false, Box::new(program))
    }

    /// Adds a host that may crash before any of its operations. One host crashes in a run, unless
    /// [`crashes`](Self::crashes) says otherwise.
    ///
    /// # Panics
    /// If there are five hosts already.
    pub fn host_that_may_crash(&mut self, name: &str, program: impl FnOnce(&Host<'_>) + 'static) -> &mut Self {
        self.crashes = self.crashes.max(1);
        self.add(name, true, Box::new(program))
    }

    fn add(&mut self, name: &str, may_crash: bool, program: Program) -> &mut Self {
        assert!(self.hosts.len() < HOSTS_MAX, "a scenario has {HOSTS_MAX} hosts at most");
        self.hosts.push((name.into(), may_crash, program));
        self
    }

    /// How many crashes there may be in a run, those of recoveries included: 2 at most.
    ///
    /// # Panics
    /// If it is more than 2.
    pub fn crashes(&mut self, most: u32) -> &mut Self {
        assert!(most <= 2, "two crashes in a run at most, not {most}");
        self.crashes = most;
        self
    }

    /// All hosts may lose power at any point where one of them could crash. The pool keeps what has reached it; lines on
    /// their way may be torn.
    pub fn power_may_fail(&mut self) -> &mut Self {
        self.power = true;
        self
    }

    /// One line of this range may turn out to be poisoned when it is loaded.
    pub fn may_poison(&mut self, range: Range<u64>) -> &mut Self {
        self.may_poison.push(range);
        self
    }

    /// What runs, on a host of its own, after each crash: beside the hosts that live on, or alone after a loss of power.
    pub fn recovery(&mut self, program: impl Fn(&Host<'_>) + 'static) -> &mut Self {
        self.recovery = Some(Rc::new(program));
        self
    }

    /// What looks at the outcome, on a host of its own, when all others are done and all dirty lines of those that live
    /// have been written back.
    pub fn finally(&mut self, program: impl FnOnce(&Host<'_>) + 'static) -> &mut Self {
        self.finally = Some(Box::new(program));
        self
    }

    /// Puts the scenario's memory and its dangers into a machine.
    ///
    /// # Panics
    /// If a range lies outside of the pool.
    pub(super) fn set_up(&mut self, machine: &mut Machine) {
        let pool = self.pool.unwrap_or(POOL);
        let inside = |range: &Range<u64>| {
            assert!(
                range.start <= range.end && range.end <= pool,
                "{range:#x?} is outside of the pool of {pool} bytes"
            );
        };
        machine.set_up_pool(usize::try_from(pool / LINE).unwrap_or(0));
        for range in &self.coherent {
            inside(range);
            let len = range.end - range.start;
            for (line, _) in Machine::spans(range.start, usize::try_from(len).unwrap_or(0)) {
                machine.lines[line].coherent = true;
            }
        }
        for (offset, bytes) in &self.initial {
            inside(&(*offset..offset + bytes.len() as u64));
            let mut rest = bytes.as_slice();
            for (line, span) in Machine::spans(*offset, bytes.len()) {
                let (now, later) = rest.split_at(span.len());
                machine.lines[line].initial()[span].copy_from_slice(now);
                rest = later;
            }
        }
        self.may_poison.iter().for_each(inside);
        machine.may_poison.clone_from(&self.may_poison);
        machine.labels = self.labels.take().unwrap_or_default();
        machine.crashes_left = self.crashes;
        machine.power_may_fail = self.power;
        machine.recovers = self.recovery.is_some();
    }
}
