//! What is counted, by region.

use super::report::Count;

/// A number of a [`Region`](super::space::Region); an index into a [`Table`].
pub type RegionIndex = u32;

/// Counts by region.
#[derive(Clone, Debug, Default)]
pub struct Table {
    counts: Vec<Count>,
}

impl Table {
    /// The counts of a region.
    #[inline]
    pub fn of(&mut self, region: RegionIndex) -> &mut Count {
        let index = region as usize;
        if index < self.counts.len() { &mut self.counts[index] } else { self.grow(index) }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, index: usize) -> &mut Count {
        self.counts.resize(index + 1, Count::default());
        &mut self.counts[index]
    }

    /// Adds another table to this one.
    pub fn add(&mut self, other: &Self) {
        for (region, count) in other.iter() {
            *self.of(region) += *count;
        }
    }

    /// All regions that have counts.
    pub fn iter(&self) -> impl Iterator<Item = (RegionIndex, &Count)> {
        self.counts.iter().enumerate().map(|(index, count)| (index as RegionIndex, count))
    }

    /// The sum over all regions.
    pub fn total(&self) -> Count {
        let mut total = Count::default();
        self.counts.iter().for_each(|count| total += *count);
        total
    }
}
