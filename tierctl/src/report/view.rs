//! The figures of a run as the page needs them: added up over processes and put in order.

use crate::events::{Weight, describe, weight};
use crate::record::timeline::Moment;
use crate::record::{RunRecord, TierTotal, tier_totals};

/// Points of the timeline that are drawn; a screen has no more.
const POINTS_MAX: usize = 480;

/// Everything on the page that is computed.
#[derive(Debug)]
pub struct View<'a> {
    /// The run.
    pub run: &'a RunRecord,
    /// The tiers; their index is their colour.
    pub tiers: Vec<TierTotal>,
    /// The timeline, thinned, each list in the order of `tiers`.
    pub points: Vec<Moment>,
    /// Block sizes, ascending.
    pub sizes: Vec<SizeRow>,
    /// Events, in order of time.
    pub events: Vec<EventRow>,
    /// Events that were overwritten before they could be read.
    pub events_lost: u64,
}

/// Blocks of one size class, or of several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SizeRow {
    /// Bytes per block (the largest, in a row for several classes); 0 for large blocks.
    pub block_size: u64,
    /// Per tier: blocks held at the end.
    pub live: Vec<u64>,
    /// Per tier: bytes held at the end.
    pub live_bytes: Vec<u64>,
    /// Per tier: blocks allocated.
    pub allocations: Vec<u64>,
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// Milliseconds since the run began.
    pub at_ms: i64,
    /// The process.
    pub pid: u32,
    /// Its kind in a word.
    pub kind: &'static str,
    /// How much it matters.
    pub weight: Weight,
    /// The tier, as an index into [`View::tiers`].
    pub tier: Option<usize>,
    /// What happened.
    pub text: String,
    /// How many alike.
    pub count: u64,
}

impl<'a> View<'a> {
    /// Prepares a run.
    pub fn new(run: &'a RunRecord) -> Self {
        let tiers = tier_totals(&run.recorded);
        let mut points = thin(reordered(run, &tiers));
        // The reading after the last process ended shows only that it did.
        points.truncate(points.iter().rposition(|p| p.processes > 0).map_or(0, |last| last + 1));
        let sizes = sizes(run, &tiers);
        let mut events = events(run, &tiers);
        events.sort_by_key(|e| (e.at_ms, e.pid));
        let lost = |p: &crate::record::ProcessRecord| {
            let kept: u64 = p.snapshot.events.iter().map(|e| e.count).sum();
            p.snapshot.events_total.saturating_sub(kept)
        };
        let events_lost = run.recorded.processes.iter().map(lost).sum();
        Self { run, tiers, points, sizes, events, events_lost }
    }

    /// Length of the run in milliseconds, at least 1.
    pub fn duration_ms(&self) -> u64 {
        u64::try_from(self.run.duration.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// The moment when the programs held most, if any was read.
    pub fn peak(&self) -> Option<&Moment> {
        self.points.iter().max_by_key(|m| m.live.iter().sum::<u64>())
    }

    /// Bytes of `part`, a list in the order of the tiers, that are not on host memory.
    pub fn beyond_dram(&self, part: &[u64]) -> u64 {
        self.tiers.iter().zip(part).filter(|(tier, _)| tier.kind != "dram").map(|(_, bytes)| bytes).sum()
    }
}

/// The moments with their lists in the order of `tiers`, all of the same length.
fn reordered(run: &RunRecord, tiers: &[TierTotal]) -> Vec<Moment> {
    let timeline = &run.recorded.timeline;
    let place = |tier: &TierTotal| timeline.tiers.iter().position(|name| *name == tier.name);
    let places: Vec<Option<usize>> = tiers.iter().map(place).collect();
    let pick =
        |list: &[u64]| places.iter().map(|p| p.and_then(|p| list.get(p)).copied().unwrap_or(0)).collect::<Vec<u64>>();
    let moment = |m: &Moment| Moment { live: pick(&m.live), committed: pick(&m.committed), ..m.clone() };
    timeline.moments.iter().map(moment).collect()
}

/// At most [`POINTS_MAX`] moments: of neighbours, the one when most was held, whole, so that the tiers' parts belong
/// together. The first and the last stay.
fn thin(moments: Vec<Moment>) -> Vec<Moment> {
    if moments.len() <= POINTS_MAX {
        return moments;
    }
    let group = moments.len().div_ceil(POINTS_MAX - 2);
    let last = moments.last().cloned();
    let highest = |group: &[Moment]| group.iter().max_by_key(|m| m.live.iter().sum::<u64>()).cloned();
    let first = moments.first().cloned();
    let middle = moments.get(1..moments.len() - 1).unwrap_or_default();
    first.into_iter().chain(middle.chunks(group).filter_map(highest)).chain(last).collect()
}

fn sizes(run: &RunRecord, tiers: &[TierTotal]) -> Vec<SizeRow> {
    let mut rows: Vec<SizeRow> = Vec::new();
    for snapshot in run.recorded.processes.iter().map(|p| &p.snapshot) {
        let place = |tier: usize| {
            let name = &snapshot.tiers.get(tier)?.name;
            tiers.iter().position(|t| t.name == *name)
        };
        for class in &snapshot.size_classes {
            let index = rows.iter().position(|r| r.block_size == class.block_size).unwrap_or_else(|| {
                let empty = vec![0; tiers.len()];
                let [live, live_bytes, allocations] = [empty.clone(), empty.clone(), empty];
                rows.push(SizeRow { block_size: class.block_size, live, live_bytes, allocations });
                rows.len() - 1
            });
            let row = &mut rows[index];
            for (sum, part) in [
                (&mut row.live, &class.live),
                (&mut row.live_bytes, &class.live_bytes),
                (&mut row.allocations, &class.allocations),
            ] {
                for (tier, value) in part.iter().enumerate() {
                    if let Some(place) = place(tier) {
                        sum[place] += value;
                    }
                }
            }
        }
    }
    // Large blocks (0) come last.
    rows.sort_by_key(|r| r.block_size.wrapping_sub(1));
    rows
}

/// The rows for a chart: size classes between two powers of two are one row, named by its upper end.
pub fn by_power_of_two(rows: &[SizeRow]) -> Vec<SizeRow> {
    let mut groups: Vec<SizeRow> = Vec::new();
    for row in rows {
        let upper = if row.block_size == 0 { 0 } else { row.block_size.next_power_of_two().max(16) };
        match groups.last_mut().filter(|g| g.block_size == upper) {
            Some(group) => {
                for (sum, part) in [
                    (&mut group.live, &row.live),
                    (&mut group.live_bytes, &row.live_bytes),
                    (&mut group.allocations, &row.allocations),
                ] {
                    sum.iter_mut().zip(part).for_each(|(a, b)| *a += b);
                }
            }
            None => groups.push(SizeRow { block_size: upper, ..row.clone() }),
        }
    }
    groups
}

fn events(run: &RunRecord, tiers: &[TierTotal]) -> Vec<EventRow> {
    let mut rows = Vec::new();
    for process in &run.recorded.processes {
        let snapshot = &process.snapshot;
        for event in &snapshot.events {
            let name = event.tier.and_then(|t| snapshot.tiers.get(t)).map(|t| &t.name);
            rows.push(EventRow {
                at_ms: process.started_ms.saturating_add_unsigned(event.at_ms).max(0),
                pid: snapshot.pid,
                kind: event.kind.as_str(),
                weight: weight(event, snapshot),
                tier: name.and_then(|name| tiers.iter().position(|t| t.name == *name)),
                text: describe(event, snapshot),
                count: event.count,
            });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::{POINTS_MAX, SizeRow, View, by_power_of_two, thin};
    use crate::record::timeline::Moment;
    use crate::report::example;

    #[test]
    fn thinning_keeps_ends_and_the_peak() {
        let moment = |at_ms: u64| Moment { at_ms, live: vec![if at_ms == 3001 { 99 } else { 1 }], ..Moment::default() };
        let thinned = thin((0..4000).map(moment).collect());
        assert!(thinned.len() <= POINTS_MAX);
        assert_eq!((thinned[0].at_ms, thinned.last().unwrap().at_ms), (0, 3999));
        assert!(thinned.iter().any(|m| m.live[0] == 99));
        assert!(thinned.is_sorted_by_key(|m| m.at_ms));
    }

    #[test]
    fn classes_are_grouped_and_nothing_is_lost() {
        let row = |block_size| SizeRow { block_size, live: vec![1], live_bytes: vec![2], allocations: vec![3] };
        let rows: Vec<SizeRow> = [8, 16, 24, 32, 40, 0].map(row).to_vec();
        let groups = by_power_of_two(&rows);
        let sizes: Vec<(u64, u64)> = groups.iter().map(|g| (g.block_size, g.live[0])).collect();
        assert_eq!(sizes, [(16, 2), (32, 2), (64, 1), (0, 1)]);
    }

    #[test]
    fn processes_are_added_up_by_tier_name() {
        let run = example::two_processes();
        let view = View::new(&run);
        assert_eq!(view.tiers.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["dram", "slow"]);
        let of = |p: usize, t: usize| run.recorded.processes[p].snapshot.tiers[t].allocations;
        // The second process has its tiers in the other order.
        assert_eq!(view.tiers[0].allocations, of(0, 0) + of(1, 1));
        assert_eq!(view.sizes.last().unwrap().block_size, 0);
        assert!(view.events.is_sorted_by_key(|e| e.at_ms));
    }
}
