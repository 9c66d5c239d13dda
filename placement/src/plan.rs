//! A policy in the form that an allocator's slow path uses.

use crate::choice::{Choice, Reason, SpillCause};
use crate::order::Order;
use crate::policy::{SizeRange, Watermark};
use crate::{RULES_MAX, TIERS_MAX, TierIndex};

/// How full a tier is. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierLoad {
    /// What this process holds of the tier now: its extents, less the parts given back.
    pub committed: u64,
    /// What the tier can give to this process in all; `u64::MAX` where that is unknown.
    pub capacity: u64,
    /// Whether the tier can be asked at all.
    pub available: bool,
}

impl Default for TierLoad {
    /// An empty tier of unknown capacity, available.
    fn default() -> Self {
        Self { committed: 0, capacity: u64::MAX, available: true }
    }
}

/// What is to be placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Size of the block, bytes: what the size rules look at.
    pub size: u64,
    /// Bytes by which the chosen tier's `committed` may grow to serve it: its new extents, or 0.
    pub grow: u64,
    /// The tier that the program asked for. An index that the policy does not have counts as `None`.
    pub hint: Option<TierIndex>,
    /// The tier that a site rule gives ([`SiteRules::matches`](crate::SiteRules::matches)). Likewise.
    pub site: Option<TierIndex>,
}

impl Request {
    /// A request with neither hint nor site.
    pub const fn new(size: u64, grow: u64) -> Self {
        Self { size, grow, hint: None, site: None }
    }
}

/// What decides where no hint and no rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Fill,
    Interleave,
}

/// One tier's part of a [`Plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlannedTier {
    /// `u64::MAX` for none.
    pub(crate) limit: u64,
    pub(crate) watermark: Watermark,
    /// At least 1.
    pub(crate) weight: u32,
    /// The tier itself, then where its requests go when it has no room.
    pub(crate) fallback: Order,
}

impl PlannedTier {
    pub(crate) const UNUSED: Self = Self { limit: 0, watermark: Watermark::FULL, weight: 1, fallback: Order::NONE };

    /// What keeps the tier from growing by `grow` bytes, if anything does.
    fn refusal(&self, load: &TierLoad, grow: u64) -> Option<SpillCause> {
        let ceiling = self.limit.min(load.capacity);
        match load.committed.checked_add(grow) {
            _ if !load.available => Some(SpillCause::Unavailable),
            Some(after) if after <= self.watermark.of(ceiling) => None,
            Some(after) if after <= ceiling => Some(SpillCause::Watermark),
            Some(after) if after <= self.limit => Some(SpillCause::Full),
            _ => Some(SpillCause::Limit),
        }
    }
}

/// A size rule: the tier of blocks whose size lies in the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SizeRule {
    pub(crate) range: SizeRange,
    pub(crate) tier: TierIndex,
}

/// A compiled [`Policy`](crate::Policy): a plain value of fixed size, under 1.5 KiB, that any thread can read.
///
/// Made by [`Policy::compile`](crate::Policy::compile).
///
/// # How a tier is chosen
/// 1. The tier *wanted* is the hint's; without one the site rule's; without one that of the first size rule that
///    matches; without one the strategy's.
/// 2. After it come the tiers of its fallback chain, in order. Under `interleave`, and where nothing else decides, the
///    order is that of the deficits, least `committed / weight` first, ties by the chain.
/// 3. Tiers that are unavailable, or that the request would take over their limit or capacity, are struck out.
/// 4. Tiers that the request would take over their watermark go to the end, in the same order among themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(crate) tiers: [PlannedTier; TIERS_MAX],
    pub(crate) tier_count: u8,
    pub(crate) mode: Mode,
    pub(crate) chain: Order,
    pub(crate) size_rules: [Option<SizeRule>; RULES_MAX],
    pub(crate) has_site_rules: bool,
    pub(crate) decay_ms: u32,
}

impl Plan {
    /// Names the tiers to try for `request`, best first. `loads` is by [`TierIndex`]; entries past
    /// [`tier_count`](Self::tier_count) are not looked at.
    pub fn choose(&self, request: &Request, loads: &[TierLoad; TIERS_MAX]) -> Choice {
        let (origin, order) = self.order(request, loads);
        let wanted = order.first();
        let mut choice = Choice { candidates: Order::NONE, origin, wanted, cause: None };
        let mut over_watermark = Order::NONE;
        let mut wanted_refusal = None;
        for tier in order.iter() {
            let refusal = self.refusal(tier, loads, request.grow);
            match refusal {
                None => choice.candidates.push(tier),
                Some(SpillCause::Watermark) => over_watermark.push(tier),
                Some(_) => {}
            }
            if Some(tier) == wanted {
                wanted_refusal = refusal;
            }
        }
        over_watermark.iter().for_each(|tier| choice.candidates.push(tier));
        if choice.preferred() != wanted {
            choice.cause = wanted_refusal;
        }
        choice
    }

    /// The tier that the size rules give to blocks of `size` bytes.
    pub fn size_rule(&self, size: u64) -> Option<TierIndex> {
        self.size_rules.iter().map_while(|rule| *rule).find(|rule| rule.range.contains(size)).map(|rule| rule.tier)
    }

    /// Whether a size rule covers any size from `first` to `last` bytes, both included.
    pub fn size_rule_overlaps(&self, first: u64, last: u64) -> bool {
        self.size_rules.iter().map_while(|rule| *rule).any(|rule| rule.range.overlaps(first, last))
    }

    /// Whether any rule looks at allocation sites, so that stacks are worth walking.
    pub fn has_site_rules(&self) -> bool {
        self.has_site_rules
    }

    /// Number of tiers, DRAM included.
    pub fn tier_count(&self) -> usize {
        usize::from(self.tier_count)
    }

    /// The most bytes that this process may commit on `tier`; `None` where the policy sets no limit.
    pub fn limit(&self, tier: TierIndex) -> Option<u64> {
        self.tier(tier).map(|planned| planned.limit).filter(|&limit| limit < u64::MAX)
    }

    /// Milliseconds for which memory stays committed after its last block was freed; 0: it is returned at once.
    pub fn decay_ms(&self) -> u32 {
        self.decay_ms
    }

    /// Whether `request` fits on `tier` as loaded: available, and within limit and capacity. For a caller that asks a
    /// tier for more than its request said.
    pub fn fits(&self, tier: TierIndex, loads: &[TierLoad; TIERS_MAX], grow: u64) -> bool {
        matches!(self.refusal(tier, loads, grow), None | Some(SpillCause::Watermark))
    }

    fn tier(&self, tier: TierIndex) -> Option<&PlannedTier> {
        self.tiers.get(..self.tier_count())?.get(tier.index())
    }

    fn refusal(&self, tier: TierIndex, loads: &[TierLoad; TIERS_MAX], grow: u64) -> Option<SpillCause> {
        match (self.tier(tier), loads.get(tier.index())) {
            (Some(planned), Some(load)) => planned.refusal(load, grow),
            _ => Some(SpillCause::Unavailable),
        }
    }

    /// The tiers for `request` in order of preference, room or not, and what put the first one first.
    fn order(&self, request: &Request, loads: &[TierLoad; TIERS_MAX]) -> (Reason, Order) {
        let named = [
            (Reason::Hint, request.hint),
            (Reason::SiteRule, request.site),
            (Reason::SizeRule, self.size_rule(request.size)),
        ];
        for (reason, tier) in named {
            if let Some(planned) = tier.and_then(|tier| self.tier(tier)) {
                return (reason, planned.fallback);
            }
        }
        match self.mode {
            Mode::Fill => (Reason::Fill, self.chain),
            Mode::Interleave => {
                let mut order = self.chain;
                order.sort_by(|a, b| self.share_less(a, b, loads));
                (Reason::Interleave, order)
            }
        }
    }

    /// Whether `a` holds less per weight than `b`: `a.committed / a.weight < b.committed / b.weight`, exactly.
    fn share_less(&self, a: TierIndex, b: TierIndex, loads: &[TierLoad; TIERS_MAX]) -> bool {
        let share = |of: TierIndex, over: TierIndex| {
            let committed = loads.get(of.index()).map_or(0, |load| load.committed);
            u128::from(committed) * u128::from(self.tier(over).map_or(1, |planned| planned.weight))
        };
        share(a, b) < share(b, a)
    }
}
