//! What a store of values that lie on several tiers would have done with a recorded load.
//!
//! The operations of a cache or store (gets, puts and deletes of keys) go to a store whose values lie on a chain of tiers,
//! the most recently used ones on the first; what does not fit moves down the chain, and from the last tier out. Values are
//! copied through the same models ([`Serve`]) as everything else, in virtual time: moves take bandwidth from those who wait
//! for values. Nothing is drawn by chance.
//!
//! # When operations begin
//!
//! *By the recorded times* (an open system): an operation begins when it was recorded to, whether or not those before it are
//! done, so that a tier that cannot keep up shows in the latencies. Operations of one request begin together.
//! *By clients* (a closed system): so many clients, each of which does the next operation when its last one is done. This
//! tells how many operations a second the tiers can do.
//!
//! # What is copied
//!
//! A client waits for the value that it gets, in pieces of [`PIECE`] bytes (at most [`PIECES_MAX`], larger then) that are all asked for at once, and for a value that it
//! puts. It does not wait for values that move up or down, nor for those that are put in after a miss; these copies begin when
//! the operation that causes them is done.

mod report;
mod store;
#[cfg(test)]
mod tests;
mod traffic;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fmt;

use crate::model::{HostIndex, Serve, TierIndex};
use crate::time::Time;
use crate::trace::{Clock, Error, Event, KeyAction, KeyOperation, ReadAt, Trace};

use report::Tallies;
use store::{Change, Found, Store};
use traffic::Traffic;

pub use report::{Quantiles, Report, ShelfReport};
pub use traffic::{PIECE, PIECES_MAX};

/// A tier of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shelf {
    /// Which.
    pub tier: TierIndex,
    /// How much of it values may use, bytes.
    pub capacity: u64,
}

/// When operations begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// At the recorded times, multiplied by this.
    Recorded(f64),
    /// When one of so many clients is free.
    Clients(u32),
}

/// What becomes of a key that is asked for and is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMiss {
    /// Its value is put in.
    #[default]
    Fill,
    /// Nothing: the trace holds the puts.
    Leave,
}

/// How the store works.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The tiers, first choice first.
    pub chain: Vec<Shelf>,
    /// Whose way to them it is.
    pub host: HostIndex,
    /// When operations begin.
    pub pace: Pace,
    /// Whether a value that is found further down moves to the first tier.
    pub promote: bool,
    /// What becomes of a key that is not there.
    pub on_miss: OnMiss,
    /// What its client waits for a value that is not there (to fetch or compute it).
    pub miss: Time,
    /// Bytes of a value whose size the trace does not tell.
    pub value_bytes: Option<u64>,
    /// The gets of one request are a prefix: what comes behind the first miss cannot be used, and is a miss too.
    pub prefixes: bool,
}

/// Why a trace of key operations cannot be replayed.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyedError {
    /// It holds none.
    Empty,
    /// It has no times that all its streams share, so that operations can only begin when clients are free.
    NoTimes,
    /// An operation (counted from 1) does not tell how long its value is.
    NoSize(u64),
    /// The configuration is out of bounds: what it may be.
    Config(&'static str),
    /// The trace cannot be read.
    Trace(Error),
}

impl fmt::Display for KeyedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the trace holds no operations on keys"),
            Self::NoTimes => f.write_str(
                "the trace does not tell when its operations were: say how many clients do them one after another \
                 (`--clients N`)",
            ),
            Self::NoSize(number) => write!(
                f,
                "operation {number} does not tell how long its value is: say what such values are taken for \
                 (`--value-size SIZE`)"
            ),
            Self::Config(what) => f.write_str(what),
            Self::Trace(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for KeyedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Trace(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for KeyedError {
    fn from(error: Error) -> Self {
        Self::Trace(error)
    }
}

/// Whether `trace` is one of key operations: its first event is one.
///
/// # Errors
/// If it cannot be read.
pub fn is_keyed<S: ReadAt>(trace: &Trace<S>) -> Result<bool, Error> {
    let first = trace.events().next().transpose()?;
    Ok(matches!(first, Some((_, Event::Key(_)))))
}

/// Whether values are put in by operations of the trace, up to the first that is.
///
/// # Errors
/// If it cannot be read.
pub fn has_puts<S: ReadAt>(trace: &Trace<S>) -> Result<bool, Error> {
    for event in trace.events() {
        if matches!(event?, (_, Event::Key(KeyOperation { action: KeyAction::Put, .. }))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Does the key operations of `trace` with a store on what `memory` models.
///
/// # Errors
/// If there are none, or their times or sizes are not known and not told, or the configuration is out of bounds.
///
/// # Panics
/// If `memory` has no way from the host to a tier of the chain.
pub fn replay<S: ReadAt, M: Serve>(trace: &Trace<S>, memory: M, config: &Config) -> Result<Report, KeyedError> {
    check(config)?;
    let from = trace.provenance();
    let timed = from.common_clock && matches!(from.clock, Clock::RealNs | Clock::VirtualPs);
    if matches!(config.pace, Pace::Recorded(_)) && !timed {
        return Err(KeyedError::NoTimes);
    }
    let ps_per_tick = if from.clock == Clock::RealNs { 1000.0 } else { 1.0 };
    let mut run = Run::new(memory, config, ps_per_tick);
    let mut events = trace.events();
    for event in &mut events {
        match event? {
            (_, Event::Key(operation)) => run.operation(&operation)?,
            _ => run.tallies.others += 1,
        }
    }
    let damage = trace.damage().iter().chain(events.damage()).map(ToString::to_string).collect();
    run.finish(damage)
}

fn check(config: &Config) -> Result<(), KeyedError> {
    let pace = match config.pace {
        Pace::Recorded(factor) => (0.0..=1e6).contains(&factor),
        Pace::Clients(clients) => (1..=1 << 20).contains(&clients),
    };
    if !pace {
        return Err(KeyedError::Config("factors of time are 0 to a million, clients 1 to 1048576"));
    }
    if config.chain.is_empty() || config.chain.len() > store::SHELVES_MAX {
        return Err(KeyedError::Config("a store has 1 to 16 tiers"));
    }
    if config.chain.iter().any(|shelf| shelf.capacity == 0) {
        return Err(KeyedError::Config("a tier with no room for values is none: leave it out"));
    }
    let repeated = |(n, shelf): (usize, &Shelf)| config.chain[..n].iter().any(|before| before.tier == shelf.tier);
    if config.chain.iter().enumerate().any(repeated) {
        return Err(KeyedError::Config("each tier stands in the chain once"));
    }
    Ok(())
}

/// A request of several operations, while it goes on.
#[derive(Clone, Copy, Debug, Default)]
struct Together {
    number: u64,
    begin: u64,
    end: u64,
    missed: bool,
}

struct Run<'c, M> {
    config: &'c Config,
    store: Store,
    traffic: Traffic<M>,
    tallies: Tallies,
    seen: HashSet<u64>,
    ps_per_tick: f64,
    /// The tick of the first operation.
    first: Option<u64>,
    /// When each client is free.
    clients: BinaryHeap<Reverse<u64>>,
    request: Option<Together>,
    changes: Vec<Change>,
}

impl<'c, M: Serve> Run<'c, M> {
    fn new(memory: M, config: &'c Config, ps_per_tick: f64) -> Self {
        let clients = if let Pace::Clients(count) = config.pace { count } else { 0 };
        Self {
            config,
            store: Store::new(config.chain.iter().map(|shelf| shelf.capacity)),
            traffic: Traffic::new(memory, config),
            tallies: Tallies::new(config.chain.len()),
            seen: HashSet::new(),
            ps_per_tick,
            first: None,
            clients: (0..clients).map(|_| Reverse(0)).collect(),
            request: None,
            changes: Vec::new(),
        }
    }

    /// When the next operation begins.
    fn begin(&mut self, operation: &KeyOperation) -> u64 {
        let first = *self.first.get_or_insert(operation.at);
        match self.config.pace {
            Pace::Clients(_) => self.clients.pop().map_or(0, |Reverse(free)| free),
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "days in picoseconds lose less than a nanosecond"
            )]
            Pace::Recorded(factor) => ((operation.at - first) as f64 * self.ps_per_tick * factor).round() as u64,
        }
    }

    fn operation(&mut self, operation: &KeyOperation) -> Result<(), KeyedError> {
        let begin = self.begin(operation);
        self.traffic.catch_up(begin);
        self.enter_request(operation.request, begin);
        let end = match operation.action {
            KeyAction::Get => self.get(operation, begin)?,
            KeyAction::Put => self.put(operation, begin)?,
            KeyAction::Delete => {
                self.tallies.deletes += 1;
                self.store.remove(operation.key);
                begin
            }
        };
        if let Some(request) = &mut self.request {
            request.end = request.end.max(end);
        }
        if matches!(self.config.pace, Pace::Clients(_)) {
            self.clients.push(Reverse(end));
        }
        self.tallies.end = self.tallies.end.max(end);
        Ok(())
    }

    /// Operations of one request follow one another; number 0 is no request.
    fn enter_request(&mut self, number: u64, begin: u64) {
        if self.request.is_none_or(|request| request.number != number) {
            self.leave_request();
            self.request = Some(Together { number, begin, end: begin, missed: false });
        }
    }

    fn leave_request(&mut self) {
        if let Some(request) = self.request.take().filter(|request| request.number != 0) {
            self.tallies.request(request.end - request.begin);
        }
    }

    fn size(&self, operation: &KeyOperation) -> Result<u64, KeyedError> {
        let told = Some(operation.size).filter(|&size| size > 0);
        told.or(self.config.value_bytes).ok_or(KeyedError::NoSize(self.tallies.operations()))
    }

    fn get(&mut self, operation: &KeyOperation, begin: u64) -> Result<u64, KeyedError> {
        self.tallies.gets += 1;
        if self.seen.insert(operation.key) {
            self.tallies.first += 1;
        }
        let behind = self.config.prefixes && operation.request != 0 && self.request.is_some_and(|r| r.missed);
        match self.store.find(operation.key) {
            Some(found) if !behind => {
                let end = self.traffic.copy_from(found, begin);
                self.tallies.hit(found.shelf, found.size, end - begin);
                self.store.touch(operation.key, self.config.promote, &mut self.changes);
                self.carry_out(end);
                Ok(end)
            }
            found => {
                self.tallies.misses += 1;
                if let Some(request) = &mut self.request {
                    request.missed = true;
                }
                let end = begin + self.config.miss.0;
                self.tallies.miss(end - begin);
                match (found, self.config.on_miss) {
                    // It is there and could not be used: what was computed anew is the same.
                    (Some(_), _) => {
                        self.tallies.behind += 1;
                        self.store.touch(operation.key, self.config.promote, &mut self.changes);
                    }
                    (None, OnMiss::Fill) => {
                        let size = self.size(operation)?;
                        self.store.insert(operation.key, size, &mut self.changes);
                    }
                    (None, OnMiss::Leave) => {}
                }
                self.carry_out(end);
                Ok(end)
            }
        }
    }

    fn put(&mut self, operation: &KeyOperation, begin: u64) -> Result<u64, KeyedError> {
        self.tallies.puts += 1;
        self.seen.insert(operation.key);
        let size = self.size(operation)?;
        self.store.remove(operation.key);
        self.store.insert(operation.key, size, &mut self.changes);
        // What makes room for it moves when it is there.
        let mut end = begin;
        if let Some(Change::Enter(there)) = self.changes.first().copied() {
            end = self.traffic.copy_to(there, begin);
            self.tallies.wrote(there.shelf, there.size);
            self.changes.remove(0);
        }
        self.tallies.put(end - begin);
        self.carry_out(end);
        Ok(end)
    }

    /// Has the copies that the last operation causes begin at `at`, in order.
    fn carry_out(&mut self, at: u64) {
        for change in self.changes.drain(..) {
            match change {
                Change::Enter(there) => {
                    self.traffic.later(at, None, Some(there));
                    self.tallies.wrote(there.shelf, there.size);
                }
                Change::Move { from, to } => {
                    self.traffic.later(at, Some(from), Some(to));
                    self.tallies.moved(from.shelf, to.shelf, from.size);
                }
                Change::Leave(_) => self.tallies.dropped += 1,
                Change::TooLarge => self.tallies.too_large += 1,
            }
        }
        for (shelf, used) in self.store.used().enumerate() {
            self.tallies.held(shelf, used);
        }
    }

    fn finish(mut self, damage: Vec<String>) -> Result<Report, KeyedError> {
        self.leave_request();
        if self.tallies.operations() == 0 {
            return Err(KeyedError::Empty);
        }
        self.traffic.catch_up(u64::MAX);
        Ok(self.tallies.report(self.config, &self.store, damage))
    }
}

/// A value's place, for the traffic.
type Place = Found;
