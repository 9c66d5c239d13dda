//! What can be said of a trace that does not hold every access: where its memory would lie, and where the accesses that were
//! sampled or counted would go. No times: what would wait for what is not in such a trace.

use std::collections::BTreeMap;

use super::ReplayError;
use super::placing::Placement;
use super::space::{Region, Space};
use super::table::RegionIndex;
use crate::model::TierIndex;
use crate::trace::{Completeness, Counts, Event, ReadAt, SiteId, Trace};

/// What is counted of a tier, or of a site on it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Amount {
    /// Blocks that were put there.
    pub blocks: u64,
    /// Bytes of blocks that were there at once, at most.
    pub bytes_max: u64,
    /// Bytes of blocks that were there at the end.
    pub bytes_left: u64,
    /// Accesses: what the samples stand for, or what was counted.
    pub accesses: f64,
    /// Of looks at memory: its bytes times the part of the looks that found an access, summed over the intervals. Where each
    /// OS page is a look of its own, these are the bytes of those that were accessed.
    pub bytes_seen: f64,
}

/// A site, on one tier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SiteTally {
    /// Who allocated it; `None` for memory in no block.
    pub site: Option<SiteId>,
    /// Where it was.
    pub tier: TierIndex,
    /// How much.
    pub amount: Amount,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// By tier, those that were used.
    pub tiers: Vec<(TierIndex, Amount)>,
    /// By site and tier, those with most accesses, then bytes, first.
    pub sites: Vec<SiteTally>,
    /// What the accesses are: [`Completeness::Absent`] if there are none.
    pub accesses: Completeness,
    /// What was assumed, and what cannot be told; a sentence each.
    pub assumptions: Vec<String>,
    /// What of the trace was left out because it is damaged.
    pub damage: Vec<String>,
}

#[derive(Default)]
struct Running {
    by_region: Vec<Amount>,
    by_tier: BTreeMap<TierIndex, Amount>,
    samples: u64,
    intervals: u64,
}

impl Amount {
    fn enter(&mut self, bytes: u64) {
        self.blocks += 1;
        self.bytes_left += bytes;
        self.bytes_max = self.bytes_max.max(self.bytes_left);
    }

    fn leave(&mut self, bytes: u64) {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
    }
}

/// Goes through `trace` with its memory placed by `placement`.
///
/// # Errors
/// If the trace holds neither allocations nor accesses of any kind, or cannot be read.
pub fn tally<S: ReadAt>(trace: &Trace<S>, placement: Placement) -> Result<Tally, ReplayError> {
    let mut space = Space::new([placement], false);
    let mut running = Running::default();
    let mut events = trace.events();
    for event in &mut events {
        let (_, event) = event?;
        running.follow(&mut space, &event);
    }
    let damage = trace.damage().iter().chain(events.damage()).map(ToString::to_string).collect();
    let tally = running.finish(&space, trace.provenance().accesses, damage);
    if tally.tiers.is_empty() { Err(ReplayError::Empty) } else { Ok(tally) }
}

impl Running {
    fn of(&mut self, region: RegionIndex) -> &mut Amount {
        let index = region as usize;
        if index >= self.by_region.len() {
            self.by_region.resize(index + 1, Amount::default());
        }
        &mut self.by_region[index]
    }

    fn both(&mut self, space: &Space<1>, region: RegionIndex, change: impl Fn(&mut Amount)) {
        change(self.of(region));
        change(self.by_tier.entry(space.describe(region).tiers[0]).or_default());
    }

    fn follow(&mut self, space: &mut Space<1>, event: &Event) {
        let (before, after) = match *event {
            Event::Allocate(e) => (Some(e.address), Some(e.address)),
            Event::Free(e) => (Some(e.address), None),
            Event::Reallocate(e) => (Some(e.old), Some(e.address)),
            Event::Access(e) => return self.access(space, e.address, 1.0),
            Event::Sample(e) => {
                self.samples += 1;
                #[expect(clippy::cast_precision_loss, reason = "an estimate")]
                return self.access(space, e.address, e.weight as f64);
            }
            Event::Interval(e) => return self.interval(space, e.address, e.len, e.counts),
            Event::Place(_) | Event::Key(_) => (None, None),
        };
        if let Some((size, region)) = before.and_then(|address| space.block(address)) {
            self.both(space, region, |amount| amount.leave(size));
        }
        space.happen(event);
        if let Some((size, region)) = after.and_then(|address| space.block(address)) {
            self.both(space, region, |amount| amount.enter(size));
        }
    }

    fn access(&mut self, space: &mut Space<1>, address: u64, count: f64) {
        let region = space.lookup(address);
        self.both(space, region, |amount| amount.accesses += count);
    }

    /// Counts of a range, shared out by bytes.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn interval(&mut self, space: &mut Space<1>, address: u64, len: u64, counts: Counts) {
        self.intervals += 1;
        for (bytes, region) in space.parts(address, len) {
            let share = bytes as f64 / len.max(1) as f64;
            self.both(space, region, |amount| match counts {
                Counts::Counted { reads, writes } => amount.accesses += (reads + writes) as f64 * share,
                Counts::Seen { hits, looks } => {
                    amount.bytes_seen += f64::from(hits) / f64::from(looks.max(1)) * bytes as f64;
                }
            });
        }
    }

    fn finish(self, space: &Space<1>, accesses: Completeness, damage: Vec<String>) -> Tally {
        let used = |amount: &Amount| *amount != Amount::default();
        let site = |(region, amount): (usize, Amount)| {
            let Region { site, tiers: [tier] } = space.describe(region as RegionIndex);
            SiteTally { site, tier, amount }
        };
        let mut sites: Vec<_> =
            self.by_region.into_iter().enumerate().filter(|(_, amount)| used(amount)).map(site).collect();
        sites.sort_by(|a, b| {
            let key = |s: &SiteTally| (s.amount.accesses, s.amount.bytes_seen, s.amount.bytes_max as f64);
            key(b).partial_cmp(&key(a)).unwrap_or(std::cmp::Ordering::Equal)
        });
        let mut assumptions = vec![
            "no times: the trace does not hold every access, so that no caches and no waiting can be computed"
                .to_owned(),
        ];
        if self.samples > 0 {
            assumptions.push(format!(
                "accesses are what {} samples stand for; whether the caches had the lines is not known",
                self.samples
            ));
        }
        if self.intervals > 0 {
            assumptions.push("counts of a range are shared out over it evenly, by bytes".to_owned());
        }
        let tiers = self.by_tier.into_iter().filter(|(_, amount)| used(amount)).collect();
        Tally { tiers, sites, accesses, assumptions, damage }
    }
}
