//! What came of a load of key operations.

use hdrhistogram::Histogram;

use super::store::Store;
use super::traffic::{PIECE, PIECES_MAX};
use super::{Config, OnMiss, Pace};
use crate::model::TierIndex;
use crate::time::Time;

/// How long operations took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// How many they were.
    pub count: u64,
    /// On average.
    pub mean: Time,
    /// Half of them took no longer.
    pub p50: Time,
    /// 99 % of them.
    pub p99: Time,
    /// 99.9 % of them.
    pub p999: Time,
    /// The longest.
    pub max: Time,
}

/// A tier of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShelfReport {
    /// Which.
    pub tier: TierIndex,
    /// Bytes that values could use.
    pub capacity: u64,
    /// Bytes that they used at once, at most.
    pub bytes_max: u64,
    /// Gets that found their value here.
    pub hits: u64,
    /// Bytes that clients and moves read.
    pub bytes_read: u64,
    /// Bytes that clients, misses and moves wrote.
    pub bytes_written: u64,
    /// Values that moved here from a tier further up.
    pub demoted: u64,
    /// Values that moved here from a tier further down.
    pub promoted: u64,
    /// How long the hits took.
    pub latency: Quantiles,
}

/// What the store did. Latencies are exact to three digits.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Gets, of which [`misses`](Self::misses) did not find their value.
    pub gets: u64,
    /// Puts.
    pub puts: u64,
    /// Deletes.
    pub deletes: u64,
    /// Events that were no key operations, and left out.
    pub others: u64,
    /// Gets that did not find their value, or could not use it.
    pub misses: u64,
    /// Gets of keys that nobody had asked for or put before, which no store could have had.
    pub first: u64,
    /// Gets that found a value which they could not use, behind a miss of their request.
    pub behind: u64,
    /// Values that left the last tier.
    pub dropped: u64,
    /// Values that no tier had room for.
    pub too_large: u64,
    /// Values that were there at the end.
    pub left: u64,
    /// When the last operation was done.
    pub end: Time,
    /// The tiers, in the order of the chain.
    pub shelves: Vec<ShelfReport>,
    /// How long gets took, misses included.
    pub get: Quantiles,
    /// How long puts took.
    pub put: Quantiles,
    /// How long requests took, of those that the trace tells, from the first operation's begin to the last one's end.
    pub request: Quantiles,
    /// What was assumed, a sentence each.
    pub assumptions: Vec<String>,
    /// What of the trace was left out because it is damaged.
    pub damage: Vec<String>,
}

/// Times, counted in nanoseconds.
struct Times(Histogram<u64>);

impl Times {
    fn new() -> Self {
        const DIGITS: u8 = 3;
        // Grows as it needs to; these bounds are always allowed.
        Self(Histogram::new(DIGITS).unwrap_or_else(|_| unreachable!("three digits are allowed")))
    }

    fn record(&mut self, ps: u64) {
        // Can fail only where memory for it cannot be counted, far beyond 64 bits of picoseconds.
        let _ = self.0.record((ps + 500) / 1000);
    }

    fn quantiles(&self) -> Quantiles {
        let time = |ns: u64| Time(ns.saturating_mul(1000));
        let at = |quantile| time(self.0.value_at_quantile(quantile));
        if self.0.is_empty() {
            return Quantiles::default();
        }
        Quantiles {
            count: self.0.len(),
            mean: Time::from_ns(self.0.mean()),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: time(self.0.max()),
        }
    }
}

#[derive(Clone, Copy, Default)]
struct ShelfTally {
    bytes_max: u64,
    hits: u64,
    bytes_read: u64,
    bytes_written: u64,
    demoted: u64,
    promoted: u64,
}

/// Counts, while it goes on.
pub struct Tallies {
    pub gets: u64,
    pub puts: u64,
    pub deletes: u64,
    pub others: u64,
    pub misses: u64,
    pub first: u64,
    pub behind: u64,
    pub dropped: u64,
    pub too_large: u64,
    pub end: u64,
    shelves: Vec<(ShelfTally, Times)>,
    get: Times,
    put: Times,
    request: Times,
}

impl Tallies {
    pub fn new(shelves: usize) -> Self {
        Self {
            gets: 0,
            puts: 0,
            deletes: 0,
            others: 0,
            misses: 0,
            first: 0,
            behind: 0,
            dropped: 0,
            too_large: 0,
            end: 0,
            shelves: (0..shelves).map(|_| (ShelfTally::default(), Times::new())).collect(),
            get: Times::new(),
            put: Times::new(),
            request: Times::new(),
        }
    }

    pub const fn operations(&self) -> u64 {
        self.gets + self.puts + self.deletes
    }

    pub fn hit(&mut self, shelf: usize, bytes: u64, ps: u64) {
        let (tally, times) = &mut self.shelves[shelf];
        tally.hits += 1;
        tally.bytes_read += bytes;
        times.record(ps);
        self.get.record(ps);
    }

    pub fn miss(&mut self, ps: u64) {
        self.get.record(ps);
    }

    pub fn put(&mut self, ps: u64) {
        self.put.record(ps);
    }

    pub fn request(&mut self, ps: u64) {
        self.request.record(ps);
    }

    pub fn wrote(&mut self, shelf: usize, bytes: u64) {
        self.shelves[shelf].0.bytes_written += bytes;
    }

    pub fn moved(&mut self, from: usize, to: usize, bytes: u64) {
        self.shelves[from].0.bytes_read += bytes;
        self.shelves[to].0.bytes_written += bytes;
        let there = &mut self.shelves[to].0;
        *if to > from { &mut there.demoted } else { &mut there.promoted } += 1;
    }

    pub fn held(&mut self, shelf: usize, bytes: u64) {
        let most = &mut self.shelves[shelf].0.bytes_max;
        *most = bytes.max(*most);
    }

    pub fn report(&self, config: &Config, store: &Store, damage: Vec<String>) -> Report {
        let shelves = config.chain.iter().zip(&self.shelves).map(|(shelf, (tally, times))| ShelfReport {
            tier: shelf.tier,
            capacity: shelf.capacity,
            bytes_max: tally.bytes_max,
            hits: tally.hits,
            bytes_read: tally.bytes_read,
            bytes_written: tally.bytes_written,
            demoted: tally.demoted,
            promoted: tally.promoted,
            latency: times.quantiles(),
        });
        Report {
            gets: self.gets,
            puts: self.puts,
            deletes: self.deletes,
            others: self.others,
            misses: self.misses,
            first: self.first,
            behind: self.behind,
            dropped: self.dropped,
            too_large: self.too_large,
            left: store.len() as u64,
            end: Time(self.end),
            shelves: shelves.collect(),
            get: self.get.quantiles(),
            put: self.put.quantiles(),
            request: self.request.quantiles(),
            assumptions: assumptions(config),
            damage,
        }
    }
}

fn assumptions(config: &Config) -> Vec<String> {
    let pace = match config.pace {
        Pace::Recorded(factor) => {
            format!("operations begin at the recorded times, times {factor}, whether or not those before them are done")
        }
        Pace::Clients(clients) => format!("{clients} clients, each doing one operation at a time"),
    };
    let promotion = if config.promote {
        "a value that is found further down moves to the first tier"
    } else {
        "values are put on the first tier and never move up"
    };
    let miss = match (config.on_miss, config.miss) {
        (OnMiss::Fill, Time::ZERO) => "a value that is not there is put in, and costs its client nothing".to_owned(),
        (OnMiss::Fill, time) => format!("a value that is not there costs its client {time} and is put in"),
        (OnMiss::Leave, time) => format!("a value that is not there costs its client {time}; the trace puts it in"),
    };
    let mut all = vec![
        pace,
        format!("the tiers keep what was used last; {promotion}; what has no room moves down"),
        miss,
        format!(
            "values are copied in pieces of {PIECE} bytes, or {PIECES_MAX} larger ones, all asked for at once; looking keys up and \
             processing values takes no time"
        ),
        "room is counted in bytes of values: no keys, no fragments".to_owned(),
    ];
    if config.prefixes {
        all.push("what a request asks for behind its first miss cannot be used".to_owned());
    }
    all
}
