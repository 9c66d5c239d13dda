//! DAMON's tracepoint `damon_aggregated`, as `perf script`, `damo` or the kernel's trace buffer print it
//! (linux, `include/trace/events/damon.h` and `Documentation/admin-guide/mm/damon/usage.rst`).
//!
//! ```text
//! kdamond.0 46568 [027] 79357.842179: damon:damon_aggregated: target_id=0 nr_regions=11 122509119488-135708762112: 0 864
//! ```
//!
//! A line is a region (decimal addresses), in how many of DAMON's looks it had been accessed, and its age. All regions of a
//! target at one time are a snapshot; the time since the snapshot before is the interval that it counts.

use std::collections::BTreeMap;
use std::io::Write;

use super::perf::Head;
use super::{Complaint, Lines, Sink, tool};
use crate::trace::{Clock, Completeness, Counts, Definition, Event, Interval, Provenance, StreamId};

#[derive(Debug)]
pub(super) struct Damon {
    looks: u32,
    targets: BTreeMap<u32, Target>,
}

/// The snapshot that is being read, and when the one before was.
#[derive(Debug, Default)]
struct Target {
    /// Start, length, hits.
    regions: Vec<(u64, u64, u32)>,
    at: u64,
    before: Option<u64>,
    /// The first snapshot, which waits until the second one tells how long an interval is.
    first: Vec<(u64, u64, u32)>,
}

impl Damon {
    pub(super) fn new(looks: u32) -> Self {
        Self { looks, targets: BTreeMap::new() }
    }
}

impl Target {
    fn write<W: Write>(&mut self, id: u32, looks: u32, into: &mut Sink<W>) -> Result<(), Complaint> {
        let ticks = self.before.map_or(0, |before| self.at - before);
        let mut all: Vec<(u64, _)> = Vec::new();
        if let Some(before) = self.before {
            all.extend(self.first.drain(..).map(|region| (before, region)));
        } else if self.first.is_empty() {
            self.first = std::mem::take(&mut self.regions);
        }
        all.extend(self.regions.drain(..).map(|region| (self.at, region)));
        for (at, (address, len, hits)) in all {
            let counts = Counts::Seen { hits, looks };
            into.event(StreamId(id), Event::Interval(Interval { at, ticks, address, len, counts }))?;
        }
        Ok(())
    }
}

impl Lines for Damon {
    const EXPECTED: &'static str = "lines of the tracepoint damon_aggregated";

    fn provenance(&self) -> Provenance {
        Provenance {
            tool: tool("damon_aggregated"),
            clock: Clock::RealNs,
            common_clock: true,
            accesses: Completeness::Aggregated,
            notes: vec!["a stream is a target of DAMON's".to_owned()],
            ..Provenance::default()
        }
    }

    fn line<W: Write>(&mut self, line: &str, into: &mut Sink<W>) -> Result<(), Complaint> {
        if line.trim().is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let head = Head::parse(line)?;
        let (_, event, rest) = head.event()?;
        // Other events of the same recording.
        if event.rsplit(':').next() != Some("damon_aggregated") {
            return Ok(());
        }
        let (target, region) = region(rest).ok_or_else(|| {
            Complaint::bad("expected `target_id=N nr_regions=N START-END: ACCESSES AGE` behind damon_aggregated")
        })?;
        if self.looks != 0 && region.2 > self.looks {
            return Err(Complaint::bad(format!(
                "accessed in {} of {} looks: say with --looks how many there are in an interval",
                region.2, self.looks
            )));
        }
        let known = self.targets.contains_key(&target);
        let state = self.targets.entry(target).or_default();
        if !known {
            let name = format!("target {target}");
            into.define(&Definition::Stream { id: StreamId(target), os_id: 0, name })?;
        } else if head.at > state.at {
            state.write(target, self.looks, into)?;
            state.before = Some(state.at);
        }
        state.at = state.at.max(head.at);
        state.regions.push(region);
        Ok(())
    }

    fn end<W: Write>(&mut self, into: &mut Sink<W>) -> Result<(), Complaint> {
        let looks = self.looks;
        for (&id, target) in &mut self.targets {
            target.write(id, looks, into)?;
            // There was one snapshot only: how long its interval was is not known.
            for (address, len, hits) in std::mem::take(&mut target.first) {
                let interval = Interval { at: target.at, ticks: 0, address, len, counts: Counts::Seen { hits, looks } };
                into.event(StreamId(id), Event::Interval(interval))?;
            }
        }
        Ok(())
    }
}

/// The target, and start, length and hits of its region.
fn region(text: &str) -> Option<(u32, (u64, u64, u32))> {
    let mut words = text.split_ascii_whitespace();
    let target = words.next()?.strip_prefix("target_id=")?.parse().ok()?;
    words.next()?.strip_prefix("nr_regions=")?;
    let (start, end) = words.next()?.strip_suffix(':')?.split_once('-')?;
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    Some((target, (start, end.checked_sub(start)?, words.next()?.parse().ok()?)))
}
