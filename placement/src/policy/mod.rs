//! What a user asks for: the policy file.

mod check;
mod parse;
mod show;
mod units;

use crate::order::Order;
use crate::plan::{Mode, Plan, PlannedTier, SizeRule};
use crate::site::{Glob, SiteRule, SiteRules};
use crate::{RULES_MAX, TIERS_MAX, TierIndex};

pub use tiermem_complaint::{Entry, FileError as PolicyError};
pub use units::{Bandwidth, SizeRange, Watermark};

use tiermem_complaint::Complaints;

/// A commented policy that shows every key. `tierctl policy example` prints it.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Name of the tier that is always there.
pub(crate) const DRAM: &str = "dram";

/// Decay time where the policy names none, milliseconds.
const DECAY_MS_DEFAULT: u32 = 1000;

/// What decides the tier where no hint and no rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// The first tier of the chain until its watermark, then the next.
    #[default]
    Fill,
    /// Every tier of the chain in proportion to its weight.
    Interleave,
}

impl Strategy {
    /// The word used in the policy file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fill => "fill",
            Self::Interleave => "interleave",
        }
    }
}

/// The shares of an interleave.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weights {
    /// As written: each tier of the chain with its weight, at least 1.
    Given(Vec<(TierIndex, u32)>),
    /// In proportion to the tiers' bandwidths.
    Bandwidth,
}

/// A tier as the policy knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    pub(crate) name: String,
    pub(crate) source: Option<String>,
    pub(crate) limit: Option<u64>,
    pub(crate) watermark: Watermark,
    pub(crate) bandwidth: Option<Bandwidth>,
}

impl Tier {
    pub(crate) fn new(name: &str, source: Option<&str>) -> Self {
        let source = source.map(str::to_owned);
        Self { name: name.to_owned(), source, limit: None, watermark: Watermark::FULL, bandwidth: None }
    }

    /// Its name: 1 to 23 of `A-Z a-z 0-9 . _ -`, a letter first.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `KIND[:WHERE][,key=value…]`, as written; `None` only for DRAM, which needs none.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// The most bytes that one process may commit on it; never 0.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// How full it may get before the others of its chain are used.
    pub fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// Its bandwidth, where the policy or [`Policy::set_bandwidth`] names it.
    pub fn bandwidth(&self) -> Option<Bandwidth> {
        self.bandwidth
    }
}

/// A `[[rule]]`: blocks that meet all of its conditions go to its tier. It has one condition at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(crate) size: Option<SizeRange>,
    pub(crate) symbol: Option<Glob>,
    pub(crate) module: Option<Glob>,
    pub(crate) depth: Option<u32>,
    pub(crate) tier: TierIndex,
}

impl Rule {
    /// The sizes it is for.
    pub fn size(&self) -> Option<SizeRange> {
        self.size
    }

    /// Pattern for a frame's demangled symbol.
    pub fn symbol(&self) -> Option<&Glob> {
        self.symbol.as_ref()
    }

    /// Pattern for a frame's module.
    pub fn module(&self) -> Option<&Glob> {
        self.module.as_ref()
    }

    /// How many frames are looked at, innermost first; `None` for all.
    pub fn depth(&self) -> Option<u32> {
        self.depth
    }

    /// Where matching blocks go.
    pub fn tier(&self) -> TierIndex {
        self.tier
    }

    fn looks_at_site(&self) -> bool {
        self.symbol.is_some() || self.module.is_some()
    }
}

/// A checked policy: every tier that it names exists, and its chain ends.
///
/// ```
/// use tiermem_placement::Policy;
/// let error = Policy::parse("version = 1\n[[rule]]\nsize = '>= 1 MiB'\ntier = 'drum'\n", "my.toml").unwrap_err();
/// assert_eq!(error.entries()[0].line, 4);
/// assert!(error.to_string().contains("did you mean `dram`?"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    tiers: Vec<Tier>,
    strategy: Strategy,
    /// Order of the strategy, as written or derived; never empty.
    chain: Vec<TierIndex>,
    /// Next tiers, as written: `(from, to)`. Empty where the chain says it all.
    spill: Vec<(TierIndex, TierIndex)>,
    weights: Option<Weights>,
    rules: Vec<Rule>,
    decay_ms: u32,
}

impl Default for Policy {
    /// DRAM alone, without limit.
    fn default() -> Self {
        Self {
            tiers: vec![Tier::new(DRAM, None)],
            strategy: Strategy::Fill,
            chain: vec![TierIndex::DRAM],
            spill: Vec::new(),
            weights: None,
            rules: Vec::new(),
            decay_ms: DECAY_MS_DEFAULT,
        }
    }
}

impl Policy {
    /// Parses and checks the text of a policy file. `file_name` appears in the complaints only.
    ///
    /// # Errors
    /// Everything that is wrong with it, each complaint with line and column.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, PolicyError> {
        parse::parse(text, file_name)
    }

    /// Like [`parse`](Self::parse), for what was read from a file and may be anything.
    ///
    /// # Errors
    /// As `parse`; also where the bytes are not UTF-8.
    pub fn parse_bytes(bytes: &[u8], file_name: &str) -> Result<Self, PolicyError> {
        parse::parse_bytes(bytes, file_name)
    }

    /// The policy for tiers named on a command line, each `NAME=SOURCE`: filled in the order DRAM, then as given.
    ///
    /// ```
    /// use tiermem_placement::Policy;
    /// let policy = Policy::with_tiers(["slow=dax-file:/dev/shm/slow,size=4G"])?;
    /// assert_eq!(policy.tiers()[1].source(), Some("dax-file:/dev/shm/slow,size=4G"));
    /// # Ok::<(), tiermem_placement::PolicyError>(())
    /// ```
    ///
    /// # Errors
    /// As [`add_tier`](Self::add_tier).
    pub fn with_tiers<'a>(specs: impl IntoIterator<Item = &'a str>) -> Result<Self, PolicyError> {
        let mut policy = Self::default();
        for spec in specs {
            policy.add_tier(spec)?;
        }
        Ok(policy)
    }

    /// Adds a tier at the end of the chain; where one of that name exists, gives that one the new source.
    ///
    /// # Errors
    /// A `spec` that is not `NAME=SOURCE`, a bad name, too many tiers, or a new tier for a policy with explicit `spill`
    /// or `weights`: those must say in the file what it is for.
    pub fn add_tier(&mut self, spec: &str) -> Result<(), PolicyError> {
        let complain = |span, message: String| {
            let mut complaints = Complaints::about(spec);
            complaints.add(span, message);
            complaints.into_result("--tier")
        };
        let Some((name, source)) = spec.split_once('=') else {
            let help = "a tier is NAME=SOURCE, for example slow=dax-file:/dev/shm/slow,size=4G";
            return complain(0..spec.len(), help.to_owned());
        };
        if let Some(message) = check::name_complaint(name) {
            return complain(0..name.len(), message);
        }
        if let Some(message) = check::source_complaint(source) {
            return complain(name.len() + 1..spec.len(), message);
        }
        if let Some(tier) = self.tiers.iter_mut().find(|tier| tier.name == name) {
            tier.source = Some(source.to_owned());
            return Ok(());
        }
        if self.tiers.len() >= TIERS_MAX {
            return complain(0..name.len(), format!("a policy has at most {TIERS_MAX} tiers"));
        }
        if !self.spill.is_empty() || matches!(self.weights, Some(Weights::Given(_))) {
            let message = format!("the policy has its own `spill` or `weights`: add `{name}` to it in the file");
            return complain(0..name.len(), message);
        }
        self.chain.push(index_of(self.tiers.len()));
        self.tiers.push(Tier::new(name, Some(source)));
        Ok(())
    }

    /// Sets or, with `None`, lifts the limit of the tier `name`. Returns whether there is such a tier and `limit` is
    /// not 0; otherwise nothing changes.
    #[must_use]
    pub fn set_limit(&mut self, name: &str, limit: Option<u64>) -> bool {
        let tier = self.tiers.iter_mut().find(|tier| tier.name == name && limit != Some(0));
        tier.map(|tier| tier.limit = limit).is_some()
    }

    /// Tells a measured bandwidth; one that the policy states itself stays. Returns whether it was taken.
    pub fn set_bandwidth(&mut self, name: &str, bandwidth: Bandwidth) -> bool {
        let tier = self.tiers.iter_mut().find(|tier| tier.name == name && tier.bandwidth.is_none());
        tier.map(|tier| tier.bandwidth = Some(bandwidth)).is_some()
    }

    /// Tiers of the chain whose bandwidth the weights need and nobody has told: to be reported before
    /// [`compile`](Self::compile), which gives them the least weight known.
    pub fn bandwidths_missing(&self) -> impl Iterator<Item = &Tier> {
        let needed = self.strategy == Strategy::Interleave && self.weights == Some(Weights::Bandwidth);
        let chain = if needed { self.chain.as_slice() } else { &[] };
        chain.iter().filter_map(|tier| self.tiers.get(tier.index())).filter(|tier| tier.bandwidth.is_none())
    }

    /// The tiers; DRAM is the first, the others follow in the order of the file.
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// The position of the tier `name`.
    pub fn tier_index(&self, name: &str) -> Option<TierIndex> {
        self.tiers.iter().position(|tier| tier.name == name).map(index_of)
    }

    /// What decides where no hint and no rule does.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// The order of the strategy; never empty.
    pub fn chain(&self) -> &[TierIndex] {
        &self.chain
    }

    /// The explicit next tiers, `(from, to)`; empty where the chain says it all.
    pub fn spill(&self) -> &[(TierIndex, TierIndex)] {
        &self.spill
    }

    /// The shares of an interleave, where the policy has any.
    pub fn weights(&self) -> Option<&Weights> {
        self.weights.as_ref()
    }

    /// The rules, in the order of the file.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Milliseconds for which memory stays committed after its last block was freed.
    pub fn decay_ms(&self) -> u32 {
        self.decay_ms
    }

    /// The rules that look at allocation sites.
    pub fn site_rules(&self) -> SiteRules {
        let rules = self.rules.iter().filter(|rule| rule.looks_at_site());
        SiteRules::new(rules.map(|rule| SiteRule {
            symbol: rule.symbol.clone(),
            module: rule.module.clone(),
            depth: rule.depth,
            size: rule.size.unwrap_or(SizeRange::ALL),
            tier: rule.tier,
        }))
    }

    /// The policy as the allocator's slow path uses it.
    pub fn compile(&self) -> Plan {
        let mut tiers = [PlannedTier::UNUSED; TIERS_MAX];
        for (i, (planned, tier)) in tiers.iter_mut().zip(&self.tiers).enumerate() {
            *planned = PlannedTier {
                limit: tier.limit.unwrap_or(u64::MAX),
                watermark: tier.watermark,
                weight: self.weight(index_of(i)),
                fallback: self.fallback(index_of(i)),
            };
        }
        let by_size = self.rules.iter().filter(|rule| !rule.looks_at_site());
        let by_size = by_size.filter_map(|rule| Some(SizeRule { range: rule.size?, tier: rule.tier }));
        let mut size_rules = [None; RULES_MAX];
        size_rules.iter_mut().zip(by_size).for_each(|(place, rule)| *place = Some(rule));
        Plan {
            tiers,
            tier_count: index_of(self.tiers.len()).0,
            mode: match self.strategy {
                Strategy::Fill => Mode::Fill,
                Strategy::Interleave => Mode::Interleave,
            },
            chain: self.chain.iter().copied().collect(),
            size_rules,
            has_site_rules: self.rules.iter().any(Rule::looks_at_site),
            decay_ms: self.decay_ms,
        }
    }

    /// Where requests for `tier` go: to it first; then along the explicit spills to their end or, without any, onward
    /// along the chain and from its start.
    fn fallback(&self, tier: TierIndex) -> Order {
        let mut order: Order = [tier].into_iter().collect();
        if self.spill.is_empty() {
            let after = self.chain.iter().position(|&listed| listed == tier).map_or(0, |at| at + 1);
            let (before, onward) = self.chain.split_at(after);
            onward.iter().chain(before).for_each(|&next| order.push(next));
        } else {
            let mut at = tier;
            for _ in 0..TIERS_MAX {
                let Some(&(_, next)) = self.spill.iter().find(|&&(from, _)| from == at) else { break };
                order.push(next);
                at = next;
            }
        }
        order
    }

    fn weight(&self, tier: TierIndex) -> u32 {
        match &self.weights {
            Some(Weights::Given(given)) => given.iter().find(|(of, _)| *of == tier).map_or(1, |&(_, weight)| weight),
            Some(Weights::Bandwidth) => {
                let known = || self.tiers.iter().filter_map(|tier| tier.bandwidth);
                let own = self.tiers.get(tier.index()).and_then(|tier| tier.bandwidth);
                own.or_else(|| known().min()).map_or(1, Bandwidth::weight)
            }
            None => 1,
        }
    }
}

/// The index of position `at`; positions stay below [`TIERS_MAX`].
pub(crate) fn index_of(at: usize) -> TierIndex {
    TierIndex(u8::try_from(at).unwrap_or(u8::MAX))
}
