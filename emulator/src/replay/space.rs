//! Whose memory an address is.
//!
//! A table by OS page, like the shadow memory of AddressSanitizer: a page whose bytes are all of one region is one entry,
//! others have an entry for each 16 bytes, which is what allocators align blocks to. A lookup is exact for such blocks and
//! takes a few nanoseconds.

use std::collections::HashMap;

use super::placing::Placement;
use super::table::RegionIndex;
use crate::model::TierIndex;
use crate::trace::SiteId;

const PAGE_SHIFT: u32 = 12;
const PAGE: u64 = 1 << PAGE_SHIFT;
const GRANULE_SHIFT: u32 = 4;
const GRANULES: usize = 1 << (PAGE_SHIFT - GRANULE_SHIFT);
/// Recently used pages.
const MEMO: usize = 1 << 12;

/// Memory that is accounted for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Region {
    /// Who allocated it; `None` for what is in no block.
    pub site: Option<SiteId>,
    /// Where it is.
    pub tier: TierIndex,
}

#[derive(Debug)]
enum Page {
    Whole(RegionIndex),
    Parts(Box<[RegionIndex; GRANULES]>),
}

/// All memory of a program.
#[derive(Debug)]
pub struct Space {
    placement: Placement,
    regions: Vec<Region>,
    by_region: HashMap<Region, RegionIndex>,
    /// The first one stands for all pages that are not known.
    pages: Vec<Page>,
    by_page: HashMap<u64, u32>,
    /// Page number and index, by the lower bits of the number.
    memo: Box<[(u64, u32); MEMO]>,
    /// Blocks by address: size and region.
    blocks: HashMap<u64, (u64, RegionIndex)>,
}

impl Space {
    /// One without blocks.
    pub fn new(placement: Placement) -> Self {
        let mut space = Self {
            placement,
            regions: Vec::new(),
            by_region: HashMap::new(),
            pages: Vec::new(),
            by_page: HashMap::new(),
            memo: Box::new([(u64::MAX, 0); MEMO]),
            blocks: HashMap::new(),
        };
        let default = space.placement.default_tier();
        let elsewhere = space.region(Region { site: None, tier: default });
        space.pages.push(Page::Whole(elsewhere));
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
        }
        index
    }

    /// What a region is.
    pub fn describe(&self, region: RegionIndex) -> Region {
        self.regions[region as usize]
    }

    /// The region of an address.
    #[inline]
    pub fn lookup(&mut self, address: u64) -> RegionIndex {
        let page = self.page(address >> PAGE_SHIFT) as usize;
        match &self.pages[page] {
            Page::Whole(region) => *region,
            Page::Parts(parts) => parts[(address >> GRANULE_SHIFT) as usize % GRANULES],
        }
    }

    #[inline]
    fn page(&mut self, number: u64) -> u32 {
        let memo = &mut self.memo[number as usize % MEMO];
        if memo.0 != number {
            *memo = (number, self.by_page.get(&number).copied().unwrap_or(0));
        }
        memo.1
    }

    fn page_mut(&mut self, number: u64) -> &mut Page {
        let mut index = self.page(number);
        if index == 0 {
            index = self.pages.len() as u32;
            let Page::Whole(elsewhere) = self.pages[0] else { unreachable!("the first page is whole") };
            self.pages.push(Page::Whole(elsewhere));
            self.by_page.insert(number, index);
            self.memo[number as usize % MEMO] = (number, index);
        }
        &mut self.pages[index as usize]
    }

    /// Gives a range to a region.
    fn assign(&mut self, address: u64, len: u64, region: RegionIndex) {
        let end = address.saturating_add(len);
        let mut at = address;
        while at < end {
            let number = at >> PAGE_SHIFT;
            let next = (number << PAGE_SHIFT).saturating_add(PAGE).min(end);
            if next - at == PAGE {
                *self.page_mut(number) = Page::Whole(region);
            } else {
                let page = self.page_mut(number);
                if let Page::Whole(before) = *page {
                    *page = Page::Parts(Box::new([before; GRANULES]));
                }
                let Page::Parts(parts) = page else { continue };
                let first = (at % PAGE) as usize >> GRANULE_SHIFT;
                let last = ((next - 1) % PAGE) as usize >> GRANULE_SHIFT;
                parts[first..=last].fill(region);
            }
            at = next;
        }
    }

    /// A block is there from now on.
    pub fn allocate(&mut self, address: u64, size: u64, site: SiteId) {
        // One that was freed unseen.
        self.free(address);
        let size = size.max(1);
        let tier = self.placement.choose(address, size, site);
        let region = self.region(Region { site: Some(site), tier });
        self.assign(address, size, region);
        self.blocks.insert(address, (size, region));
    }

    /// A block is gone. One that is not known is none of ours.
    pub fn free(&mut self, address: u64) {
        let Some((size, region)) = self.blocks.remove(&address) else { return };
        let tier = self.describe(region).tier;
        self.placement.forget(size, tier);
        let elsewhere = Region { site: None, tier: self.placement.elsewhere(address) };
        let elsewhere = self.region(elsewhere);
        self.assign(address, size, elsewhere);
    }
}
