//! Whose memory an address is.
//!
//! A table by OS page, like the shadow memory of AddressSanitizer: the entry of a page whose bytes are all of one region is that
//! region, other pages have an entry for each 16 bytes, which is what allocators align blocks to. A lookup is exact for such
//! blocks and takes a few nanoseconds.

use std::collections::HashMap;

use tiermem_sys::cpu::prefetch;

use super::placing::Placement;
use super::table::RegionIndex;
use crate::model::TierIndex;
use crate::trace::{Event, SiteId, TierTag};

const PAGE_SHIFT: u32 = 12;
const PAGE: u64 = 1 << PAGE_SHIFT;
const GRANULE_SHIFT: u32 = 4;
const GRANULES: usize = 1 << (PAGE_SHIFT - GRANULE_SHIFT);
/// Pages that are looked up together: 128 MiB.
const LEAF_SHIFT: u32 = 15;
const LEAF: usize = 1 << LEAF_SHIFT;
/// Recently used leaves.
const MEMO: usize = 64;

/// Memory that is accounted for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Region {
    /// Who allocated it; `None` for what is in no block.
    pub site: Option<SiteId>,
    /// Where it is.
    pub tier: TierIndex,
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

/// All memory of a program.
#[derive(Debug)]
pub struct Space {
    placement: Placement,
    /// The first one is that of all pages that are not known.
    regions: Vec<Region>,
    /// By region.
    homes: Vec<Home>,
    by_region: HashMap<Region, RegionIndex>,
    /// The pages that are known. The first leaf stands for all of those without such a page.
    leaves: Vec<Box<[Page; LEAF]>>,
    /// The regions in pages that have several.
    parts_of: Vec<[RegionIndex; GRANULES]>,
    /// Those of the parts that belong to no page.
    parts_free: Vec<Page>,
    by_leaf: HashMap<u64, u32>,
    /// Leaf number and index, by the lower bits of the number.
    memo: [(u64, u32); MEMO],
    /// Blocks by address: size and region.
    blocks: HashMap<u64, (u64, RegionIndex)>,
    /// How often it changed.
    version: u64,
}

impl Space {
    /// One without blocks.
    pub fn new(placement: Placement) -> Self {
        let mut space = Self {
            placement,
            regions: Vec::new(),
            homes: Vec::new(),
            by_region: HashMap::new(),
            parts_of: Vec::new(),
            parts_free: Vec::new(),
            leaves: vec![Box::new([0; LEAF])],
            by_leaf: HashMap::new(),
            memo: [(u64::MAX, 0); MEMO],
            blocks: HashMap::new(),
            version: 0,
        };
        let default = space.placement.default_tier();
        space.region(Region { site: None, tier: default });
        let extents: Vec<_> = space.placement.extents().rev().collect();
        for (range, tier) in extents {
            let region = space.region(Region { site: None, tier });
            space.assign(range.start, range.end - range.start, region);
        }
        space
    }

    fn region(&mut self, region: Region) -> RegionIndex {
        let next = self.regions.len() as RegionIndex;
        let index = *self.by_region.entry(region).or_insert(next);
        if index == next {
            self.regions.push(region);
            self.homes.push(Home::new(region.tier, self.placement.capacities()));
        }
        index
    }

    /// What a region is.
    pub fn describe(&self, region: RegionIndex) -> Region {
        self.regions[region as usize]
    }

    /// How memory of a region is told to the models.
    #[inline]
    pub fn home(&self, region: RegionIndex) -> Home {
        self.homes[region as usize]
    }

    /// As long as it stays the same, so does what [`lookup`](Self::lookup) gives.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The region of an address.
    #[inline]
    pub fn lookup(&mut self, address: u64) -> RegionIndex {
        let page = self.page(address >> PAGE_SHIFT);
        self.lookup_in(page, address)
    }

    /// The page of an address, for [`lookup_in`](Self::lookup_in), and has the host bring near what that will look at: the parts
    /// of many pages take more room than the host's caches have.
    #[inline(always)]
    pub fn expect(&mut self, address: u64) -> Page {
        let page = self.page(address >> PAGE_SHIFT);
        if !is_whole(page) {
            prefetch(&self.parts_of[(page - IN_PARTS) as usize][granule(address)]);
        }
        page
    }

    /// The region of an address in a page.
    #[inline]
    pub fn lookup_in(&self, page: Page, address: u64) -> RegionIndex {
        if is_whole(page) { page } else { self.parts_of[(page - IN_PARTS) as usize][granule(address)] }
    }

    #[inline]
    fn page(&mut self, number: u64) -> Page {
        if self.leaves.len() == 1 {
            // No block so far, and in traces without allocations never.
            return 0;
        }
        let leaf = self.leaf(number >> LEAF_SHIFT);
        self.leaves[leaf as usize][number as usize % LEAF]
    }

    #[inline]
    fn leaf(&mut self, number: u64) -> u32 {
        let memo = self.memo[number as usize % MEMO];
        if memo.0 == number { memo.1 } else { self.look_up_leaf(number) }
    }

    #[cold]
    fn look_up_leaf(&mut self, number: u64) -> u32 {
        let index = self.by_leaf.get(&number).copied().unwrap_or(0);
        self.memo[number as usize % MEMO] = (number, index);
        index
    }

    fn leaf_mut(&mut self, number: u64) -> &mut [Page; LEAF] {
        let mut index = self.leaf(number);
        if index == 0 {
            index = self.leaves.len() as u32;
            self.leaves.push(Box::new([0; LEAF]));
            self.by_leaf.insert(number, index);
            self.memo[number as usize % MEMO] = (number, index);
        }
        &mut self.leaves[index as usize]
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
        self.leaf_mut(number >> LEAF_SHIFT)[number as usize % LEAF] = page;
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
        let tier = self.placement.choose(address, size, site, recorded);
        let region = self.region(Region { site: Some(site), tier });
        self.assign(address, size, region);
        self.blocks.insert(address, (size, region));
    }

    /// Memory has moved in the recorded run; here it does where blocks lie as they did there.
    fn place(&mut self, address: u64, len: u64, recorded: TierTag) {
        let Some(tier) = self.placement.recorded_tier(recorded) else { return };
        let mut at = address;
        for (bytes, before) in self.parts(address, len) {
            let region = self.region(Region { tier, ..self.describe(before) });
            self.assign(at, bytes, region);
            at += bytes;
        }
    }

    /// The regions in a range, each with its bytes there, in the order of addresses; one may come several times.
    pub fn parts(&mut self, address: u64, len: u64) -> Vec<(u64, RegionIndex)> {
        let end = address.saturating_add(len);
        let (mut at, mut parts) = (address, Vec::<(u64, RegionIndex)>::new());
        while at < end {
            let page = self.page(at >> PAGE_SHIFT);
            let is_unknown = self.leaf(at >> (PAGE_SHIFT + LEAF_SHIFT)) == 0;
            let (region, next) = if page & IN_PARTS != 0 {
                let parts = &self.parts_of[(page - IN_PARTS) as usize];
                (parts[granule(at)], ((at >> GRANULE_SHIFT) + 1) << GRANULE_SHIFT)
            } else if is_unknown {
                // Where nothing is known, a leaf at a time: ranges may be as large as the address space.
                (page, ((at >> (PAGE_SHIFT + LEAF_SHIFT)) + 1) << (PAGE_SHIFT + LEAF_SHIFT))
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
        let tier = self.describe(region).tier;
        self.placement.forget(size, tier);
        let elsewhere = Region { site: None, tier: self.placement.elsewhere(address) };
        let elsewhere = self.region(elsewhere);
        self.assign(address, size, elsewhere);
    }
}

#[cfg(test)]
mod tests;
