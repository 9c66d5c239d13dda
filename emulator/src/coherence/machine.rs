//! The machine that a run happens on: a pool, and hosts with private caches in front of it.
//!
//! Nothing moves by itself here. What hardware may do at any time (write a dirty line back, drain a store buffer, keep
//! or drop a clean copy, fetch ahead) is decided when somebody looks: a clean copy is no more than the oldest version
//! that a host may still see, and a dirty line remembers its stores, so that "written back after the second of them"
//! can be decided when another host reads the line. That leaves few choices and loses no outcome: a write-back that
//! nobody saw might as well not have happened.

mod cache;
mod coherent;
mod crash;
mod evict;
mod flush;
mod line;

use std::cell::RefCell;
use std::rc::Rc;

pub(super) use cache::PoisonHit;
pub(super) use coherent::Buffered;
pub(super) use flush::Flush;
pub(super) use line::{Dirty, Line, Poison, Private, Version};

use super::choice::{Choices, Kind, NOBODY};
use super::finding::{Detector, Detectors, Finding, FindingKind};
use super::history::{Clock, Place, Store, StoreId, Stores, mix};
use super::labels::Labels;
use super::medium::{Medium, MediumError};
use super::shadow::Shadow;
use super::timeline::Log;
use crate::cache::LINE;

/// How strict the hosts' processors are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// x86: stores to coherent memory become visible in program order, and an atomic operation waits for the flushes
    /// before it, as a fence does (Intel SDM, CLFLUSHOPT; Raad et al., POPL 2020).
    #[default]
    X86,
    /// Weaker, as Arm is in these two points: stores to different coherent lines become visible in any order, and only
    /// a fence waits for flushes. Loads are executed in order all the same.
    Weak,
}

/// What a run is held to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) architecture: Architecture,
    pub(super) detectors: Detectors,
    pub(super) hardware_coherent: bool,
    pub(super) max_steps: u32,
}

/// What a host is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// Waits until somebody changes something.
    Paused,
    Done,
    /// Crashed.
    Dead,
}

/// A host: its processor and its cache.
#[derive(Debug)]
pub(super) struct HostState {
    pub(super) name: Rc<str>,
    pub(super) state: State,
    pub(super) may_crash: bool,
    pub(super) clock: Clock,
    /// When it heard of what others had done: of whom, up to which operation, at which step.
    heard: Vec<(usize, u32, u32)>,
    /// Operations so far.
    pub(super) op: u32,
    /// What it has seen so far. Its program is a function of that.
    pub(super) hash: u64,
    pub(super) private: Vec<Private>,
    /// Lines that are dirty, in the order in which they became so.
    pub(super) dirty: Vec<u32>,
    /// Lines whose flush the next fence waits for.
    pub(super) pending: Vec<u32>,
    /// Stores to coherent lines that are not visible yet.
    pub(super) buffer: Vec<Buffered>,
    /// How many fences its stores have been divided by.
    pub(super) fences: u32,
}

impl HostState {
    /// Learns at a step of the run all that was known by somebody with this clock.
    pub(super) fn hear(&mut self, known: &Clock, step: u32) {
        let news = self.clock.news(known);
        self.heard.extend(news.map(|(host, index)| (host, index, step)));
        self.clock.join(known);
    }

    /// At which step it heard of an operation of a host; `None` for its own, and for those nobody told it of.
    pub(super) fn heard_of(&self, host: usize, operation: u32) -> Option<u32> {
        let heard = self.heard.iter().find(|&&(of, index, _)| of == host && index >= operation);
        heard.map(|&(_, _, step)| step)
    }
}

/// How a run ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// Something is wrong.
    Found(Finding),
    /// The same state has been explored before.
    Seen,
}

/// All that a run consists of, except for the hosts' programs.
pub(super) struct Machine {
    pub(super) rules: Rules,
    pub(super) lines: Vec<Line>,
    pub(super) hosts: Vec<HostState>,
    pub(super) stores: Stores,
    pub(super) choices: Choices,
    pub(super) shadow: Shadow,
    pub(super) medium: Option<Rc<RefCell<dyn Medium>>>,
    pub(super) halted: Option<Halt>,
    pub(super) log: Log,
    pub(super) labels: Labels,
    pub(super) steps: u32,
    /// Who may go on; `None` when all are done, or the run has ended.
    pub(super) current: Option<usize>,
    /// Whether a crash starts a recovery.
    pub(super) recovers: bool,
    /// Counts changes; hosts that wait look again when it has moved.
    pub(super) progress: u64,
    /// Combined hash of all lines.
    pub(super) lines_hash: u64,
    /// Which stores the bytes of the load at hand come from.
    pub(super) loaded: Vec<StoreId>,
    /// How many more hosts or powers may fail.
    pub(super) crashes_left: u32,
    pub(super) power_may_fail: bool,
    /// Lines that may turn out to be poisoned; one does, at most.
    pub(super) may_poison: Vec<std::ops::Range<u64>>,
}

impl Machine {
    pub(super) fn new(rules: Rules, choices: Choices, log: Log) -> Self {
        Self {
            rules,
            lines: Vec::new(),
            hosts: Vec::new(),
            stores: Stores::default(),
            choices,
            shadow: Shadow::default(),
            medium: None,
            halted: None,
            log,
            labels: Labels::default(),
            steps: 0,
            current: None,
            recovers: false,
            progress: 0,
            lines_hash: 0,
            loaded: Vec::new(),
            crashes_left: 0,
            power_may_fail: false,
            may_poison: Vec::new(),
        }
    }

    /// A new host. One that starts in the middle of a run has nothing cached.
    pub(super) fn add_host(&mut self, name: Rc<str>, may_crash: bool) -> usize {
        let floors = self.lines.iter().map(|line| Private::fresh(line.latest()));
        let private = floors.collect();
        self.hosts.push(HostState {
            name,
            state: State::Ready,
            may_crash,
            clock: Clock::default(),
            heard: Vec::new(),
            op: 0,
            hash: 0,
            private,
            dirty: Vec::new(),
            pending: Vec::new(),
            buffer: Vec::new(),
            fences: 0,
        });
        self.hosts.len() - 1
    }

    /// A pool of this many lines, as new.
    pub(super) fn set_up_pool(&mut self, lines: usize) {
        self.lines.iter_mut().for_each(Line::reset);
        self.lines.resize_with(lines, Line::new);
        let coherent = self.rules.hardware_coherent;
        self.lines.iter_mut().for_each(|line| line.coherent = coherent);
    }

    /// Puts the contents before the run on the medium, if there is one.
    ///
    /// # Panics
    /// If the medium is too small, or cannot be written.
    pub(super) fn set_up_medium(&self) {
        let Some(medium) = &self.medium else { return };
        let mut medium = medium.borrow_mut();
        let pool = self.lines.len() as u64 * LINE;
        assert!(pool <= medium.len(), "the pool has {pool} bytes and the medium only {}", medium.len());
        for (line, state) in self.lines.iter().enumerate() {
            let written = medium.write(line as u64 * LINE, &state.newest().content.data);
            if let Err(error) = written {
                panic!("the medium cannot be written: {error}");
            }
        }
    }

    /// Lets a host know of all that the hosts that live have done.
    pub(super) fn tell_all(&mut self, host: usize) {
        let alive = self.hosts.iter().filter(|other| other.state != State::Dead);
        let mut clock = self.hosts[host].clock;
        alive.for_each(|other| clock.join(&other.clock));
        self.hosts[host].clock = clock;
    }

    /// What comes when all programs are done: dirty lines are evicted, and nothing is left to be done.
    pub(super) fn last_look(&mut self) {
        if self.running() {
            self.settle();
            self.check_quarantine();
        }
    }

    pub(super) fn running(&self) -> bool {
        self.halted.is_none()
    }

    /// Ends the run with a finding, unless it has ended already.
    pub(super) fn report(&mut self, finding: Finding) {
        if self.halted.is_none() {
            self.log.finding(self.steps, &finding);
            self.halted = Some(Halt::Found(finding));
        }
    }

    /// Ends the run with a detector's finding, if the detector is on.
    pub(super) fn detect(&mut self, detector: Detector, story: impl FnOnce(&Self) -> String) -> bool {
        if !self.rules.detectors.has(detector) || self.halted.is_some() {
            return false;
        }
        let story = story(self);
        self.report(Finding::detected(detector, story));
        true
    }

    pub(super) fn name(&self, host: impl Into<usize>) -> &str {
        let host: usize = host.into();
        self.hosts.get(host).map_or("nobody", |state| &state.name)
    }

    /// Begins an operation of a host.
    pub(super) fn begin(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        state.op += 1;
        state.clock.tick(host);
    }

    /// Carries an operation out, after everybody who came first.
    pub(super) fn step(&mut self) {
        self.steps += 1;
        if self.steps > self.rules.max_steps {
            let story = format!(
                "the run has taken {} operations: a loop without pause(), or a longer test than max_steps allows",
                self.rules.max_steps
            );
            self.report(Finding { kind: FindingKind::TooLong, story });
        }
    }

    /// Something has changed that a waiting host might wait for.
    pub(super) fn progressed(&mut self) {
        self.progress += 1;
        self.choices.calm = false;
        for host in &mut self.hosts {
            if host.state == State::Paused {
                host.state = State::Ready;
            }
        }
    }

    pub(super) fn choose(&mut self, host: usize, kind: Kind, options: &[u8]) -> u8 {
        let op = self.hosts.get(host).map_or(self.steps, |state| state.op);
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_HOSTS")]
        let number = if host < self.hosts.len() { host as u8 } else { NOBODY };
        self.choices.choose(number, op, kind, options)
    }

    /// What has happened to a host becomes part of what it has seen.
    pub(super) fn saw(&mut self, host: usize, what: u64) {
        let hash = &mut self.hosts[host].hash;
        *hash = mix(*hash, what);
    }

    /// Hash of all that decides how the run goes on.
    pub(super) fn state_hash(&self) -> u64 {
        let hosts = self.hosts.iter().enumerate().fold(self.lines_hash, |sum, (index, host)| {
            let at = (u64::from(host.op) << 16) | ((host.state as u64) << 8) | index as u64;
            mix(mix(sum, host.hash), at)
        });
        mix(mix(hosts, self.shadow.hash), (u64::from(self.crashes_left) << 1) | u64::from(self.power_may_fail))
    }

    /// The parts of a range, line by line.
    pub(super) fn spans(offset: u64, len: usize) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
        let end = offset + len as u64;
        let first = offset / LINE;
        (first..end.div_ceil(LINE)).map(move |line| {
            let at = line * LINE;
            #[expect(clippy::cast_possible_truncation, reason = "below a line, and the pool is in memory")]
            (line as usize, (offset.max(at) - at) as usize..(end.min(at + LINE) - at) as usize)
        })
    }

    /// Names a store for a story: who, at which step of the timeline.
    pub(super) fn tell(&self, id: StoreId) -> String {
        let store = self.stores.get(id);
        match id {
            StoreId::INITIAL => "the contents before the run".to_owned(),
            _ => format!("{}'s store at step {}", self.name(store.host), store.step),
        }
    }

    /// Checks or copies the newest bytes of a line against the medium.
    pub(super) fn check_medium(&mut self, line: usize) -> Result<(), MediumError> {
        let Some(medium) = &self.medium else { return Ok(()) };
        let mut bytes = [0; LINE as usize];
        medium.borrow_mut().read(line as u64 * LINE, &mut bytes)?;
        if bytes != self.lines[line].newest().content.data {
            let story = format!("line {line} of the medium was changed by somebody else during the run");
            self.report(Finding { kind: FindingKind::Medium, story });
        }
        Ok(())
    }

    /// A new newest version of a line.
    pub(super) fn push_version(&mut self, line: usize, version: Version, identity: u64) {
        if let Some(medium) = &self.medium {
            let written = medium.borrow_mut().write(line as u64 * LINE, &version.content.data);
            if let Err(error) = written {
                let story = format!("line {line} could not be written: {error}");
                self.report(Finding { kind: FindingKind::Medium, story });
            }
        }
        self.lines_hash ^= mix(line as u64, self.lines[line].hash);
        self.lines[line].push(version, identity);
        self.lines_hash ^= mix(line as u64, self.lines[line].hash);
        self.check_erased(line);
        self.progressed();
    }

    /// A new store of a host.
    pub(super) fn new_store(&mut self, host: usize) -> StoreId {
        let state = &self.hosts[host];
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_HOSTS")]
        let store = Store {
            host: host as u8,
            index: state.op,
            clock: state.clock,
            place: Place::Cached,
            secret: false,
            step: self.steps,
        };
        self.stores.add(store)
    }
}
