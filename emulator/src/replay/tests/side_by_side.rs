//! Several placements at once against one after the other.

use proptest::prelude::*;

use super::*;
use crate::trace::tests::set_time;

/// Blocks on both sides of an extent's border; loads and stores there, of which some cross lines or end beyond their block.
fn event() -> impl Strategy<Value = Event> {
    let place = || (0..64_u64).prop_map(|n| (1 << 40) - 32 * 1500 + n * 1500 / 16 * 16);
    let access = (place(), 0..1500_u64, prop_oneof![1..65_u32, 1..9000_u32], any::<bool>(), any::<bool>());
    prop_oneof![
        8 => access.prop_map(|(at, offset, len, write, dependent)| {
            Event::Access(Access { at: 0, address: at + offset, len, write, dependent })
        }),
        2 => (place(), 1..4000_u64, 0..4_u32, 0..2_u8).prop_map(|(address, size, site, tier)| {
            Event::Allocate(Allocate { at: 0, address, size, site: SiteId(site), tier: TierTag(tier) })
        }),
        1 => place().prop_map(|address| Event::Free(Free { at: 0, address })),
        1 => (place(), 1..200_u64, 0..2_u8).prop_map(|(address, len, tier)| {
            Event::Place(Place { at: 0, address, len: len * 16, tier: TierTag(tier) })
        }),
    ]
}

proptest! {
    /// Steps are: thread, event, and ticks since the one before.
    #[test]
    fn reports_are_those_of_separate_replays(
        steps in prop::collection::vec((0..3_u32, event(), 0..30_u64), 1..400),
        one_thread in prop::bool::weighted(0.8),
        prefetch in any::<bool>(),
    ) {
        let mut at = 0;
        let events: Vec<(u32, Event)> = steps.into_iter().map(|(thread, mut event, ticks)| {
            at += ticks;
            set_time(&mut event, at);
            (if one_thread { 0 } else { thread }, event)
        }).collect();
        let bytes = trace(&events);
        let trace = Trace::new(bytes.as_slice(), Strictness::Strict).unwrap();
        let recorded = [(TierTag(0), FAST), (TierTag(1), SLOW)].into();
        let placements = [
            all(FAST),
            all(SLOW).as_recorded(recorded),
            all(FAST).rules(vec![Rule::Size(0..1000, SLOW), Rule::Address(1 << 40..(1 << 40) + 70_000, SLOW)], SiteNames::new()),
        ];
        let caches = if prefetch { "4K/4@2,8K/4@5,prefetch:4x4" } else { "2K/2@2,4K/4@5,shared:8K/4@20" };
        let config = Config { caches: CacheConfig::parse(caches).unwrap(), instruction_ns: 0.3, ..config() };
        let mut memories = [(); 3].map(|()| Fixed::default());
        let [first, second, third] = &mut memories;
        let [a, b, c] = placements.clone();
        let together = replay_side_by_side(&trace, [(first, a), (second, b), (third, c)], &config);
        for (at, placement) in placements.into_iter().enumerate() {
            let mut memory = Fixed::default();
            let alone = replay(&trace, &mut memory, placement, &config);
            match (&together, alone) {
                (Ok(reports), Ok(alone)) => {
                    prop_assert_eq!(&reports[at], &alone);
                    prop_assert_eq!((memories[at].last, memories[at].back), (memory.last, memory.back));
                }
                (Err(ReplayError::Empty), Err(ReplayError::Empty)) => {}
                (together, alone) => prop_assert!(false, "{together:?} {alone:?}"),
            }
        }
    }
}
