//! Which tier a block is on.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use tiermem_placement::{Frame as PolicyFrame, Plan, Policy, Request, SiteRules, TIERS_MAX, TierLoad};

use crate::model::TierIndex;
use crate::trace::{SiteId, TierTag};

/// A stack frame as rules see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedFrame {
    /// The function, if known.
    pub symbol: Option<String>,
    /// Path of the program or library; empty if unknown.
    pub module: String,
}

/// The frames of each site, innermost first.
pub type SiteNames = BTreeMap<SiteId, Vec<NamedFrame>>;

/// Puts blocks on a tier. The first rule that fits decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Blocks of sites with this text in the symbol or module of a frame.
    Site(String, TierIndex),
    /// Blocks of so many bytes.
    Size(Range<u64>, TierIndex),
    /// Memory at these addresses, allocated or not.
    Address(Range<u64>, TierIndex),
}

/// Why a policy cannot place memory on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceError {
    /// A tier that the policy names and the machine does not have.
    pub tier: String,
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the policy names tier `{}`, which the machine does not have", self.tier)
    }
}

impl std::error::Error for PlaceError {}

/// Where memory lies. What is in no block (stacks, the program's data, all of a trace without allocations) lies on the
/// default tier, unless a rule names its address.
#[derive(Clone, Debug)]
pub struct Placement {
    default: TierIndex,
    rules: Vec<Rule>,
    names: SiteNames,
    policy: Option<ByPolicy>,
    recorded: BTreeMap<TierTag, TierIndex>,
    capacities: Vec<u64>,
}

#[derive(Clone, Debug)]
struct ByPolicy {
    plan: Box<Plan>,
    sites: SiteRules,
    /// The machine's tiers, by the policy's.
    tiers: Vec<TierIndex>,
    loads: [TierLoad; TIERS_MAX],
}

impl Placement {
    /// Everything on one tier. `capacities` are those of the machine's tiers, bytes: an address is told to the models
    /// modulo its tier's.
    pub fn all(tier: TierIndex, capacities: Vec<u64>) -> Self {
        Self {
            default: tier,
            rules: Vec::new(),
            names: SiteNames::new(),
            policy: None,
            recorded: BTreeMap::new(),
            capacities,
        }
    }

    /// By rules, the first that fits; what none fits lies on the default tier.
    pub fn rules(mut self, rules: Vec<Rule>, names: SiteNames) -> Self {
        (self.rules, self.names) = (rules, names);
        self
    }

    /// Blocks that no rule fits where the recorded run had them: `tiers` gives the machine's tier for each tier of the trace. Also
    /// moves that stand in the trace are made again. What was on another tier lies on the default one.
    pub fn as_recorded(mut self, tiers: BTreeMap<TierTag, TierIndex>) -> Self {
        self.recorded = tiers;
        self
    }

    /// Blocks that no rule fits as a policy places them; block by block, each on the tier that the policy would choose for
    /// it as full as its tiers are. `find` gives the machine's tier of a name.
    ///
    /// # Errors
    /// If the machine lacks one of the policy's tiers.
    pub fn policy(
        mut self,
        policy: &Policy,
        names: SiteNames,
        find: impl Fn(&str) -> Option<TierIndex>,
    ) -> Result<Self, PlaceError> {
        let tier = |tier: &tiermem_placement::Tier| {
            find(tier.name()).ok_or_else(|| PlaceError { tier: tier.name().to_owned() })
        };
        let tiers = policy.tiers().iter().map(tier).collect::<Result<Vec<_>, _>>()?;
        let mut loads = [TierLoad::default(); TIERS_MAX];
        for (load, tier) in loads.iter_mut().zip(&tiers) {
            load.capacity = self.capacities.get(usize::from(tier.0)).copied().unwrap_or(u64::MAX);
        }
        self.names = names;
        let (plan, sites) = (Box::new(policy.compile()), policy.site_rules());
        self.policy = Some(ByPolicy { plan, sites, tiers, loads });
        Ok(self)
    }

    pub(super) fn capacities(&self) -> &[u64] {
        &self.capacities
    }

    /// The tier of what no rule names.
    pub(super) fn default_tier(&self) -> TierIndex {
        self.default
    }

    /// The tier of memory in no block.
    pub(super) fn elsewhere(&self, address: u64) -> TierIndex {
        self.by_address(address).unwrap_or(self.default)
    }

    /// Extents that rules name, with their tiers; the first one of an address counts.
    pub(super) fn extents(&self) -> impl DoubleEndedIterator<Item = (Range<u64>, TierIndex)> + '_ {
        self.rules.iter().filter_map(|rule| match rule {
            Rule::Address(range, tier) => Some((range.clone(), *tier)),
            _ => None,
        })
    }

    fn by_address(&self, address: u64) -> Option<TierIndex> {
        self.extents().find(|(range, _)| range.contains(&address)).map(|(_, tier)| tier)
    }

    /// The machine's tier for one of the recorded run, if that counts.
    pub(super) fn recorded_tier(&self, tag: TierTag) -> Option<TierIndex> {
        self.recorded.get(&tag).copied()
    }

    /// The tier of a new block.
    pub(super) fn choose(&mut self, address: u64, size: u64, site: SiteId, recorded: TierTag) -> TierIndex {
        let frames = self.names.get(&site).map_or(&[][..], Vec::as_slice);
        let by_rule = self.rules.iter().find_map(|rule| match rule {
            Rule::Site(text, tier) => frames.iter().any(|frame| frame.contains(text)).then_some(*tier),
            Rule::Size(range, tier) => range.contains(&size).then_some(*tier),
            Rule::Address(range, tier) => range.contains(&address).then_some(*tier),
        });
        let by_record = || self.recorded.get(&recorded).copied();
        let by_policy = || self.policy.as_mut()?.choose(size, frames);
        by_rule.or_else(by_record).or_else(by_policy).unwrap_or(self.default)
    }

    /// A block has gone.
    pub(super) fn forget(&mut self, size: u64, tier: TierIndex) {
        if let Some(policy) = &mut self.policy
            && let Some(at) = policy.tiers.iter().position(|&there| there == tier)
        {
            policy.loads[at].committed = policy.loads[at].committed.saturating_sub(size);
        }
    }
}

impl NamedFrame {
    fn contains(&self, text: &str) -> bool {
        self.module.contains(text) || self.symbol.as_deref().is_some_and(|symbol| symbol.contains(text))
    }
}

impl ByPolicy {
    fn choose(&mut self, size: u64, frames: &[NamedFrame]) -> Option<TierIndex> {
        let named = frames.iter().map(|frame| PolicyFrame { symbol: frame.symbol.as_deref(), module: &frame.module });
        let request = Request { site: self.sites.matches(size, named), ..Request::new(size, size) };
        let chosen = self.plan.choose(&request, &self.loads).preferred()?.index();
        self.loads[chosen].committed += size;
        self.tiers.get(chosen).copied()
    }
}
