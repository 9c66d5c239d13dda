//! Traces of key operations: what a store on several tiers would have done with them.

use std::fs::File;
use std::path::Path;

use serde::Serialize;
use tiermem_emulator::keyed::{self, Config, OnMiss, Pace, Quantiles, Report, Shelf, ShelfReport};
use tiermem_emulator::model::{Direction, Request, Serve, TierIndex};
use tiermem_emulator::time::{Mode, Time};
use tiermem_emulator::trace::Trace;
use tiermem_tiers::Bytes;

use super::rules::Machine;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table};

/// Options that only matter to traces of key operations.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Traces of key operations")]
pub struct KeyOptions {
    /// Keep values on these tiers, first choice first, as `dram=4G,cxl0=64G,nvme0`. Without a size as much as the topology
    /// says; with one as much as that, were it more. Without any, all tiers that the host reaches, the one that a value comes from
    /// fastest first.
    #[arg(long, value_name = "TIER[=SIZE],…", value_delimiter = ',')]
    tiers: Vec<String>,

    /// So many clients, each doing the next operation when it is free, whatever the recorded times are.
    #[arg(long, value_name = "N")]
    clients: Option<u32>,

    /// Leave values where they are that are found behind the first tier.
    #[arg(long)]
    no_promotion: bool,

    /// What becomes of keys that are asked for and are not there: put in, or left to the trace's own puts.
    #[arg(long, value_enum, value_name = "WHAT")]
    misses: Option<Misses>,

    /// What a client waits for a value that is not there, microseconds.
    #[arg(long, value_name = "US")]
    miss_us: Option<f64>,

    /// What values are taken for whose size the trace does not tell.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    value_size: Option<u64>,

    /// The gets of a request are a prompt's prefix: what comes behind the first miss cannot be used.
    #[arg(long)]
    prefixes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Misses {
    Fill,
    Leave,
}

fn parse_size(text: &str) -> Result<u64, String> {
    match Bytes::parse(text)? {
        Bytes::ZERO => Err("a value has at least a byte".to_owned()),
        Bytes(size) => Ok(size),
    }
}

/// Bytes of a value, where tiers are put in order and no size was told.
const TYPICAL: u32 = 4096;

impl KeyOptions {
    /// One that was given, if any was.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            (!self.tiers.is_empty(), "--tiers"),
            (self.clients.is_some(), "--clients"),
            (self.no_promotion, "--no-promotion"),
            (self.misses.is_some(), "--misses"),
            (self.miss_us.is_some(), "--miss-us"),
            (self.value_size.is_some(), "--value-size"),
            (self.prefixes, "--prefixes"),
        ];
        given.into_iter().find_map(|(given, name)| given.then_some(name))
    }

    /// Does the operations of `trace`; `work_factor` multiplies its times.
    ///
    /// # Errors
    /// If options name tiers that are not there or do not fit, or the trace cannot be read.
    pub fn replay(
        &self,
        file: &Path,
        trace: &Trace<File>,
        machine: &Machine,
        work_factor: f64,
    ) -> Result<Document, Failure> {
        let bad = |what: String| Failure::new(Exit::BadInput, what);
        let miss_us = self.miss_us.unwrap_or(0.0);
        if !(0.0..=1e12).contains(&miss_us) {
            return Err(Failure::new(Exit::Usage, format!("--miss-us {miss_us}: it is 0 to 1e12")));
        }
        let mut config = Config {
            chain: self.chain(machine)?,
            host: machine.host,
            pace: self.clients.map_or(Pace::Recorded(work_factor), Pace::Clients),
            promote: !self.no_promotion,
            on_miss: OnMiss::Leave,
            miss: Time::from_ns(miss_us * 1e3),
            value_bytes: self.value_size,
            prefixes: self.prefixes,
        };
        let run = |config: &Config| {
            let refused = |error: keyed::KeyedError| bad(format!("{}: {error}", file.display()));
            keyed::replay(trace, machine.system.clone(), config).map_err(refused)
        };
        let fills = match self.misses {
            Some(misses) => misses == Misses::Fill,
            // A trace with puts tells what was put in; one of gets alone does not.
            None => !keyed::has_puts(trace).map_err(|error| crate::trace::failure(file, &error))?,
        };
        if fills {
            config.on_miss = OnMiss::Fill;
        }
        Ok(Document::new(file, machine, &run(&config)?))
    }

    fn chain(&self, machine: &Machine) -> Result<Vec<Shelf>, Failure> {
        let capacities = machine.capacities();
        let whole = |tier: TierIndex| capacities.get(usize::from(tier.0)).copied().unwrap_or(0);
        if self.tiers.is_empty() {
            let names = machine.system.tiers().iter().map(|tier| tier.name.as_str());
            let mut all: Vec<TierIndex> = names.filter_map(|name| machine.tier(name)).collect();
            let size = self.value_size.map_or(TYPICAL, |size| u32::try_from(size).unwrap_or(u32::MAX));
            all.sort_by_key(|&tier| {
                let request = Request { host: machine.host, tier, direction: Direction::Read, offset: 0, len: size };
                machine.system.clone().serve(Time::ZERO, request)
            });
            return Ok(all.into_iter().map(|tier| Shelf { tier, capacity: whole(tier) }).collect());
        }
        let shelf = |text: &String| {
            let usage = |what: String| Failure::new(Exit::Usage, format!("--tiers {text}: {what}"));
            let (name, size) = text.split_once('=').map_or((text.as_str(), None), |(name, size)| (name, Some(size)));
            let unknown = || usage(format!("there is no tier `{name}`; the host reaches {}", machine.tier_list()));
            let tier = machine.tier(name).ok_or_else(unknown)?;
            let capacity = size.map_or(Ok(whole(tier)), |size| parse_size(size).map_err(usage))?;
            Ok(Shelf { tier, capacity })
        };
        self.tiers.iter().map(shelf).collect()
    }
}

/// `tiermem-replay-keys/1`: times in nanoseconds of virtual time.
#[derive(Debug, Serialize)]
pub struct Document {
    file: String,
    mode: &'static str,
    machine: String,
    time_ns: f64,
    operations: u64,
    gets: u64,
    puts: u64,
    deletes: u64,
    hits: u64,
    misses: u64,
    first: u64,
    behind: u64,
    dropped: u64,
    too_large: u64,
    values_left: u64,
    other_events: u64,
    tiers: Vec<Tier>,
    get: Latency,
    put: Latency,
    request: Latency,
    assumptions: Vec<String>,
    damage: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Tier {
    tier: String,
    capacity: u64,
    bytes_max: u64,
    hits: u64,
    bytes_read: u64,
    bytes_written: u64,
    demoted: u64,
    promoted: u64,
    latency: Latency,
}

#[derive(Debug, Serialize)]
struct Latency {
    count: u64,
    mean_ns: f64,
    p50_ns: f64,
    p99_ns: f64,
    p999_ns: f64,
    max_ns: f64,
}

impl From<Quantiles> for Latency {
    fn from(q: Quantiles) -> Self {
        let [mean_ns, p50_ns, p99_ns, p999_ns, max_ns] = [q.mean, q.p50, q.p99, q.p999, q.max].map(Time::as_ns);
        Self { count: q.count, mean_ns, p50_ns, p99_ns, p999_ns, max_ns }
    }
}

impl Latency {
    fn cells(&self) -> [String; 5] {
        [self.mean_ns, self.p50_ns, self.p99_ns, self.p999_ns, self.max_ns].map(|ns| Time::from_ns(ns).to_string())
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", part as f64 / whole.max(1) as f64 * 100.0)
}

impl Document {
    fn new(file: &Path, machine: &Machine, report: &Report) -> Self {
        let tier = |shelf: &ShelfReport| Tier {
            tier: machine.tier_name(shelf.tier).to_owned(),
            capacity: shelf.capacity,
            bytes_max: shelf.bytes_max,
            hits: shelf.hits,
            bytes_read: shelf.bytes_read,
            bytes_written: shelf.bytes_written,
            demoted: shelf.demoted,
            promoted: shelf.promoted,
            latency: shelf.latency.into(),
        };
        let capacities = machine.capacities();
        let larger = report.shelves.iter().filter_map(|shelf| {
            let there = capacities.get(usize::from(shelf.tier.0)).copied().unwrap_or(0);
            let name = machine.tier_name(shelf.tier);
            let told =
                || format!("{name} has room for {}, not {} as the topology says", Bytes(shelf.capacity), Bytes(there));
            (shelf.capacity > there).then(told)
        });
        Self {
            file: file.display().to_string(),
            mode: Mode::Replayed.as_str(),
            machine: machine.name.clone(),
            time_ns: report.end.as_ns(),
            operations: report.gets + report.puts + report.deletes,
            gets: report.gets,
            puts: report.puts,
            deletes: report.deletes,
            hits: report.gets - report.misses,
            misses: report.misses,
            first: report.first,
            behind: report.behind,
            dropped: report.dropped,
            too_large: report.too_large,
            values_left: report.left,
            other_events: report.others,
            tiers: report.shelves.iter().map(tier).collect(),
            get: report.get.into(),
            put: report.put.into(),
            request: report.request.into(),
            assumptions: report.assumptions.iter().cloned().chain(larger).collect(),
            damage: report.damage.clone(),
        }
    }

    /// What of the trace was left out.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// For people.
    pub fn text(&self) -> String {
        let rate = self.operations as f64 / (self.time_ns / 1e9).max(1e-12);
        let mut text = format!(
            "{} on {}: {} operations in {} of virtual time ({}), {rate:.0} a second\n\
             {} gets: {} hits ({}), {} misses, {} of them of keys that no store could have had\n",
            self.file,
            self.machine,
            self.operations,
            Time::from_ns(self.time_ns),
            self.mode,
            self.gets,
            self.hits,
            percent(self.hits, self.gets),
            self.misses,
            self.first,
        );
        let notes = [
            (self.puts + self.deletes, format!("{} puts, {} deletes", self.puts, self.deletes)),
            (
                self.behind,
                format!("{} of the misses are values that lie behind another miss of their request", self.behind),
            ),
            (self.dropped, format!("{} values left the last tier", self.dropped)),
            (self.too_large, format!("{} values were too large for every tier, and not kept", self.too_large)),
            (self.other_events, format!("{} events are no operations on keys, and were left out", self.other_events)),
        ];
        for (_, note) in notes.iter().filter(|(count, _)| *count > 0) {
            text.extend([note, "\n"]);
        }
        let right = |name| (name, Align::Right);
        let mut table = Table::new(&[
            ("TIER", Align::Left),
            right("ROOM"),
            right("USED, MOST"),
            right("HITS"),
            right("OF GETS"),
            right("READ"),
            right("WRITTEN"),
            right("MOVED UP"),
            right("MOVED DOWN"),
        ]);
        for t in &self.tiers {
            let [room, most, read, written] =
                [t.capacity, t.bytes_max, t.bytes_read, t.bytes_written].map(|bytes| Bytes(bytes).to_string());
            let hits = [t.hits.to_string(), percent(t.hits, self.gets)];
            let moved = [t.promoted.to_string(), t.demoted.to_string()];
            let cells = [t.tier.clone(), room, most].into_iter().chain(hits).chain([read, written]).chain(moved);
            table.row(cells);
        }
        text.extend(["\n", &table.render(), "\n"]);
        let quantiles = ["MEAN", "P50", "P99", "P99.9", "MAX"].map(right);
        let mut table = Table::new(&[&[("LATENCY OF", Align::Left), right("COUNT")][..], &quantiles].concat());
        let all =
            [("gets".to_owned(), &self.get), ("puts".to_owned(), &self.put), ("requests".to_owned(), &self.request)];
        for (name, latency) in
            all.into_iter().chain(self.tiers.iter().map(|t| (format!("hits on {}", t.tier), &t.latency)))
        {
            if latency.count > 0 {
                table.row([name, latency.count.to_string()].into_iter().chain(latency.cells()));
            }
        }
        text.push_str(&table.render());
        text.push_str("\nAssumed:\n");
        self.assumptions.iter().for_each(|assumption| text.push_str(&format!("- {assumption}\n")));
        text
    }
}
