//! The report of instrumented processes.

use std::path::Path;

use serde::Serialize;
use tiermem::control::Module;
use tiermem_emulator::instrumented::config::{Config, Placement};
use tiermem_emulator::instrumented::report::{Report, SiteReport, ThreadReport, TierReport};
use tiermem_emulator::time::{Mode, Time};
use tiermem_tiers::Bytes;

use super::collect::Collected;
use crate::output::{Align, Table};
use crate::symbols::Symboliser;

/// What no instrumented program's counts contain.
const NOT_SEEN: [&str; 4] = [
    "accesses that the compiler adds behind the optimiser: spilled registers, calls and returns, constants, jump tables",
    "code that was not rebuilt (prebuilt standard libraries and others), but for memcpy, strcmp and their kin",
    "what the kernel reads and writes for system calls, and instruction fetches",
    "inline assembly",
];

/// `tiermem-instrument/1`: times in nanoseconds of virtual time.
#[derive(Debug, Serialize)]
pub struct Document {
    mode: String,
    topology: String,
    cache: String,
    placement: String,
    outstanding: u32,
    window: u32,
    issue_ns: f64,
    processes: Vec<Process>,
    /// Commands of processes that began and did not report.
    without_report: Vec<String>,
    not_seen: [&'static str; 4],
}

#[derive(Debug, Serialize)]
struct Process {
    command: Vec<String>,
    pid: u32,
    ended: String,
    virtual_ns: f64,
    skew_ns: f64,
    lost: u64,
    overfull: u64,
    threads: Vec<ThreadReport>,
    tiers: Vec<TierReport>,
    sites: Vec<Site>,
}

#[derive(Debug, Serialize)]
struct Site {
    stack: Vec<String>,
    #[serde(flatten)]
    counts: SiteReport,
}

fn ns(ps: u64) -> f64 {
    Time(ps).as_ns()
}

impl Document {
    /// Puts it together, and names the sites.
    pub fn new(config: &Config, policy: Option<&Path>, collected: Collected) -> Self {
        let placement = match (&config.placement, policy) {
            (Placement::All(tier), _) => format!("all blocks on {tier}"),
            (Placement::Policy(_), Some(path)) => format!("as {} says", path.display()),
            (Placement::Policy(_), None) => "by policy".to_owned(),
        };
        Self {
            mode: Mode::Instrumented.to_string(),
            topology: config.topology.clone(),
            cache: config.cache.clone(),
            placement,
            outstanding: config.overlap.outstanding,
            window: config.overlap.window,
            issue_ns: config.overlap.issue_ns,
            processes: collected.reports.into_iter().map(Process::new).collect(),
            without_report: collected.silent,
            not_seen: NOT_SEEN,
        }
    }

    /// For people, with so many sites of each process.
    pub fn text(&self, sites: usize) -> String {
        let mut text = format!(
            "mode: {}; machine: {}, {}\ncaches: {}; {} lines at once, window {}, {} ns an access\n",
            self.mode, self.topology, self.placement, self.cache, self.outstanding, self.window, self.issue_ns
        );
        for process in &self.processes {
            text.push_str(&process.text(sites));
        }
        for command in &self.without_report {
            text.push_str(&format!(
                "\n{command}: NO REPORT: it was killed or still runs, and nothing of it is counted\n"
            ));
        }
        if self.processes.is_empty() && self.without_report.is_empty() {
            text.push_str(
                "\nno instrumented program ran: a build counts nothing yet, and a program counts only if it was built \
                 under `tierctl instrument`\n",
            );
        } else {
            text.push_str(&format!("\nnot seen: {}\n", self.not_seen.join(";\n  ")));
        }
        text
    }
}

impl Process {
    fn new(report: Report) -> Self {
        let modules: Vec<Module> = { report.modules.iter() }
            .map(|m| Module { start: m.start, end: m.end, file_offset: m.file_offset, path: (&m.path).into() })
            .collect();
        let mut symboliser = Symboliser::default();
        let mut site = |counts: SiteReport| {
            let frames = counts.frames.iter().map(|&address| symboliser.frame(address, &modules));
            Site { stack: frames.map(|frame| frame.to_string()).collect(), counts }
        };
        Self {
            sites: report.sites.into_iter().map(&mut site).collect(),
            command: report.command,
            pid: report.pid,
            ended: report.ended,
            virtual_ns: ns(report.virtual_ps),
            skew_ns: ns(report.skew_ps),
            lost: report.lost,
            overfull: report.overfull,
            threads: report.threads,
            tiers: report.tiers,
        }
    }

    fn text(&self, sites: usize) -> String {
        let sum = |field: fn(&ThreadReport) -> u64| self.threads.iter().map(field).sum::<u64>();
        let mut text = format!(
            "\n{} (process {}, ended by {}): {} of virtual time\n{} loads, {} stores; {} bytes read and {} written by \
             memcpy and other ranges\n",
            self.command.join(" "),
            self.pid,
            self.ended,
            Time::from_ns(self.virtual_ns),
            sum(|t| t.loads),
            sum(|t| t.stores),
            sum(|t| t.range_bytes_loaded),
            sum(|t| t.range_bytes_stored),
        );
        if self.threads.len() > 1 {
            text.push_str(&format!("clocks of running threads were up to {} apart\n", Time::from_ns(self.skew_ns)));
        }
        if self.lost > 0 {
            text.push_str(&format!("LOST: {} accesses, made by signal handlers inside the run time\n", self.lost));
        }
        if self.overfull > 0 {
            text.push_str(&format!("OVERFULL: no tier had room for {} blocks\n", self.overfull));
        }
        text.push('\n');
        text.push_str(&self.thread_table());
        text.push('\n');
        text.push_str(&self.tier_table());
        text.push('\n');
        text.push_str(&self.site_table(sites));
        text
    }

    fn thread_table(&self) -> String {
        let levels = self.threads.first().map_or(0, |thread| thread.hits.len());
        let names: Vec<String> = (1..=levels).map(|level| format!("L{level}")).collect();
        let mut columns: Vec<&str> = vec!["THREAD", "TIME", "WAITED", "LOADS", "STORES", "RANGES"];
        columns.extend(names.iter().map(String::as_str));
        columns.push("MISSES");
        let columns: Vec<(&str, Align)> = columns.into_iter().map(|name| (name, Align::Right)).collect();
        let mut table = Table::new(&columns);
        for (number, thread) in self.threads.iter().enumerate() {
            let mut row = vec![
                number.to_string(),
                Time(thread.end_ps - thread.start_ps).to_string(),
                Time(thread.waited_ps).to_string(),
                thread.loads.to_string(),
                thread.stores.to_string(),
                (thread.ranges_loaded + thread.ranges_stored).to_string(),
            ];
            row.extend(thread.hits.iter().map(u64::to_string));
            row.push(thread.misses.to_string());
            table.row(row);
        }
        table.render()
    }

    fn tier_table(&self) -> String {
        let right = |name| (name, Align::Right);
        let mut table = Table::new(&[
            ("TIER", Align::Left),
            right("WAITED"),
            right("PER MISS"),
            right("LOAD MISSES"),
            right("STORE MISSES"),
            right("PREFETCHED"),
            right("WRITTEN BACK"),
            right("ALLOCATED"),
        ]);
        for tier in &self.tiers {
            let misses = tier.load_misses + tier.store_misses;
            table.row([
                tier.name.clone(),
                Time(tier.waited_ps).to_string(),
                tier.waited_ps.checked_div(misses).map_or(String::new(), |each| Time(each).to_string()),
                tier.load_misses.to_string(),
                tier.store_misses.to_string(),
                tier.prefetched.to_string(),
                tier.written_back.to_string(),
                Bytes(tier.bytes).to_string(),
            ]);
        }
        table.render()
    }

    fn site_table(&self, sites: usize) -> String {
        let right = |name| (name, Align::Right);
        let mut table = Table::new(&[
            right("WAITED"),
            right("MISSES"),
            right("BLOCKS"),
            right("PEAK"),
            ("TIER", Align::Left),
            ("SITE", Align::Left),
        ]);
        for site in self.sites.iter().take(sites) {
            let counts = &site.counts;
            table.row([
                Time(counts.waited_ps).to_string(),
                (counts.load_misses + counts.store_misses).to_string(),
                counts.allocations.to_string(),
                Bytes(counts.peak).to_string(),
                counts.tier.clone(),
                site.name(),
            ]);
        }
        table.render()
    }
}

impl Site {
    /// In a few words: the innermost calls that are not the allocator's or a container's own.
    fn name(&self) -> String {
        if self.stack.is_empty() {
            return "(nobody allocated it: stacks, static data)".to_owned();
        }
        let inside = |frame: &&String| {
            ["alloc::", "<alloc::", "__rust", "__rdl", "core::", "<core::", "hashbrown::", "<hashbrown::", "std::"]
                .iter()
                .any(|own| frame.starts_with(own))
        };
        let shown: Vec<&String> = self.stack.iter().skip_while(inside).take(2).collect();
        let shown = if shown.is_empty() { self.stack.iter().take(2).collect() } else { shown };
        shown.into_iter().map(String::as_str).collect::<Vec<_>>().join(" < ")
    }
}
