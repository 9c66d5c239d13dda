//! Where memory should be: telemetry in, decisions out.
//!
//! This crate is pure: it makes no system call, reads no file, no clock and no environment, and holds no unsafe code.
//! The same code therefore drives the live allocator, a simulator that replays a trace, and the tests.
//!
//! * [`Policy`] is what a user writes: a TOML file, checked as a whole, with every complaint at its line and column.
//! * [`Plan`] is the policy compiled to a fixed-size value. [`Plan::choose`] runs inside an allocator's slow path: it
//!   does not allocate, does not panic, uses no floating point, and costs time linear in the number of tiers.
//! * [`SiteRules`] tells which tier an allocation site belongs to, from the names of its stack frames.
//!
//! ```
//! use tiermem_placement::{Policy, Request, TierLoad, TIERS_MAX};
//!
//! let policy = Policy::parse(
//!     "version = 1\n\
//!      [tier.dram]\nlimit = '64 MiB'\n\
//!      [tier.slow]\nsource = 'dax-file:/dev/shm/slow,size=4G'\n",
//!     "example.toml",
//! )?;
//! let plan = policy.compile();
//! let mut loads = [TierLoad::default(); TIERS_MAX];
//! loads[0].committed = 63 << 20;
//! let choice = plan.choose(&Request::new(100, 2 << 20), &loads);
//! let tier = choice.preferred().expect("slow has no limit");
//! assert_eq!(policy.tiers()[tier.index()].name(), "slow");
//! assert_eq!(choice.spilled_from().map(|tier| policy.tiers()[tier.index()].name()), Some("dram"));
//! # Ok::<(), tiermem_placement::PolicyError>(())
//! ```
#![forbid(unsafe_code)]

mod choice;
mod order;
mod plan;
mod policy;
mod site;

pub use choice::{Choice, Reason, SpillCause};
pub use plan::{Plan, Request, TierLoad};
pub use policy::{Bandwidth, EXAMPLE, Entry, Policy, PolicyError, Rule, SizeRange, Strategy, Tier, Watermark, Weights};
pub use site::{Frame, Glob, SiteRule, SiteRules};

/// The most tiers that a policy can name, DRAM included.
pub const TIERS_MAX: usize = 8;

/// The most rules that a policy can hold.
pub const RULES_MAX: usize = 32;

/// A tier, by its position in [`Policy::tiers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TierIndex(pub u8);

impl TierIndex {
    /// Host DRAM: always there, always first.
    pub const DRAM: Self = Self(0);

    /// The position as an index into a slice.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}
