//! What is told of a trace that does not hold every access.

use std::path::Path;

use serde::Serialize;
use tiermem_emulator::replay::{Amount, SiteNames, Tally};
use tiermem_emulator::time::Mode;
use tiermem_emulator::trace::Completeness;
use tiermem_tiers::Bytes;

use super::ending::ending;
use super::rules::Machine;
use super::sites;
use crate::output::Align;

/// `tiermem-replay-tally/1`: where memory would lie and where accesses would go. `mode` is `functional`: no times.
#[derive(Debug, Serialize)]
pub struct Document {
    file: String,
    mode: &'static str,
    machine: String,
    accesses: &'static str,
    tiers: Vec<Row>,
    sites: Vec<Row>,
    assumptions: Vec<String>,
    damage: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    tier: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    blocks: u64,
    bytes_max: u64,
    bytes_left: u64,
    accesses: f64,
    bytes_seen: f64,
}

const fn word(accesses: Completeness) -> &'static str {
    match accesses {
        Completeness::Absent => "none",
        Completeness::Exact => "all",
        Completeness::Sampled(_) => "sampled",
        Completeness::Aggregated => "counted",
    }
}

impl Document {
    /// Puts it together.
    pub fn new(file: &Path, machine: &Machine, tally: &Tally, names: &SiteNames) -> Self {
        let row = |tier, amount: &Amount| Row {
            tier: machine.tier_name(tier).to_owned(),
            site: None,
            name: String::new(),
            blocks: amount.blocks,
            bytes_max: amount.bytes_max,
            bytes_left: amount.bytes_left,
            accesses: amount.accesses,
            bytes_seen: amount.bytes_seen,
        };
        let site = |site: &tiermem_emulator::replay::SiteTally| Row {
            site: site.site.map(|id| id.0),
            name: sites::title(site.site, names),
            ..row(site.tier, &site.amount)
        };
        Self {
            file: file.display().to_string(),
            mode: Mode::Functional.as_str(),
            machine: machine.name.clone(),
            accesses: word(tally.accesses),
            tiers: tally.tiers.iter().map(|(tier, amount)| row(*tier, amount)).collect(),
            sites: tally.sites.iter().map(site).collect(),
            assumptions: tally.assumptions.clone(),
            damage: tally.damage.clone(),
        }
    }

    /// For people, with so many sites.
    pub fn text(&self, sites: usize) -> String {
        let mut text = format!(
            "{} on {}: where its memory lies; accesses recorded: {}\n\n",
            self.file, self.machine, self.accesses
        );
        let right = |name| (name, Align::Right);
        let columns = [
            ("TIER", Align::Left),
            right("BLOCKS"),
            right("BYTES, MOST"),
            right("AT THE END"),
            right("ACCESSES"),
            right("SEEN"),
        ];
        let cells = |row: &Row| {
            let bytes = [row.bytes_max, row.bytes_left].map(|bytes| Bytes(bytes).to_string());
            let seen = Bytes(row.bytes_seen as u64).to_string();
            let front = [row.tier.clone(), row.blocks.to_string()];
            front.into_iter().chain(bytes).chain([format!("{:.0}", row.accesses), seen]).collect()
        };
        let rows: [&[Row]; 2] = [&self.tiers, &self.sites];
        text.push_str(&ending(&columns, rows, cells, |row| &row.name, sites, &self.assumptions));
        text
    }
}
