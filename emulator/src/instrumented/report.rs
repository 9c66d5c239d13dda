//! What an instrumented program did, for people and programs.

use super::engine::{Counts, Engine, Thread};
use super::{Config, Overlap};
use crate::model::Serve;
use crate::time::Mode;

/// Kind and version of the document.
pub const FORMAT: &str = "tiermem-instrument-process-1";

/// One process.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: String,
    /// How time passed: always `instrumented`, virtual time from the model.
    pub time_mode: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its process id.
    pub pid: u32,
    /// How it ended: `exit`, `exec`, `fork` (a child that ended without more), or `signal N`.
    pub ended: String,
    /// The topology's name.
    pub topology: String,
    /// The caches.
    pub cache: String,
    /// How accesses overlap.
    pub overlap: Overlap,
    /// Virtual time from the process's begin to the end of its last thread, picoseconds.
    pub virtual_ps: u64,
    /// The furthest that the clocks of two running threads were apart, picoseconds. What one thread does to the queues
    /// is seen by another up to this much too early or too late.
    pub skew_ps: u64,
    /// Accesses that were not counted, because they were made where the run time could not take them (in a signal
    /// handler that interrupted it).
    pub lost: u64,
    /// Blocks for which no tier had room.
    pub overfull: u64,
    /// Threads, in order of their beginning.
    pub threads: Vec<ThreadReport>,
    /// Tiers.
    pub tiers: Vec<TierReport>,
    /// Allocation sites by tier, those that waited longest first. The first entry without frames is memory that nobody
    /// allocated: stacks and static data.
    pub sites: Vec<SiteReport>,
    /// Files that code was mapped from.
    pub modules: Vec<ModuleReport>,
}

/// One thread. Counts of lines are by where they were found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "the fields are those of Counts")]
pub struct ThreadReport {
    pub loads: u64,
    pub stores: u64,
    pub bytes_loaded: u64,
    pub bytes_stored: u64,
    pub ranges_loaded: u64,
    pub ranges_stored: u64,
    pub range_bytes_loaded: u64,
    pub range_bytes_stored: u64,
    /// By level.
    pub hits: Vec<u64>,
    pub misses: u64,
    pub waited_ps: u64,
    pub start_ps: u64,
    pub end_ps: u64,
}

/// One tier.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TierReport {
    /// Its name.
    pub name: String,
    /// Lines read for loads.
    pub load_misses: u64,
    /// Lines read for stores.
    pub store_misses: u64,
    /// Lines read by the prefetcher.
    pub prefetched: u64,
    /// Lines written.
    pub written_back: u64,
    /// Picoseconds that threads waited for lines of its blocks, beyond the first level.
    pub waited_ps: u64,
    /// Bytes allocated in all.
    pub bytes: u64,
    /// Sum of the sites' peaks, bytes.
    pub peak: u64,
}

/// The blocks of a site on one tier.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SiteReport {
    /// Return addresses, innermost first.
    pub frames: Vec<u64>,
    /// Name of the tier.
    pub tier: String,
    /// Blocks.
    pub allocations: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Most bytes at a time.
    pub peak: u64,
    /// Lines read for loads.
    pub load_misses: u64,
    /// Lines read for stores.
    pub store_misses: u64,
    /// Lines read by the prefetcher.
    pub prefetched: u64,
    /// Lines written.
    pub written_back: u64,
    /// Picoseconds that threads waited for lines of these blocks, beyond the first level.
    pub waited_ps: u64,
}

/// Where a file's code was mapped.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ModuleReport {
    /// First address.
    pub start: u64,
    /// End.
    pub end: u64,
    /// Offset in the file of what lies at `start`.
    pub file_offset: u64,
    /// The file.
    pub path: String,
}

/// What the engine does not know of a process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Process id.
    pub pid: u32,
    /// See [`Report::ended`].
    pub ended: String,
    /// See [`Report::lost`].
    pub lost: u64,
    /// See [`Report::modules`].
    pub modules: Vec<ModuleReport>,
}

impl<S: Serve> Engine<S> {
    /// What happened so far. All threads have brought their accesses; what is in flight is waited for.
    pub fn report(&mut self, config: &Config, tiers: &[String], process: Process) -> Report {
        for at in 0..self.threads.len() {
            self.drain(super::ThreadIndex(u32::try_from(at).unwrap_or(u32::MAX)));
        }
        let levels = config.cache.split(',').filter(|level| !level.starts_with("prefetch:")).count();
        let threads: Vec<_> = self.threads.iter().flatten().map(|thread| thread.report(levels)).collect();
        let name = |tier: u16| tiers.get(usize::from(tier)).cloned().unwrap_or_default();
        let begin = threads.iter().map(|thread| thread.start_ps).min().unwrap_or(0);
        let end = threads.iter().map(|thread| thread.end_ps).max().unwrap_or(0);
        Report {
            format: FORMAT.to_owned(),
            time_mode: Mode::Instrumented.to_string(),
            command: process.command,
            pid: process.pid,
            ended: process.ended,
            topology: config.topology.clone(),
            cache: config.cache.clone(),
            overlap: config.overlap,
            virtual_ps: end - begin,
            skew_ps: self.skew_ps,
            lost: process.lost,
            overfull: self.placing.overfull,
            threads,
            tiers: self.tier_reports(tiers),
            sites: self.site_reports(name),
            modules: process.modules,
        }
    }

    fn tier_reports(&self, names: &[String]) -> Vec<TierReport> {
        let mut tiers: Vec<_> =
            names.iter().map(|name| TierReport { name: name.clone(), ..TierReport::default() }).collect();
        for blocks in &self.placing.blocks {
            let Some(tier) = tiers.get_mut(usize::from(blocks.tier)) else { continue };
            tier.load_misses += blocks.load_misses;
            tier.store_misses += blocks.store_misses;
            tier.prefetched += blocks.prefetched;
            tier.written_back += blocks.written_back;
            tier.waited_ps += blocks.waited_ps;
            tier.bytes += blocks.bytes;
            tier.peak += blocks.peak;
        }
        tiers
    }

    fn site_reports(&self, name: impl Fn(u16) -> String) -> Vec<SiteReport> {
        let used =
            self.placing.blocks.iter().filter(|b| b.allocations + b.load_misses + b.store_misses + b.waited_ps > 0);
        let mut sites: Vec<_> = { used }
            .map(|blocks| SiteReport {
                frames: blocks.site.map_or_else(Vec::new, |site| self.placing.frames[site as usize].clone()),
                tier: name(blocks.tier),
                allocations: blocks.allocations,
                bytes: blocks.bytes,
                peak: blocks.peak,
                load_misses: blocks.load_misses,
                store_misses: blocks.store_misses,
                prefetched: blocks.prefetched,
                written_back: blocks.written_back,
                waited_ps: blocks.waited_ps,
            })
            .collect();
        sites.sort_by_key(|site| std::cmp::Reverse((site.waited_ps, site.bytes)));
        sites
    }
}

impl Thread {
    fn report(&self, levels: usize) -> ThreadReport {
        let Counts { hits, .. } = self.counts;
        ThreadReport {
            loads: self.counts.loads,
            stores: self.counts.stores,
            bytes_loaded: self.counts.bytes_loaded,
            bytes_stored: self.counts.bytes_stored,
            ranges_loaded: self.counts.ranges_loaded,
            ranges_stored: self.counts.ranges_stored,
            range_bytes_loaded: self.counts.range_bytes_loaded,
            range_bytes_stored: self.counts.range_bytes_stored,
            hits: hits.into_iter().take(levels).collect(),
            misses: self.counts.misses,
            waited_ps: self.counts.waited_ps,
            start_ps: self.start_ps,
            end_ps: self.clock.now_ps(),
        }
    }
}
