//! The table against a list of all granules.

use super::super::{Rule, SiteNames};
use super::*;
use proptest::prelude::*;

const FAST: TierIndex = TierIndex(0);
const SLOW: TierIndex = TierIndex(1);
const NOWHERE: Region<2> = Region { site: None, tiers: [FAST; 2] };

/// Blocks of up to so many bytes the second placement puts on the slow tier; where they were recorded counts for the first.
const SMALL: u64 = 5000;

/// What each granule belongs to, in a list of all of them.
#[derive(Default)]
struct Plain {
    granules: HashMap<u64, Region<2>>,
    blocks: HashMap<u64, u64>,
}

impl Plain {
    fn fill(&mut self, address: u64, len: u64, region: impl Fn(Region<2>) -> Region<2>) {
        for granule in address >> GRANULE_SHIFT..=(address + len - 1) >> GRANULE_SHIFT {
            let there = self.at(granule << GRANULE_SHIFT);
            self.granules.insert(granule, region(there));
        }
    }

    fn at(&self, address: u64) -> Region<2> {
        self.granules.get(&(address >> GRANULE_SHIFT)).copied().unwrap_or(NOWHERE)
    }

    fn free(&mut self, address: u64) {
        if let Some(len) = self.blocks.remove(&address) {
            self.fill(address, len, |_| NOWHERE);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(u64, u64, u32, u8),
    Free(u64),
    Place(u64, u64, u8),
}

/// Places on both sides of the border between two leaves, and far away from both.
fn address() -> impl Strategy<Value = u64> {
    let border = PAGE << LEAF_SHIFT;
    prop_oneof![0..64u64, 1u64 << 40..(1 << 40) + 8].prop_map(move |n| border - 32 * 1024 + n * 1024)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (address(), 1..20_000u64, 0..3u32, 0..2u8).prop_map(|(a, l, s, t)| Step::Allocate(a, l, s, t)),
        2 => address().prop_map(Step::Free),
        1 => (address(), (1..1500u64).prop_map(|n| n * 16), 0..2u8).prop_map(|(a, l, t)| Step::Place(a, l, t)),
    ]
}

proptest! {
    #[test]
    fn every_granule_is_whose_a_list_says(steps in proptest::collection::vec(step(), 1..60)) {
        let all = Placement::all(FAST, vec![0; 2]);
        let by_size = all.clone().rules(vec![Rule::Size(0..SMALL, SLOW)], SiteNames::new());
        let mut space = Space::new([all.as_recorded([(TierTag(0), FAST), (TierTag(1), SLOW)].into()), by_size], true);
        let mut plain = Plain::default();
        for step in steps {
            match step {
                Step::Allocate(address, len, site, tier) => {
                    space.allocate(address, len, SiteId(site), TierTag(tier));
                    plain.free(address);
                    let tiers = [TierIndex(tier.into()), if len < SMALL { SLOW } else { FAST }];
                    plain.fill(address, len, |_| Region { site: Some(SiteId(site)), tiers });
                    plain.blocks.insert(address, len);
                }
                Step::Free(address) => {
                    space.free(address);
                    plain.free(address);
                }
                Step::Place(address, len, tier) => {
                    space.place(address, len, TierTag(tier));
                    plain.fill(address, len, |before| {
                        Region { tiers: [TierIndex(tier.into()), before.tiers[1]], ..before }
                    });
                }
            }
            for &granule in plain.granules.keys() {
                let address = granule << GRANULE_SHIFT;
                let found = space.lookup(address);
                prop_assert_eq!(space.describe(found), plain.at(address));
            }
        }
        let border = PAGE << LEAF_SHIFT;
        let mut at = border - PAGE * 20;
        for (bytes, region) in space.parts(at, PAGE * 60) {
            prop_assert_eq!(space.describe(region), plain.at(at));
            prop_assert_eq!(space.describe(region), plain.at(at + bytes - 1));
            at += bytes;
        }
        prop_assert_eq!(at, border + PAGE * 40);
    }
}
