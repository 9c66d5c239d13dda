//! The report of a replay.

use std::path::Path;

use serde::Serialize;
use tiermem_emulator::replay::{Count, Report, SiteNames};
use tiermem_emulator::time::{Mode, Time};
use tiermem_tiers::Bytes;

use super::ending::ending;
use super::rules::Machine;
use super::sites;
use crate::output::{Align, Table};

/// `tiermem-replay/1`: times in nanoseconds of virtual time; `slowdown` is against the same run with all memory on
/// `baseline_tier`.
#[derive(Debug, Serialize)]
pub struct Document {
    file: String,
    mode: &'static str,
    machine: String,
    time_ns: f64,
    baseline_tier: String,
    baseline_ns: f64,
    slowdown: f64,
    accesses: u64,
    misses: u64,
    threads: Vec<Thread>,
    tiers: Vec<Row>,
    sites: Vec<Row>,
    assumptions: Vec<String>,
    damage: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Thread {
    stream: u32,
    name: String,
    time_ns: f64,
    work_ns: f64,
    lost_to_caches_ns: f64,
    lost_to_memory_ns: f64,
    slowdown: f64,
    accesses: u64,
    misses: u64,
}

#[derive(Debug, Serialize)]
struct Row {
    tier: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    accesses: u64,
    misses: u64,
    bytes: u64,
    lost_ns: f64,
}

fn ratio(time: Time, baseline: Time) -> f64 {
    if baseline == Time::ZERO { 1.0 } else { time.as_ns() / baseline.as_ns() }
}

impl Document {
    /// Puts it together.
    pub fn new(file: &Path, machine: &Machine, report: &Report, baseline: &Report, names: &SiteNames) -> Self {
        let row = |tier, count: &Count| Row {
            tier: machine.tier_name(tier).to_owned(),
            site: None,
            name: String::new(),
            accesses: count.accesses,
            misses: count.misses,
            bytes: count.bytes(),
            lost_ns: count.lost().as_ns(),
        };
        let threads = report.threads.iter().zip(&baseline.threads).map(|(thread, before)| Thread {
            stream: thread.stream.0,
            name: thread.name.clone(),
            time_ns: thread.end.as_ns(),
            work_ns: thread.work.as_ns(),
            lost_to_caches_ns: thread.lost_to_caches.as_ns(),
            lost_to_memory_ns: thread.count.lost().as_ns(),
            slowdown: ratio(thread.end, before.end),
            accesses: thread.count.accesses,
            misses: thread.count.misses,
        });
        let sites = report.sites.iter().map(|site| {
            let name = sites::title(site.site, names);
            Row { site: site.site.map(|id| id.0), name, ..row(site.tier, &site.count) }
        });
        Self {
            file: file.display().to_string(),
            mode: Mode::Replayed.as_str(),
            machine: machine.name.clone(),
            time_ns: report.end.as_ns(),
            baseline_tier: machine.tier_name(machine.dram).to_owned(),
            baseline_ns: baseline.end.as_ns(),
            slowdown: ratio(report.end, baseline.end),
            accesses: report.total.accesses,
            misses: report.total.misses,
            threads: threads.collect(),
            tiers: report.tiers.iter().map(|tier| row(tier.tier, &tier.count)).collect(),
            sites: sites.collect(),
            assumptions: report.assumptions.clone(),
            damage: report.damage.clone(),
        }
    }

    /// For people, with so many sites.
    pub fn text(&self, sites: usize) -> String {
        let time = |ns: f64| Time::from_ns(ns).to_string();
        let mut text = format!(
            "{} on {}: {} of virtual time ({}), {:.3} times the {} with all memory on {}\n\
             {} accesses, {} of which missed all caches\n\n",
            self.file,
            self.machine,
            time(self.time_ns),
            self.mode,
            self.slowdown,
            time(self.baseline_ns),
            self.baseline_tier,
            self.accesses,
            self.misses,
        );
        let right = |name| (name, Align::Right);
        let mut table = Table::new(&[
            right("THREAD"),
            ("NAME", Align::Left),
            right("TIME"),
            right("WORK"),
            right("CACHES"),
            right("MEMORY"),
            right("SLOWDOWN"),
            right("ACCESSES"),
            right("MISSES"),
        ]);
        for t in &self.threads {
            let times = [t.time_ns, t.work_ns, t.lost_to_caches_ns, t.lost_to_memory_ns].map(time);
            let front = [t.stream.to_string(), t.name.clone()];
            let behind = [format!("{:.3}", t.slowdown), t.accesses.to_string(), t.misses.to_string()];
            table.row(front.into_iter().chain(times).chain(behind));
        }
        text.push_str(&table.render());
        let columns = [("TIER", Align::Left), right("LOST"), right("ACCESSES"), right("MISSES"), right("MOVED")];
        let cells = |row: &Row| {
            let counts = [row.accesses.to_string(), row.misses.to_string(), Bytes(row.bytes).to_string()];
            [row.tier.clone(), time(row.lost_ns)].into_iter().chain(counts).collect()
        };
        let rows: [&[Row]; 2] = [&self.tiers, &self.sites];
        text.extend(["\n", &ending(&columns, rows, cells, |row| &row.name, sites, &self.assumptions)]);
        text
    }
}
