//! How the tiers filled and emptied over time.

use serde::Serialize;

/// Most moments kept. When there are more, neighbours are merged two by two, so a run of any length keeps at least half
/// of this many.
const MOMENTS_MAX: usize = 4096;

/// The tiers' use at one moment, summed over the processes. Sizes in bytes, in the order of [`Timeline::tiers`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// Milliseconds since the run began.
    pub at_ms: u64,
    /// Bytes that the programs held.
    pub live: Vec<u64>,
    /// Bytes that the tiers gave.
    pub committed: Vec<u64>,
    /// Resident set of the processes.
    pub rss: u64,
    /// Processes that were running.
    pub processes: u32,
}

/// Moments in order of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Timeline {
    /// Names of the tiers.
    pub tiers: Vec<String>,
    /// The moments, oldest first. Each has at most one entry per tier; a missing one is 0.
    pub moments: Vec<Moment>,
    /// How many readings each moment stands for (1, or a power of two after merging: the highest value of each).
    pub readings_per_moment: u64,
    /// Readings that wait to be merged into the next moment.
    #[serde(skip)]
    pending: Option<(Moment, u64)>,
}

impl Timeline {
    /// An empty timeline.
    pub fn new() -> Self {
        Self { readings_per_moment: 1, ..Self::default() }
    }

    /// The index of a tier, which is added if it is new.
    pub fn tier(&mut self, name: &str) -> usize {
        self.tiers.iter().position(|t| t == name).unwrap_or_else(|| {
            self.tiers.push(name.to_owned());
            self.tiers.len() - 1
        })
    }

    /// Adds a reading; times must not go backwards.
    pub fn push(&mut self, reading: Moment) {
        let (moment, count) = match self.pending.take() {
            Some((earlier, count)) => (merge(earlier, reading), count + 1),
            None => (reading, 1),
        };
        if count < self.readings_per_moment {
            self.pending = Some((moment, count));
            return;
        }
        self.moments.push(moment);
        if self.moments.len() > MOMENTS_MAX {
            let mut old = std::mem::take(&mut self.moments).into_iter();
            while let Some(first) = old.next() {
                self.moments.push(match old.next() {
                    Some(second) => merge(first, second),
                    None => first,
                });
            }
            self.readings_per_moment *= 2;
        }
    }

    /// Adds what is still waiting. Call at the end.
    pub fn finish(&mut self) {
        if let Some((moment, _)) = self.pending.take() {
            self.moments.push(moment);
        }
    }

    /// Highest sum of `part` of one tier that a reading saw.
    pub fn peak(&self, tier: usize, part: impl Fn(&Moment) -> &Vec<u64>) -> u64 {
        self.moments.iter().filter_map(|m| part(m).get(tier)).copied().max().unwrap_or(0)
    }
}

/// One moment for two: the later time, the higher values, so that no peak that was seen is lost.
fn merge(first: Moment, second: Moment) -> Moment {
    Moment {
        at_ms: second.at_ms,
        live: highest(first.live, &second.live),
        committed: highest(first.committed, &second.committed),
        rss: first.rss.max(second.rss),
        processes: first.processes.max(second.processes),
    }
}

fn highest(mut one: Vec<u64>, other: &[u64]) -> Vec<u64> {
    one.resize(one.len().max(other.len()), 0);
    one.iter_mut().zip(other).for_each(|(a, &b)| *a = (*a).max(b));
    one
}

#[cfg(test)]
mod tests {
    use super::{MOMENTS_MAX, Moment, Timeline};

    fn moment(at_ms: u64, live: &[u64]) -> Moment {
        Moment { at_ms, live: live.to_vec(), committed: live.to_vec(), rss: at_ms, processes: 1 }
    }

    #[test]
    fn a_long_run_stays_bounded_and_keeps_its_peak_and_its_end() {
        let mut timeline = Timeline::new();
        assert_eq!(timeline.tier("dram"), 0);
        assert_eq!(timeline.tier("slow"), 1);
        assert_eq!(timeline.tier("dram"), 0);
        let count = MOMENTS_MAX as u64 * 10 + 3;
        for i in 0..count {
            let spike = if i == 12_345 { 999 } else { 5 };
            timeline.push(moment(i, &[1, spike]));
        }
        timeline.finish();
        assert!(timeline.moments.len() <= MOMENTS_MAX && timeline.moments.len() >= MOMENTS_MAX / 2);
        assert_eq!(timeline.peak(1, |m| &m.live), 999);
        assert_eq!(timeline.peak(0, |m| &m.committed), 1);
        assert_eq!(timeline.moments.last().map(|m| m.at_ms), Some(count - 1));
        assert!(timeline.moments.is_sorted_by_key(|m| m.at_ms));
    }

    #[test]
    fn tiers_that_appear_later_count_as_empty_before() {
        let mut timeline = Timeline { readings_per_moment: 2, ..Timeline::new() };
        timeline.push(moment(0, &[7]));
        timeline.push(moment(1, &[3, 9]));
        timeline.push(moment(2, &[1]));
        timeline.finish();
        assert_eq!(
            timeline.moments,
            [Moment { live: vec![7, 9], committed: vec![7, 9], ..moment(1, &[]) }, moment(2, &[1])]
        );
    }
}
