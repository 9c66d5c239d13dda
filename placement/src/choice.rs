//! The answer to a placement request.

use crate::TierIndex;
use crate::order::Order;

/// Why the first candidate of a [`Choice`] is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The program asked for this tier.
    Hint,
    /// A rule about the allocation site.
    SiteRule,
    /// A rule about the block's size.
    SizeRule,
    /// The `fill` strategy: the first tier of the chain.
    Fill,
    /// The `interleave` strategy: the tier that is furthest below its share.
    Interleave,
    /// The tier that one of the above named has no room; this is the next one ([`Choice::spilled_from`] is that tier).
    Fallback,
}

impl Reason {
    /// The word used in tables and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hint => "hint",
            Self::SiteRule => "site-rule",
            Self::SizeRule => "size-rule",
            Self::Fill => "fill",
            Self::Interleave => "interleave",
            Self::Fallback => "fallback",
        }
    }
}

/// Why the tier that should have served a request does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpillCause {
    /// It is not there, or failed.
    Unavailable,
    /// The request would take it over the policy's limit.
    Limit,
    /// The request would take it over its capacity.
    Full,
    /// The request would take it over its watermark, and another tier is still under its own.
    Watermark,
}

/// Tiers to try for one request, best first. Every one had room for it when the loads were taken, so a caller goes on
/// to the next only when the tier itself refuses. Empty where no tier of the chain has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub(crate) candidates: Order,
    pub(crate) origin: Reason,
    pub(crate) wanted: Option<TierIndex>,
    pub(crate) cause: Option<SpillCause>,
}

impl Choice {
    /// The tier to try first; `None` where no tier has room.
    pub fn preferred(&self) -> Option<TierIndex> {
        self.candidates.first()
    }

    /// All candidates, best first, without repetition.
    pub fn iter(&self) -> impl Iterator<Item = TierIndex> + Clone + use<'_> {
        self.candidates.iter()
    }

    /// Whether no tier has room.
    pub fn is_empty(&self) -> bool {
        self.preferred().is_none()
    }

    /// Why [`preferred`](Self::preferred) is preferred: [`Reason::Fallback`] where it stands in for another tier.
    pub fn reason(&self) -> Reason {
        if self.spilled_from().is_some() { Reason::Fallback } else { self.origin }
    }

    /// What named the tier that should serve the request, whether or not it can. Never [`Reason::Fallback`].
    pub fn origin(&self) -> Reason {
        self.origin
    }

    /// The tier that should have served the request but is unavailable, or over its watermark or limit.
    pub fn spilled_from(&self) -> Option<TierIndex> {
        self.wanted.filter(|_| self.cause.is_some())
    }

    /// What is wrong with [`spilled_from`](Self::spilled_from).
    pub fn spill_cause(&self) -> Option<SpillCause> {
        self.cause
    }
}
