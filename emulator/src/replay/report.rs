//! What came of a replay.

use std::collections::{BTreeMap, HashMap};
use std::ops::AddAssign;

use super::Config;
use super::space::Space;
use super::table::Table;
use crate::model::TierIndex;
use crate::time::Time;
use crate::trace::{Clock, Error, ReadAt, SiteId, StreamId, Trace};

/// What is counted of a thread, a tier or a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Loads and stores of the program; one that crosses lines counts once.
    pub accesses: u64,
    /// Lines that no cache had.
    pub misses: u64,
    /// Lines that the prefetcher read.
    pub prefetched: u64,
    /// Lines that were written back.
    pub written_back: u64,
    /// Time that threads waited for it, picoseconds.
    pub lost_ps: u64,
}

impl Count {
    /// Bytes that went over the links, both ways.
    pub fn bytes(&self) -> u64 {
        (self.misses + self.prefetched + self.written_back) * crate::cache::LINE
    }

    /// Time that threads waited for it.
    pub const fn lost(&self) -> Time {
        Time(self.lost_ps)
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.accesses += other.accesses;
        self.misses += other.misses;
        self.prefetched += other.prefetched;
        self.written_back += other.written_back;
        self.lost_ps += other.lost_ps;
    }
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadReport {
    /// Its stream in the trace.
    pub stream: StreamId,
    /// Its name there.
    pub name: String,
    /// What it did; `lost` is what it waited for memory.
    pub count: Count,
    /// What it worked.
    pub work: Time,
    /// What it waited for the caches.
    pub lost_to_caches: Time,
    /// When it ended.
    pub end: Time,
}

/// A tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierReport {
    /// Its number in the model.
    pub tier: TierIndex,
    /// What was done to it.
    pub count: Count,
}

/// A site, on one tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteReport {
    /// Who allocated it; `None` for memory in no block.
    pub site: Option<SiteId>,
    /// Where it was.
    pub tier: TierIndex,
    /// What was done to it.
    pub count: Count,
}

/// A replay.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// When the last thread ended.
    pub end: Time,
    /// All of it.
    pub total: Count,
    /// By thread, in the order of the streams.
    pub threads: Vec<ThreadReport>,
    /// By tier, those that were used.
    pub tiers: Vec<TierReport>,
    /// By site and tier, those that cost most time first.
    pub sites: Vec<SiteReport>,
    /// What was assumed, a sentence each.
    pub assumptions: Vec<String>,
    /// What of the trace was left out because it is damaged.
    pub damage: Vec<String>,
}

impl Report {
    pub(super) fn new<S: ReadAt, const N: usize>(
        placement: usize,
        threads: Vec<ThreadReport>,
        table: &Table,
        space: &Space<N>,
        trace: &Trace<S>,
        config: &Config,
        damage: &[Error],
    ) -> Self {
        let mut tiers: BTreeMap<TierIndex, Count> = BTreeMap::new();
        let mut sites: Vec<SiteReport> = Vec::new();
        let mut by_site = HashMap::new();
        for (region, &count) in table.iter().filter(|(_, count)| **count != Count::default()) {
            let region = space.describe(region);
            let (site, tier) = (region.site, region.tiers[placement]);
            *tiers.entry(tier).or_default() += count;
            // Regions that only another placement tells apart are one here.
            let at = *by_site.entry((site, tier)).or_insert(sites.len());
            match sites.get_mut(at) {
                Some(report) => report.count += count,
                None => sites.push(SiteReport { site, tier, count }),
            }
        }
        // Those that are equal stand in the order of their names, not in that in which another placement came to tell them apart.
        sites.sort_by_key(|SiteReport { site, tier, count }| {
            (std::cmp::Reverse((count.lost_ps, count.misses, count.accesses)), *site, *tier)
        });
        Self {
            end: threads.iter().map(|thread| thread.end).max().unwrap_or(Time::ZERO),
            total: table.total(),
            threads,
            tiers: tiers.into_iter().map(|(tier, count)| TierReport { tier, count }).collect(),
            sites,
            assumptions: assumptions(trace.provenance().clock, config),
            damage: trace.damage().iter().chain(damage).map(ToString::to_string).collect(),
        }
    }
}

fn assumptions(clock: Clock, config: &Config) -> Vec<String> {
    let work = match clock {
        Clock::RealNs | Clock::VirtualPs => format!(
            "the recorded time between accesses, times {}, is work; it contains what the recorded machine waited for its \
             own memory",
            config.work_factor
        ),
        Clock::Instructions => {
            format!("an instruction takes {:.3} ns where memory does not hold it up", config.instruction_ns)
        }
        Clock::Order => format!("an event takes {:.3} ns where memory does not hold it up", config.instruction_ns),
    };
    let dependence = match config.dependence {
        super::Dependence::Recorded => "accesses that the trace marks wait for the load before them",
        super::Dependence::All => "every access waits for the load before it",
        super::Dependence::Never => "no access waits for the load before it",
    };
    vec![
        work,
        format!(
            "{dependence}; others overlap, up to {} lines on their way and {} accesses ahead",
            config.outstanding, config.window
        ),
        format!("caches: {}", config.caches),
    ]
}
