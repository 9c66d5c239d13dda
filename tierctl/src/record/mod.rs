//! What is recorded of a run: everything that the report and the summary show.

pub mod kernel;
pub mod poller;
pub mod sites;
pub mod timeline;

use std::time::Duration;

use tiermem::control::Snapshot;

use crate::run::child::Ending;
use kernel::Counts;
use sites::Site;
use timeline::Timeline;

/// One process's figures, as last read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessRecord {
    /// Its last figures.
    pub snapshot: Snapshot,
    /// When its allocator started, milliseconds since the run began (negative if before).
    pub started_ms: i64,
    /// When it was first read, milliseconds since the run began.
    pub first_read_ms: u64,
    /// When it was last read, milliseconds since the run began.
    pub last_read_ms: u64,
    /// Whether it had ended by the last reading; only then are its counters final.
    pub ended: bool,
    /// Where its memory was, as the kernel counts it.
    pub kernel: Counts,
}

/// How the readings were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampling {
    /// Rounds of readings.
    pub rounds: u64,
    /// Longest time between two rounds, milliseconds.
    pub interval_ms_max: u64,
    /// Readings that failed (a segment that was not ready or changed too fast).
    pub failures: u64,
    /// Ended processes whose sites were dropped, because there were too many processes to keep all.
    pub sites_dropped: u64,
}

/// What the poller gives at the end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// The processes, in order of their start.
    pub processes: Vec<ProcessRecord>,
    /// The tiers over time.
    pub timeline: Timeline,
    /// How all that was obtained.
    pub sampling: Sampling,
}

/// A whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// When it began, seconds since 1970.
    pub started_unix_s: u64,
    /// How long it ran.
    pub duration: Duration,
    /// How it ended.
    pub ending: Ending,
    /// The policy's file, if one was given.
    pub policy: Option<String>,
    /// The `--tier` SPECs as written.
    pub tier_specs: Vec<String>,
    /// The `--limit`s as written.
    pub limits: Vec<String>,
    /// What was read meanwhile.
    pub recorded: Recorded,
    /// The allocation sites, most bytes first; gathered only for a report.
    pub sites: Vec<Site>,
}

/// One tier's figures over all processes. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TierTotal {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Limit per process; 0 for none.
    pub limit: u64,
    /// Held at the last reading of each process.
    pub live: u64,
    /// Most held at any reading (short peaks between readings are missed).
    pub live_max: u64,
    /// Given by the tier at the last reading of each process.
    pub committed: u64,
    /// Most given. Exact for one process, which counts it itself; for several, the most that any reading saw.
    pub committed_max: u64,
    /// Blocks allocated.
    pub allocations: u64,
    /// Blocks freed.
    pub frees: u64,
    /// Bytes given back to the system or the tier.
    pub returned: u64,
    /// Requests that went to another tier instead.
    pub fallbacks: u64,
    /// Full or failed at the end of some process.
    pub unavailable: bool,
    /// Bytes in extents of which a part was found bad, so that nothing new is placed there.
    pub quarantined: u64,
}

impl RunRecord {
    /// The process that the kernel found to hold most (of equals, the first), if any lived long enough to be counted.
    pub fn largest(&self) -> Option<&ProcessRecord> {
        let most = |p: &&ProcessRecord| p.kernel.most.as_ref().map(|r| r.data());
        self.recorded.processes.iter().rev().filter(|p| p.kernel.most.is_some()).max_by_key(most)
    }

    /// The command as a shell would take it.
    pub fn command_line(&self) -> String {
        self.command.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
    }
}

fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./:=,@%+^".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Adds up the tiers of all processes, in the order in which the tiers first appeared.
pub fn tier_totals(recorded: &Recorded) -> Vec<TierTotal> {
    let mut totals: Vec<TierTotal> = Vec::new();
    for tier in recorded.processes.iter().flat_map(|p| &p.snapshot.tiers) {
        let index = totals.iter().position(|t| t.name == tier.name).unwrap_or_else(|| {
            totals.push(TierTotal { name: tier.name.clone(), kind: tier.kind.clone(), ..TierTotal::default() });
            totals.len() - 1
        });
        let total = &mut totals[index];
        total.limit = total.limit.max(tier.limit);
        total.live += tier.live;
        total.live_max = total.live_max.max(tier.live);
        total.committed += tier.committed;
        total.committed_max = total.committed_max.max(tier.committed_max);
        total.allocations += tier.allocations;
        total.frees += tier.frees;
        total.returned += tier.returned;
        total.fallbacks += tier.fallbacks;
        total.unavailable |= tier.unavailable;
        total.quarantined += tier.quarantined;
    }
    for total in &mut totals {
        if let Some(index) = recorded.timeline.tiers.iter().position(|name| *name == total.name) {
            total.live_max = total.live_max.max(recorded.timeline.peak(index, |m| &m.live));
            total.committed_max = total.committed_max.max(recorded.timeline.peak(index, |m| &m.committed));
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        assert_eq!(["", "a b", "it's", "--save=1"].map(quote), ["''", "'a b'", r"'it'\''s'", "--save=1"]);
    }
}
