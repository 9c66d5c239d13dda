//! `tierctl ps`.

use serde::Serialize;
use tiermem::control::Snapshot;
use tiermem_tiers::Bytes;

use crate::exit::{Exit, Failure};
use crate::output::{Align, Output, Table};
use crate::segments;

/// List the running processes whose memory is tiered.
///
/// Root sees every user's. What processes that are gone left behind is removed.
#[derive(Debug, clap::Args)]
pub struct Ps {}

/// `tiermem-ps/1`. Sizes in bytes.
#[derive(Debug, Serialize)]
struct Document {
    processes: Vec<ProcessDocument>,
    /// Processes with a segment that could not be read, and why.
    unreadable: Vec<Unreadable>,
}

#[derive(Debug, Serialize)]
struct ProcessDocument {
    pid: u32,
    /// Process that started it, if that one is tiered as well; else 0.
    parent: u32,
    command: String,
    uptime_ms: u64,
    started_unix_s: u64,
    rss: u64,
    /// Path of the policy's file; empty for the built-in one.
    policy: String,
    tiers: Vec<TierDocument>,
}

#[derive(Debug, Serialize)]
struct TierDocument {
    name: String,
    kind: String,
    live: u64,
    committed: u64,
}

#[derive(Debug, Serialize)]
struct Unreadable {
    pid: u32,
    why: String,
}

impl Ps {
    /// Lists them.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        let mut document = Document { processes: Vec::new(), unreadable: Vec::new() };
        for file in segments::running() {
            match segments::attach(&file.path).and_then(|read| read()) {
                Ok(snapshot) if snapshot.ended => {}
                Ok(snapshot) => document.processes.push(describe(snapshot)),
                // It ended between the look at the folder and now.
                Err(_) if !segments::is_running(file.pid) => {}
                Err(failure) => document.unreadable.push(Unreadable { pid: file.pid, why: failure.message }),
            }
        }
        if output.is_json() {
            output.json("tiermem-ps/1", &document)?;
        } else {
            output.text(&table(&document).render())?;
            for Unreadable { pid, why } in &document.unreadable {
                eprintln!("tierctl: process {pid}: {why}");
            }
        }
        Ok(Exit::Ok)
    }
}

fn describe(snapshot: Snapshot) -> ProcessDocument {
    let tier = |t: tiermem::control::TierUse| TierDocument {
        name: t.name,
        kind: t.kind,
        live: t.live,
        committed: t.committed,
    };
    ProcessDocument {
        pid: snapshot.pid,
        parent: snapshot.parent,
        command: snapshot.command,
        uptime_ms: snapshot.uptime_ms,
        started_unix_s: snapshot.started_unix_s,
        rss: snapshot.rss,
        policy: snapshot.policy,
        tiers: snapshot.tiers.into_iter().map(tier).collect(),
    }
}

/// The tiers have a column each: live bytes.
fn table(document: &Document) -> Table {
    let mut names: Vec<&str> = Vec::new();
    for tier in document.processes.iter().flat_map(|p| &p.tiers) {
        if !names.contains(&tier.name.as_str()) {
            names.push(&tier.name);
        }
    }
    let headings: Vec<String> = names.iter().map(|n| format!("LIVE {n}")).collect();
    let mut columns =
        vec![("PID", Align::Right), ("COMMAND", Align::Left), ("UPTIME", Align::Right), ("RSS", Align::Right)];
    columns.extend(headings.iter().map(|h| (h.as_str(), Align::Right)));
    columns.push(("POLICY", Align::Left));
    let mut table = Table::new(&columns);
    for process in &document.processes {
        let mut cells = vec![
            process.pid.to_string(),
            process.command.clone(),
            show_uptime(process.uptime_ms),
            Bytes(process.rss).to_string(),
        ];
        let live = |name: &&str| process.tiers.iter().find(|t| t.name == *name).map(|t| Bytes(t.live).to_string());
        cells.extend(names.iter().map(|name| live(name).unwrap_or_default()));
        cells.push(if process.policy.is_empty() { "built-in".to_owned() } else { process.policy.clone() });
        table.row(cells);
    }
    table
}

/// `1d02h`, `3h07m`, `4m05s` or `12.3s`.
pub fn show_uptime(ms: u64) -> String {
    let seconds = ms / 1000;
    match (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}.{}s", ms % 1000 / 100),
        (0, 0, m, s) => format!("{m}m{s:02}s"),
        (0, h, m, _) => format!("{h}h{m:02}m"),
        (d, h, ..) => format!("{d}d{h:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Document, describe, show_uptime, table};
    use crate::output::Output;
    use tiermem::control::{Snapshot, TierUse};

    fn document() -> Document {
        let tier = |name: &str, live| TierUse { name: name.into(), kind: "dram".into(), live, ..TierUse::default() };
        let one = Snapshot { pid: 7, command: "a b".into(), uptime_ms: 61_000, rss: 4096, ..Snapshot::default() };
        let two = Snapshot { pid: 12, policy: "/p.toml".into(), tiers: vec![tier("slow", 1 << 20)], ..one.clone() };
        let one = Snapshot { tiers: vec![tier("dram", 5)], ..one };
        Document { processes: vec![describe(one), describe(two)], unreadable: Vec::new() }
    }

    #[test]
    fn each_tier_has_a_column() {
        let text = table(&document()).render();
        let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(lines[0].join(" "), "PID COMMAND UPTIME RSS LIVE dram LIVE slow POLICY");
        assert_eq!(lines[1].join(" "), "7 a b 1m01s 4 KiB 5 B - built-in");
        assert_eq!(lines[2].join(" "), "12 a b 1m01s 4 KiB - 1 MiB /p.toml");
    }

    #[test]
    fn the_json_form_is_stable() {
        let text = Output::document("tiermem-ps/1", &document()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["format"], "tiermem-ps/1");
        let keys: Vec<&String> = value["processes"][0].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["command", "parent", "pid", "policy", "rss", "started_unix_s", "tiers", "uptime_ms"]);
        let keys: Vec<&String> = value["processes"][0]["tiers"][0].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["committed", "kind", "live", "name"]);
    }

    #[test]
    fn times_are_short() {
        assert_eq!(show_uptime(12_345), "12.3s");
        assert_eq!(show_uptime(245_000), "4m05s");
        assert_eq!(show_uptime(11_220_000), "3h07m");
        assert_eq!(show_uptime(93_600_000), "1d02h");
    }
}
