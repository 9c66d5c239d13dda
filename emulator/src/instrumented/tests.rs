//! The engine on programs of a few accesses, by hand.

use super::record::{access, allocated, freed, range};
use super::{Batch, Engine, Overlap, Rules};
use crate::cache::CacheConfig;
use crate::model::{Request, Serve, TierIndex};
use crate::time::Time;

/// 100 ns for the first tier, 300 ns for the second.
pub(super) struct Fixed;

impl Serve for Fixed {
    fn serve(&mut self, at: Time, request: Request) -> Time {
        at + Time::from_ns(if request.tier == TierIndex(0) { 100.0 } else { 300.0 })
    }
}

pub(super) const OVERLAP: Overlap = Overlap { outstanding: 4, window: 100, issue_ns: 1.0 };

fn engine(rules: Rules) -> Engine<Fixed> {
    let cache = CacheConfig::parse("4K/1@1,shared:64K/16@10").unwrap();
    Engine::new(&cache, OVERLAP, rules, vec![1 << 30, 1 << 30], Fixed).unwrap()
}

/// Nanoseconds that one thread takes for these records.
fn ns(engine: &mut Engine<Fixed>, records: &[u64], values: &[u64]) -> u64 {
    let thread = engine.begin_thread(None);
    let mut values = values.to_vec();
    values.resize(records.len(), 0);
    engine.batch(thread, &Batch { records, values: &values, ..Batch::default() });
    engine.end_thread(thread);
    engine.threads[0].as_ref().unwrap().clock.now_ps() / 1000
}

#[test]
fn independent_misses_overlap_and_pointers_do_not() {
    let loads: Vec<u64> = (1..=4).map(|i| access(i << 16, 8, false)).collect();
    assert_eq!(ns(&mut engine(Rules::All(TierIndex(0))), &loads, &[]), 4 + 100);
    let pointers: Vec<u64> = (2..=5).map(|i| i << 16).collect();
    assert_eq!(ns(&mut engine(Rules::All(TierIndex(0))), &loads, &pointers), 1 + 4 * 100);
    let eight: Vec<u64> = (1..=8).map(|i| access(i << 16, 8, false)).collect();
    assert_eq!(ns(&mut engine(Rules::All(TierIndex(0))), &eight, &[]), 1 + 100 + 3 + 100, "four at a time");
}

#[test]
fn blocks_take_the_time_of_their_tier() {
    let mut engine = engine(Rules::All(TierIndex(1)));
    let site = engine.site(&[1, 2]);
    engine.allocate(0x10_0000, 128, site);
    assert_eq!(ns(&mut engine, &[access(0x10_0000, 8, false)], &[]), 1 + 300);
    let blocks = &engine.placing.blocks[3];
    assert_eq!((blocks.tier, blocks.allocations, blocks.live, blocks.load_misses), (1, 1, 128, 1));
    assert_eq!(engine.placing.frames[0], [1, 2]);
    engine.free(0x10_0000);
    assert_eq!(engine.placing.blocks[3].live, 0);
}

/// A line may be in flight while its block ends and another one takes its place.
#[test]
fn waiting_is_put_down_to_whom_the_line_belonged_when_it_was_asked_for() {
    const LINE: u64 = 0x10_0000;
    const POINTED_AT: u64 = 0x20_0000;
    for in_one_batch in [true, false] {
        let mut engine = engine(Rules::All(TierIndex(0)));
        let [before, after] = [1, 2].map(|frame| engine.site(&[frame]));
        engine.allocate(LINE, 64, before);
        let thread = engine.begin_thread(None);
        let load = |address| access(address, 8, false);
        // The second level has the line, so that its next flight has no label yet, and the misses have landed.
        let records = [[load(LINE), load(LINE + 4096)].as_slice(), &[load(POINTED_AT); 200]].concat();
        engine.batch(thread, &Batch { records: &records, values: &[0; 202], ..Batch::default() });
        let waited = |engine: &Engine<Fixed>, label: usize| engine.placing.blocks[label].waited_ps;
        let at_first = waited(&engine, 3);
        let (block, value) = allocated(LINE, 64, after);
        let records = [load(LINE), freed(LINE), block, load(POINTED_AT + 64)];
        let values = [POINTED_AT, 0, value, 0];
        let mut batch = |records: &[u64], values: &[u64]| {
            engine.batch(thread, &Batch { records, values, ..Batch::default() });
        };
        if in_one_batch {
            batch(&records, &values);
        } else {
            batch(&records[..1], &values[..1]);
            batch(&records[1..], &values[1..]);
        }
        assert_eq!(engine.placing.blocks[4].site, Some(after));
        assert_eq!((waited(&engine, 3) - at_first, waited(&engine, 4)), (9000, 0), "in one batch: {in_one_batch}");
    }
}

#[test]
fn every_access_is_counted_once_wherever_it_is_found() {
    let mut engine = engine(Rules::All(TierIndex(0)));
    let mut records = vec![access(0x1000, 8, false), access(0x1008, 4, true), access(0x1000, 1, false)];
    records.push(access(0x103c, 8, true)); // Two lines.
    records.push(range(0x2000, false));
    records.push(access(0x2010, 16, false));
    ns(&mut engine, &records, &[0, 0, 0, 0, 256]);
    let counts = engine.threads[0].as_ref().unwrap().counts;
    assert_eq!((counts.loads, counts.stores, counts.bytes_loaded, counts.bytes_stored), (3, 2, 25, 12));
    assert_eq!((counts.ranges_loaded, counts.range_bytes_loaded, counts.ranges_stored), (1, 256, 0));
    // The crossing store is two lookups, the range four.
    assert_eq!(counts.hits.iter().sum::<u64>() + counts.misses, 5 + 1 + 4);
    assert_eq!(counts.misses, 2 + 4);
}

#[test]
fn remembering_recent_lines_changes_nothing() {
    let mut state = 7_u64;
    let records: Vec<u64> = { 0..20_000 }
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            access(((state >> 33) % (1 << 15)) & !7, 8, state >> 60 < 4)
        })
        .collect();
    // With 32 sets the engine cannot remember lines; with 64 of half the ways it does. Against the cache alone.
    for cache in ["2K/1@1,shared:64K/16@10", "4K/1@1,shared:64K/16@10", "8K/2@1,16K/4@3,shared:64K/16@10"] {
        let config = CacheConfig::parse(cache).unwrap();
        let mut engine = Engine::new(&config, OVERLAP, Rules::All(TierIndex(0)), vec![1 << 30; 2], Fixed).unwrap();
        ns(&mut engine, &records, &[]);
        let counts = engine.threads[0].as_ref().unwrap().counts;
        let mut caches = crate::cache::Hierarchy::new(&config, 1).unwrap();
        let mut frames = Vec::new();
        for record in &records {
            let os_page = super::record::address(*record) / 4096;
            let frame = frames.iter().position(|known| *known == os_page).unwrap_or_else(|| {
                frames.push(os_page);
                frames.len() - 1
            });
            let at = frame as u64 * 4096 + super::record::address(*record) % 4096;
            caches.access(crate::cache::CoreIndex(0), at, record >> 63 != 0, &mut |_| {});
        }
        let expected = caches.counts(crate::cache::CoreIndex(0));
        assert_eq!((counts.hits, counts.misses), (expected.hits, expected.misses), "{cache}");
    }
}
