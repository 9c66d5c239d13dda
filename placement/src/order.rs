//! A short list of tiers without heap memory.

use crate::{TIERS_MAX, TierIndex};

/// Distinct tiers in order. Equal lists compare equal: unused places always hold zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    tiers: [u8; TIERS_MAX],
    len: u8,
}

impl Order {
    /// The empty list.
    pub(crate) const NONE: Self = Self { tiers: [0; TIERS_MAX], len: 0 };

    /// Appends `tier` unless it is listed already. (Distinct indices below `TIERS_MAX` always have room.)
    pub(crate) fn push(&mut self, tier: TierIndex) {
        if self.contains(tier) {
            return;
        }
        if let Some(place) = self.tiers.get_mut(usize::from(self.len)) {
            *place = tier.0;
            self.len += 1;
        }
    }

    pub(crate) fn contains(&self, tier: TierIndex) -> bool {
        self.iter().any(|listed| listed == tier)
    }

    pub(crate) fn first(&self) -> Option<TierIndex> {
        self.iter().next()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.tiers.get(..usize::from(self.len)).unwrap_or_default()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = TierIndex> + Clone + use<'_> {
        self.as_slice().iter().map(|&tier| TierIndex(tier))
    }

    /// Sorts so that `before(a, b)` holds for neighbours; stable. Insertion sort: the list has at most eight entries.
    pub(crate) fn sort_by(&mut self, before: impl Fn(TierIndex, TierIndex) -> bool) {
        let len = usize::from(self.len);
        let Some(tiers) = self.tiers.get_mut(..len) else { return };
        for end in 1..len {
            let mut at = end;
            while at > 0 && before(TierIndex(tiers[at]), TierIndex(tiers[at - 1])) {
                tiers.swap(at, at - 1);
                at -= 1;
            }
        }
    }
}

impl FromIterator<TierIndex> for Order {
    fn from_iter<I: IntoIterator<Item = TierIndex>>(tiers: I) -> Self {
        let mut order = Self::default();
        tiers.into_iter().for_each(|tier| order.push(tier));
        order
    }
}
