//! Whose memory an address is.
//!
//! A table by OS page, like the shadow memory of AddressSanitizer: the entry of a page whose bytes are all of one region is that
//! region, other pages have an entry for each 16 bytes, which is what allocators align blocks to. A lookup is exact for such
//! blocks and takes a few nanoseconds.

use std::collections::HashMap;

use tiermem_sys::cpu::prefetch;

use super::extents::{EXTENT_SHIFT, Extents};
use super::placing::Placement;
use super::table::RegionIndex;
use crate::model::TierIndex;
use crate::trace::{Event, SiteId, TierTag};

const PAGE_SHIFT: u32 = 12;
const PAGE: u64 = 1 << PAGE_SHIFT;
const GRANULE_SHIFT: u32 = 4;
const GRANULES: usize = 1 << (PAGE_SHIFT - GRANULE_SHIFT);
/// Pages that are looked up together: those of an extent.
const LEAF_SHIFT: u32 = EXTENT_SHIFT - PAGE_SHIFT;
const LEAF: usize = 1 << LEAF_SHIFT;

/// Memory that is accounted for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Region<const N: usize> {
    /// Who allocated it; `None` for what is in no block.
    pub site: Option<SiteId>,
    /// Where it is, as each placement has it.
    pub tiers: [TierIndex; N],
}

/// How memory of a region is told to the models.
#[derive(Clone, Copy, Debug)]
pub struct Home {
    /// Where it is.
    pub tier: TierIndex,
    /// What of an address counts; 0 where the tier's capacity is no power of two.
    mask: u64,
    capacity: u64,
}

impl Home {
    fn new(tier: TierIndex, capacities: &[u64]) -> Self {
        let capacity = capacities.get(usize::from(tier.0)).copied().unwrap_or(0);
        let mask = match capacity {
            0 => u64::MAX,
            1 => 0,
            _ if capacity.is_power_of_two() => capacity - 1,
            _ => 0,
        };
        Self { tier, mask, capacity }
    }

    /// The offset of an address in the tier.
    #[inline]
    pub const fn offset(self, address: u64) -> u64 {
        // Dividing takes longer than all the rest of a request.
        if self.mask != 0 { address & self.mask } else { address % self.capacity }
    }
}

/// What a page is: a region, or with this bit the number of its [parts](Space::parts_of).
pub type Page = u32;
const IN_PARTS: Page = 1 << 31;

/// Whether a page is all of one region, which it then is itself.
#[inline]
pub const fn is_whole(page: Page) -> bool {
    page & IN_PARTS == 0
}

/// Which part of its page an address is in.
#[inline]
const fn granule(address: u64) -> usize {
    (address >> GRANULE_SHIFT) as usize % GRANULES
}

/// All memory of a program, placed in `N` ways.
#[derive(Debug)]
pub struct Space<const N: usize> {
    placements: [Placement; N],
    /// The first one is that of all pages that are not known.
    regions: Vec<Region<N>>,
    /// By region.
    homes: Vec<[Home; N]>,
    by_region: HashMap<Region<N>, RegionIndex>,
    extents: Extents,
    /// The pages that are known, by extent. The first leaf stands for all extents without such a page.
    leaves: Vec<Box<[Page; LEAF]>>,
    /// The regions in pages that have several.
    parts_of: Vec<[RegionIndex; GRANULES]>,
    /// Those of the parts that belong to no page.
    parts_free: Vec<Page>,
    /// Blocks by address: size and region.
    blocks: HashMap<u64, (u64, RegionIndex)>,
    /// How often it changed.
    version: u64,
}

impl<const N: usize> Space<N> {
    /// One without blocks. `shortens` is whether caches may be told [short](Self::locate) addresses.
    pub fn new(placements: [Placement; N], shortens: bool) -> Self {
        let mut space = Self {
            placements,
            regions: Vec::new(),
            homes: Vec::new(),
            by_region: HashMap::new(),
            extents: Extents::new(shortens),
            leaves: vec![Box::new([0; LEAF])],
            parts_of: Vec::new(),
            parts_free: Vec::new(),
            blocks: HashMap::new(),
            version: 0,
        };
        let tiers = space.placements.each_ref().map(Placement::default_tier);
        space.region(Region { site: None, tiers });
        for at in 0..N {
            let extents: Vec<_> = space.placements[at].extents().rev().collect();
            for (range, tier) in extents {
                space.move_range(range.start, range.end - range.start, |region| region.tiers[at] = tier);
            }
        }
        space
    }

    fn region(&mut self, region: Region<N>) -> RegionIndex {
        let next = self.regions.len() as RegionIndex;
        let index = *self.by_region.entry(region).or_insert(next);
        if index == next {
            self.regions.push(region);
            let placements = self.placements.each_ref();
            self.homes.push(std::array::from_fn(|at| Home::new(region.tiers[at], placements[at].capacities())));
        }
        index
    }

    /// What a region is.
    pub fn describe(&self, region: RegionIndex) -> Region<N> {
        self.regions[region as usize]
    }

    /// How memory of a region is told to the models, for each placement.
    #[inline(always)]
    pub fn homes(&self, region: RegionIndex) -> &[Home; N] {
        &self.homes[region as usize]
    }

    /// As long as it stays the same, so does what [`lookup`](Self::lookup) gives.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The region of an address.
    #[inline]
    pub fn lookup(&mut self, address: u64) -> RegionIndex {
        let (leaf, _) = self.extents.locate(address);
        self.lookup_in(self.page_in(leaf, address), address)
    }

    /// The page of an address, for [`lookup_in`](Self::lookup_in), and what the caches are told instead of the address. Has the host
    /// bring near what that lookup will look at: the parts of many pages take more room than the host's caches have.
    #[inline(always)]
    pub fn locate(&mut self, address: u64) -> (Page, u64) {
        let (leaf, short) = self.extents.locate(address);
        let page = self.page_in(leaf, address);
        if !is_whole(page) {
            prefetch(&self.parts_of[(page - IN_PARTS) as usize][granule(address)]);
        }
        (page, short)
    }

    /// The address of which the caches were told this one, and its region.
    #[inline(always)]
    pub fn whole(&mut self, short: u64) -> (u64, RegionIndex) {
        let (leaf, address) = self.extents.whole(short);
        (address, self.lookup_in(self.page_in(leaf, address), address))
    }

    /// The region of an address in a page.
    #[inline(always)]
    pub fn lookup_in(&self, page: Page, address: u64) -> RegionIndex {
        if is_whole(page) { page } else { self.parts_of[(page - IN_PARTS) as usize][granule(address)] }
    }

    #[inline(always)]
    fn page_in(&self, leaf: u32, address: u64) -> Page {
        self.leaves[leaf as usize][(address >> PAGE_SHIFT) as usize % LEAF]
    }

    /// The page with this number.
    fn page(&self, number: u64) -> Page {
        let address = number << PAGE_SHIFT;
        self.page_in(self.extents.leaf(address), address)
    }

    fn leaf_mut(&mut self, address: u64) -> &mut [Page; LEAF] {
        let mut leaf = self.extents.leaf(address);
        if leaf == 0 {
            leaf = self.leaves.len() as u32;
            self.leaves.push(Box::new([0; LEAF]));
            self.extents.set_leaf(address, leaf);
        }
        &mut self.leaves[leaf as usize]
    }

    /// Gives a range to a region.
    fn assign(&mut self, address: u64, len: u64, region: RegionIndex) {
        let end = address.saturating_add(len);
        let mut at = address;
        while at < end {
            let number = at >> PAGE_SHIFT;
            let next = (number << PAGE_SHIFT).saturating_add(PAGE).min(end);
            let before = self.page(number);
            if next - at == PAGE {
                self.set_page(number, region);
                if before & IN_PARTS != 0 {
                    self.parts_free.push(before);
                }
            } else {
                let page = if before & IN_PARTS == 0 { self.split(number, before) } else { before };
                self.parts_of[(page - IN_PARTS) as usize][granule(at)..=granule(next - 1)].fill(region);
            }
            at = next;
        }
    }

    fn set_page(&mut self, number: u64, page: Page) {
        self.leaf_mut(number << PAGE_SHIFT)[number as usize % LEAF] = page;
    }

    /// Gives a page, which is of one region, parts of its own.
    fn split(&mut self, number: u64, region: RegionIndex) -> Page {
        let page = self.parts_free.pop().unwrap_or(IN_PARTS + self.parts_of.len() as Page);
        match self.parts_of.get_mut((page - IN_PARTS) as usize) {
            Some(parts) => *parts = [region; GRANULES],
            None => self.parts_of.push([region; GRANULES]),
        }
        self.set_page(number, page);
        page
    }

    /// An event that changes where memory is.
    pub fn happen(&mut self, event: &Event) {
        self.version += 1;
        match *event {
            Event::Allocate(e) => self.allocate(e.address, e.size, e.site, e.tier),
            Event::Free(e) => self.free(e.address),
            Event::Reallocate(e) => {
                self.free(e.old);
                self.allocate(e.address, e.size, e.site, e.tier);
            }
            Event::Place(e) => self.place(e.address, e.len, e.tier),
            Event::Access(_) | Event::Sample(_) | Event::Interval(_) | Event::Key(_) => {}
        }
    }

    /// A block is there from now on.
    fn allocate(&mut self, address: u64, size: u64, site: SiteId, recorded: TierTag) {
        // One that was freed unseen.
        self.free(address);
        let size = size.max(1);
        let tiers = self.placements.each_mut().map(|placement| placement.choose(address, size, site, recorded));
        let region = self.region(Region { site: Some(site), tiers });
        self.assign(address, size, region);
        self.blocks.insert(address, (size, region));
    }

    /// Memory has moved in the recorded run; here it does where blocks lie as they did there.
    fn place(&mut self, address: u64, len: u64, recorded: TierTag) {
        let tiers = self.placements.each_ref().map(|placement| placement.recorded_tier(recorded));
        if tiers.iter().any(Option::is_some) {
            self.move_range(address, len, |region| {
                for (tier, moved) in region.tiers.iter_mut().zip(tiers) {
                    *tier = moved.unwrap_or(*tier);
                }
            });
        }
    }

    /// Changes what the regions in a range are.
    fn move_range(&mut self, address: u64, len: u64, change: impl Fn(&mut Region<N>)) {
        let mut at = address;
        for (bytes, before) in self.parts(address, len) {
            let mut region = self.describe(before);
            change(&mut region);
            let region = self.region(region);
            self.assign(at, bytes, region);
            at += bytes;
        }
    }

    /// The regions in a range, each with its bytes there, in the order of addresses; one may come several times.
    pub fn parts(&self, address: u64, len: u64) -> Vec<(u64, RegionIndex)> {
        let end = address.saturating_add(len);
        let (mut at, mut parts) = (address, Vec::<(u64, RegionIndex)>::new());
        while at < end {
            let leaf = self.extents.leaf(at);
            let page = self.page_in(leaf, at);
            let (region, next) = if page & IN_PARTS != 0 {
                let parts = &self.parts_of[(page - IN_PARTS) as usize];
                (parts[granule(at)], ((at >> GRANULE_SHIFT) + 1) << GRANULE_SHIFT)
            } else if leaf == 0 {
                // Where nothing is known, a leaf at a time: ranges may be as large as the address space.
                (page, ((at >> EXTENT_SHIFT) + 1) << EXTENT_SHIFT)
            } else {
                (page, ((at >> PAGE_SHIFT) + 1) << PAGE_SHIFT)
            };
            let next = if next <= at { end } else { next.min(end) };
            match parts.last_mut() {
                Some((bytes, last)) if *last == region => *bytes += next - at,
                _ => parts.push((next - at, region)),
            }
            at = next;
        }
        parts
    }

    /// Size and region of the block that begins at `address`.
    pub fn block(&self, address: u64) -> Option<(u64, RegionIndex)> {
        self.blocks.get(&address).copied()
    }

    /// A block is gone. One that is not known is none of ours.
    fn free(&mut self, address: u64) {
        let Some((size, region)) = self.blocks.remove(&address) else { return };
        let tiers = self.describe(region).tiers;
        let mut elsewhere = Region { site: None, tiers };
        for ((placement, tier), elsewhere) in self.placements.iter_mut().zip(tiers).zip(&mut elsewhere.tiers) {
            placement.forget(size, tier);
            *elsewhere = placement.elsewhere(address);
        }
        let elsewhere = self.region(elsewhere);
        self.assign(address, size, elsewhere);
    }
}

#[cfg(test)]
mod tests;
