//! Which tier a block goes to, and what became of the blocks of each allocation site.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use tiermem_placement::{Plan, Request, TIERS_MAX, TierLoad};

use super::space::{Label, PageHasher};
use crate::model::TierIndex;

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
    /// As a policy says, whose tiers are these of the machine.
    Plan(Box<Plan>, Vec<TierIndex>),
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
    sites: HashMap<u64, u32, BuildHasherDefault<PageHasher>>,
    /// By site: its return addresses, innermost first.
    pub frames: Vec<Vec<u64>>,
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
            sites: HashMap::default(),
            frames: Vec::new(),
            overfull: 0,
        }
    }

    /// A block of `size` bytes that takes `taken`, asked for under `frames`.
    pub fn allocate(&mut self, size: u64, taken: u64, frames: &[u64]) -> Label {
        let TierIndex(tier) = self.choose(size, taken);
        let label = self.label(frames, tier);
        let blocks = &mut self.blocks[usize::from(label)];
        blocks.allocations += 1;
        blocks.bytes += taken;
        blocks.live += taken;
        blocks.peak = blocks.peak.max(blocks.live);
        self.live[usize::from(tier)] += taken;
        label
    }

    /// `taken` bytes of a label's are free again.
    pub fn free(&mut self, label: Label, taken: u64) {
        if label == 0 {
            return;
        }
        let blocks = &mut self.blocks[usize::from(label)];
        blocks.live = blocks.live.saturating_sub(taken);
        let live = &mut self.live[usize::from(blocks.tier)];
        *live = live.saturating_sub(taken);
    }

    fn choose(&mut self, size: u64, taken: u64) -> TierIndex {
        let (plan, tiers) = match &self.rules {
            Rules::All(tier) => return *tier,
            Rules::Plan(plan, tiers) => (plan, tiers),
        };
        let mut loads = [TierLoad::default(); TIERS_MAX];
        for (load, tier) in loads.iter_mut().zip(tiers) {
            let at = usize::from(tier.0);
            *load = TierLoad { committed: self.live[at], capacity: self.capacities[at], available: true };
        }
        let choice = plan.choose(&Request::new(size, taken), &loads);
        let chosen = choice.preferred().and_then(|tier| tiers.get(usize::from(tier.0)));
        chosen.copied().unwrap_or_else(|| {
            self.overfull += 1;
            tiers.first().copied().unwrap_or(TierIndex(0))
        })
    }

    fn label(&mut self, frames: &[u64], tier: u16) -> Label {
        let mut hasher = PageHasher::default();
        frames.hash(&mut hasher);
        let next = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
        let site = *self.sites.entry(hasher.finish()).or_insert_with(|| {
            self.frames.push(frames.to_vec());
            next
        });
        let Self { blocks, labels, .. } = self;
        *labels.entry((site, tier)).or_insert_with(|| match Label::try_from(blocks.len()) {
            Ok(label) => {
                blocks.push(Blocks { site: Some(site), tier, ..Blocks::default() });
                label
            }
            Err(_) => 1 + tier,
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
