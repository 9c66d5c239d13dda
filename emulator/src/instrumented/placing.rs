//! Which tier a block goes to, and what became of the blocks of each allocation site.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use tiermem_placement::TierIndex as PolicyTier;
use tiermem_placement::{Frame, Plan, Request, SiteRule, SiteRules, SizeRange, TIERS_MAX, TierLoad};

use super::Engine;
use super::record::SITE_MAX;
use super::space::{Label, PageHasher};
use crate::model::{Serve, TierIndex};

/// Blocks of one site on one tier.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    /// Index of the site; `None` for memory that nobody allocated, or whose site had no room in the table.
    pub site: Option<u32>,
    /// Index of the tier.
    pub tier: u16,
    /// Blocks so far.
    pub allocations: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes now.
    pub live: u64,
    /// Most bytes at a time.
    pub peak: u64,
    /// Lines read because a load missed all caches.
    pub load_misses: u64,
    /// Lines read because a store missed all caches.
    pub store_misses: u64,
    /// Lines that the prefetcher read.
    pub prefetched: u64,
    /// Lines written back.
    pub written_back: u64,
    /// Picoseconds that threads waited for lines of these blocks, beyond the first level.
    pub waited_ps: u64,
}

/// Where blocks go.
#[derive(Debug)]
pub enum Rules {
    /// All to one tier.
    All(TierIndex),
    /// As a policy says.
    Policy(Box<PolicyRules>),
}

/// A policy, for this machine.
#[derive(Debug)]
pub struct PolicyRules {
    /// What it says of sizes and tiers.
    pub plan: Plan,
    /// What it says of sites.
    pub sites: SiteRules,
    /// By tier of the policy: that of the machine.
    pub tiers: Vec<TierIndex>,
}

/// A return address by name: its function, if that is known, as rules may call it, and the path of its module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedFrame {
    /// The function's names: demangled, and as it stands in the file.
    pub symbols: Vec<String>,
    /// The module's path.
    pub module: String,
}

/// Sites, labels and the state of the tiers.
#[derive(Debug)]
pub struct Placing {
    rules: Rules,
    /// By tier of the machine: what it holds, and bytes now.
    capacities: Vec<u64>,
    live: Vec<u64>,
    /// By label; the first is memory that nobody allocated, the next ones, one for each tier, that of sites without
    /// room.
    pub blocks: Vec<Blocks>,
    labels: HashMap<(u32, u16), Label>,
    /// Size and label of each block, by address.
    live_blocks: HashMap<u64, (u64, Label), BuildHasherDefault<PageHasher>>,
    /// By address, where threads told of a block's begin and end in the wrong order: ends whose begins are not known yet,
    /// or, negative, ends still to come of blocks that made way for others.
    unsettled: HashMap<u64, i32, BuildHasherDefault<PageHasher>>,
    sites: HashMap<u64, u32, BuildHasherDefault<PageHasher>>,
    /// By site: its return addresses, innermost first.
    pub frames: Vec<Vec<u64>>,
    /// By site, if its frames' names were told: the rules that they match, as sizes and tiers of the policy, in order.
    site_rules: Vec<Option<Vec<(SizeRange, PolicyTier)>>>,
    /// Allocations that no tier had room for; they lie in the tier that was wanted.
    pub overfull: u64,
}

impl Placing {
    pub fn new(rules: Rules, capacities: Vec<u64>) -> Self {
        let mut blocks = vec![Blocks::default()];
        let tiers = u16::try_from(capacities.len()).unwrap_or(u16::MAX);
        blocks.extend((0..tiers).map(|tier| Blocks { tier, ..Blocks::default() }));
        let live = vec![0; capacities.len()];
        Self {
            rules,
            capacities,
            live,
            blocks,
            labels: HashMap::new(),
            live_blocks: HashMap::default(),
            unsettled: HashMap::default(),
            sites: HashMap::default(),
            frames: Vec::new(),
            site_rules: Vec::new(),
            overfull: 0,
        }
    }

    /// A block of `size` bytes at `address`, asked for by a site; its label, unless it is known to have ended already.
    pub fn allocate(&mut self, address: u64, size: u64, site: u32) -> Option<Label> {
        let TierIndex(tier) = self.choose(size, site);
        let label = self.label(site, tier);
        let blocks = &mut self.blocks[usize::from(label)];
        blocks.allocations += 1;
        blocks.bytes += size;
        blocks.live += size;
        blocks.peak = blocks.peak.max(blocks.live);
        self.live[usize::from(tier)] += size;
        if let Some((before, old)) = self.live_blocks.insert(address, (size, label)) {
            self.end(before, old);
            *self.unsettled.entry(address).or_default() -= 1;
        } else if self.settle(address, 1) {
            self.live_blocks.remove(&address);
            self.end(size, label);
            return None;
        }
        Some(label)
    }

    /// The block at `address` is free.
    pub fn free(&mut self, address: u64) {
        if self.settle(address, -1) {
            return;
        }
        match self.live_blocks.remove(&address) {
            Some((size, label)) => self.end(size, label),
            None => *self.unsettled.entry(address).or_default() += 1,
        }
    }

    /// Whether this address has something unsettled with this sign; that is one less then.
    fn settle(&mut self, address: u64, sign: i32) -> bool {
        if self.unsettled.is_empty() {
            return false;
        }
        let Some(balance) = self.unsettled.get_mut(&address).filter(|balance| balance.signum() == sign) else {
            return false;
        };
        *balance -= sign;
        if *balance == 0 {
            self.unsettled.remove(&address);
        }
        true
    }

    /// `size` bytes of a label's have ended.
    fn end(&mut self, size: u64, label: Label) {
        let blocks = &mut self.blocks[usize::from(label)];
        blocks.live = blocks.live.saturating_sub(size);
        let live = &mut self.live[usize::from(blocks.tier)];
        *live = live.saturating_sub(size);
    }

    fn choose(&mut self, size: u64, site: u32) -> TierIndex {
        let PolicyRules { plan, tiers, .. } = match &self.rules {
            Rules::All(tier) => return *tier,
            Rules::Policy(policy) => policy.as_ref(),
        };
        let mut loads = [TierLoad::default(); TIERS_MAX];
        for (load, tier) in loads.iter_mut().zip(tiers) {
            let at = usize::from(tier.0);
            *load = TierLoad { committed: self.live[at], capacity: self.capacities[at], available: true };
        }
        let rules = self.site_rules.get(site as usize).and_then(Option::as_ref);
        let by_site = rules.into_iter().flatten().find(|(sizes, _)| sizes.contains(size)).map(|(_, tier)| *tier);
        let choice = plan.choose(&Request { site: by_site, ..Request::new(size, size) }, &loads);
        let chosen = choice.preferred().and_then(|tier| tiers.get(usize::from(tier.0)));
        chosen.copied().unwrap_or_else(|| {
            self.overfull += 1;
            tiers.first().copied().unwrap_or(TierIndex(0))
        })
    }

    /// The number of the site with these return addresses.
    pub fn site(&mut self, frames: &[u64]) -> u32 {
        let mut hasher = PageHasher::default();
        frames.hash(&mut hasher);
        let next = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
        *self.sites.entry(hasher.finish()).or_insert_with(|| {
            self.frames.push(frames.to_vec());
            next
        })
    }

    /// Whether rules ask for the names of this site's frames, and they were not told yet.
    fn wants_names(&self, site: u32) -> bool {
        let asks = matches!(&self.rules, Rules::Policy(policy) if !policy.sites.rules().is_empty());
        asks && self.site_rules.get(site as usize).is_none_or(Option::is_none)
    }

    /// Finds the rules for a site with these frames, innermost first.
    fn name(&mut self, site: u32, frames: &[NamedFrame]) {
        let Rules::Policy(policy) = &self.rules else { return };
        let matches = |rule: &&SiteRule| {
            let deep = rule.depth.map_or(usize::MAX, |depth| usize::try_from(depth).unwrap_or(usize::MAX));
            frames.iter().take(deep).any(|frame| frame.matches(rule))
        };
        let found = policy.sites.rules().iter().filter(matches).map(|rule| (rule.size, rule.tier)).collect();
        let at = site as usize;
        if at >= self.site_rules.len() {
            self.site_rules.resize(at + 1, None);
        }
        self.site_rules[at] = Some(found);
    }

    fn label(&mut self, site: u32, tier: u16) -> Label {
        let others = 1 + tier;
        if site as usize >= self.frames.len() || site >= SITE_MAX {
            return others;
        }
        let Self { blocks, labels, .. } = self;
        *labels.entry((site, tier)).or_insert_with(|| match Label::try_from(blocks.len()) {
            Ok(label) => {
                blocks.push(Blocks { site: Some(site), tier, ..Blocks::default() });
                label
            }
            Err(_) => others,
        })
    }

    /// Forgets what was counted, not what is there.
    pub fn reset(&mut self) {
        for blocks in &mut self.blocks {
            let live = blocks.live;
            *blocks = Blocks { site: blocks.site, tier: blocks.tier, live, peak: live, ..Blocks::default() };
        }
    }
}

impl NamedFrame {
    fn matches(&self, rule: &SiteRule) -> bool {
        let module = &self.module;
        let named = self.symbols.iter().map(|symbol| Frame { symbol: Some(symbol), module });
        named.chain([Frame { symbol: None, module }]).any(|frame| rule.matches_frame(&frame))
    }
}

impl<S: Serve> Engine<S> {
    /// Whether rules ask for the names of this site's frames, and [`name_site`](Self::name_site) has not told them yet.
    pub fn wants_names(&self, site: u32) -> bool {
        self.placing.wants_names(site)
    }

    /// Tells what the frames of a site are called, innermost first. Blocks of before are not moved.
    pub fn name_site(&mut self, site: u32, frames: &[NamedFrame]) {
        self.placing.name(site, frames);
    }
}
