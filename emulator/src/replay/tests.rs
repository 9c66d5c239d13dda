//! Replays against closed forms: memory of a fixed latency, so that each time can be counted by hand.

mod side_by_side;

use super::*;
use crate::cache::LevelConfig;
use crate::model::{Request, TierIndex};
use crate::trace::{
    Access, Allocate, Counts, Event, Free, Interval, Place, Sample, SiteId, Strictness, TierTag, Writer,
};

const FAST: TierIndex = TierIndex(0);
const SLOW: TierIndex = TierIndex(1);
const FAST_PS: u64 = 100_000;
const SLOW_PS: u64 = 250_000;
const L1_PS: u64 = 2_000;

/// Memory that always takes its tier's latency.
#[derive(Clone, Default)]
struct Fixed {
    last: u64,
    /// How far requests came in before others that were there already.
    back: u64,
}

impl Serve for &mut Fixed {
    fn serve(&mut self, at: Time, request: Request) -> Time {
        self.back = self.back.max(self.last.saturating_sub(at.0));
        self.last = self.last.max(at.0);
        Time(at.0 + if request.tier == FAST { FAST_PS } else { SLOW_PS })
    }
}

fn config() -> Config {
    let level = LevelConfig { size: 4096, ways: 4, latency_ns: 2.0 };
    Config {
        caches: CacheConfig { private: vec![level], shared: None, prefetch: None },
        instruction_ns: 1.0,
        outstanding: 10,
        window: 192,
        ..Config::default()
    }
}

fn provenance() -> Provenance {
    Provenance {
        clock: Clock::Instructions,
        common_clock: true,
        accesses: Completeness::Exact,
        allocations: Completeness::Exact,
        ..Provenance::default()
    }
}

fn trace(events: &[(u32, Event)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &provenance()).unwrap();
    events.iter().for_each(|(stream, event)| writer.event(StreamId(*stream), event).unwrap());
    writer.finish().unwrap()
}

fn load(at: u64, address: u64, dependent: bool) -> Event {
    Event::Access(Access { at, address, len: 8, write: false, dependent })
}

fn store(at: u64, address: u64) -> Event {
    Event::Access(Access { at, address, len: 8, write: true, dependent: false })
}

fn run(events: &[(u32, Event)], placement: Placement, config: &Config) -> Report {
    let bytes = trace(events);
    let trace = Trace::new(bytes.as_slice(), Strictness::Strict).unwrap();
    replay(&trace, &mut Fixed::default(), placement, config).unwrap()
}

fn all(tier: TierIndex) -> Placement {
    Placement::all(tier, vec![1 << 40, 1 << 40])
}

/// `count` loads, each of a line of its own.
fn misses(count: u64, dependent: bool) -> Vec<(u32, Event)> {
    (0..count).map(|n| (1, load(0, 0x10_0000 + n * 4096, dependent))).collect()
}

#[test]
fn a_chase_takes_the_latency_of_each_step() {
    for (tier, latency) in [(FAST, FAST_PS), (SLOW, SLOW_PS)] {
        let report = run(&misses(1000, true), all(tier), &config());
        assert_eq!(report.end, Time(1000 * latency));
        assert_eq!((report.total.misses, report.total.accesses), (1000, 1000));
        assert_eq!(report.total.lost_ps, 1000 * latency);
        assert_eq!(report.tiers.len(), 1);
        assert_eq!(report.tiers[0].tier, tier);
    }
}

#[test]
fn independent_misses_overlap_as_far_as_the_core_lets_them() {
    // Ten at a time, then the next ten.
    assert_eq!(run(&misses(1000, false), all(SLOW), &config()).end, Time(100 * SLOW_PS));
    let one = Config { outstanding: 1, ..config() };
    assert_eq!(run(&misses(1000, false), all(SLOW), &one).end, Time(1000 * SLOW_PS));
    // However they are marked, the bounds can be asked for.
    let slowest = Config { dependence: Dependence::All, ..config() };
    assert_eq!(run(&misses(1000, false), all(SLOW), &slowest).end, Time(1000 * SLOW_PS));
    let fastest = Config { dependence: Dependence::Never, ..config() };
    assert_eq!(run(&misses(1000, true), all(SLOW), &fastest).end, Time(100 * SLOW_PS));
}

/// One miss, then 50 hits, again and again: with a window of 40 accesses a miss is waited for before the next begins.
#[test]
fn no_access_runs_further_ahead_than_the_window() {
    let mut events = Vec::new();
    for n in 0..100 {
        events.push((1, load(0, 0x10_0000 + n * 4096, false)));
        events.extend((0..50).map(|_| (1, load(0, 0x10_0000 + n * 4096 + 8, false))));
    }
    let narrow = Config { window: 40, ..config() };
    // The last hits come after the last miss was waited for.
    assert_eq!(run(&events, all(SLOW), &narrow).end, Time(100 * SLOW_PS + L1_PS));
    let wide = Config { window: 100_000, ..config() };
    assert_eq!(run(&events, all(SLOW), &wide).end, Time(10 * SLOW_PS));
}

#[test]
fn work_hits_and_stores_cost_what_they_should() {
    // 1000 dependent hits in one line: the first is a miss.
    let hits: Vec<_> = (0..1001).map(|_| (1, load(0, 0x1000, true))).collect();
    let report = run(&hits, all(FAST), &config());
    assert_eq!(report.end, Time(FAST_PS + 1000 * L1_PS));
    assert_eq!(report.threads[0].lost_to_caches, Time(1000 * L1_PS));
    // Hits that nobody waits for, 5 ns of work apart.
    let apart: Vec<_> = (0..=1000).map(|n| (1, load(n * 5, 0x1000, false))).collect();
    let report = run(&apart, all(FAST), &config());
    assert_eq!((report.end, report.threads[0].work), (Time(5_000_000 + L1_PS), Time(5_000_000)));
    // A store that misses is waited for at the end only.
    let stores: Vec<_> = (0..10).map(|n| (1, store(0, 0x10_0000 + n * 4096))).collect();
    assert_eq!(run(&stores, all(SLOW), &config()).end, Time(SLOW_PS));
}

/// A hit in a line that is still on its way is no hit for those that need its value.
#[test]
fn a_line_on_its_way_is_waited_for() {
    let mut events = Vec::new();
    for n in 0..100 {
        events.push((1, load(0, 0x10_0000 + n * 4096, true)));
        events.push((1, load(0, 0x10_0000 + n * 4096 + 8, false)));
    }
    assert_eq!(run(&events, all(SLOW), &config()).end, Time(100 * SLOW_PS));
}

#[test]
fn lines_that_an_access_crosses_are_all_read_and_dirty_ones_written_back() {
    let event = Event::Access(Access { at: 0, address: 0x1000 + 60, len: 64 + 8, write: true, dependent: false });
    let report = run(&[(1, event)], all(FAST), &config());
    assert_eq!((report.total.accesses, report.total.misses), (1, 3));
    // 128 dirty lines in a cache of 64.
    let stores: Vec<_> = (0..128).map(|n| (1, store(0, 0x10_0000 + n * 64))).collect();
    let report = run(&stores, all(SLOW), &config());
    assert_eq!((report.total.misses, report.total.written_back, report.total.bytes()), (128, 64, 192 * 64));
}

fn allocate(at: u64, address: u64, size: u64, site: u32) -> Event {
    Event::Allocate(Allocate { at, site: SiteId(site), address, size, tier: TierTag::UNKNOWN })
}

#[test]
fn time_is_lost_to_the_block_that_was_there() {
    let mut events = vec![(1, allocate(0, 0x10_0000, 0x1_0000, 7)), (1, allocate(0, 0x20_0010, 48, 8))];
    // 16 lines of one, the one line of the other, and one of no block.
    events.extend((0..16).map(|n| (1, load(1, 0x10_0000 + n * 4096, true))));
    events.push((1, load(1, 0x20_0018, true)));
    events.push((1, load(1, 0x20_0040, true)));
    // The same place, when another block is there.
    events.push((1, Event::Free(Free { at: 2, address: 0x10_0000 })));
    events.push((1, load(3, 0x10_8000 + 64, true)));
    events.push((1, allocate(4, 0x10_0000, 0x2000, 9)));
    events.push((1, load(5, 0x10_0000 + 128, true)));
    let rules = vec![Rule::Site("cache".to_owned(), SLOW), Rule::Size(40..50, SLOW)];
    let frame = NamedFrame { symbol: Some("make_cache".to_owned()), module: "/bin/program".to_owned() };
    let names = SiteNames::from([(SiteId(7), vec![frame])]);
    let idle = Config { instruction_ns: 0.0, ..config() };
    let report = run(&events, all(FAST).rules(rules, names), &idle);
    let lost = |site: Option<u32>, tier| {
        let wanted = (site.map(SiteId), tier);
        report.sites.iter().find(|s| (s.site, s.tier) == wanted).map(|s| (s.count.accesses, s.count.lost_ps))
    };
    assert_eq!(lost(Some(7), SLOW), Some((16, 16 * SLOW_PS)));
    assert_eq!(lost(Some(8), SLOW), Some((1, SLOW_PS)));
    assert_eq!(lost(Some(9), FAST), Some((1, FAST_PS)));
    assert_eq!(lost(None, FAST), Some((2, 2 * FAST_PS)));
    assert_eq!(report.sites.len(), 4);
}

#[test]
fn a_policy_fills_a_tier_and_goes_on_to_the_next() {
    let text = "version = 1\n[tier.dram]\nlimit = '64 KiB'\n[tier.slow]\nsource = 'dax-file:/dev/shm/slow,size=1G'\n";
    let policy = tiermem_placement::Policy::parse(text, "test").unwrap();
    let find = |name: &str| ["dram", "slow"].iter().position(|tier| *tier == name).map(|tier| TierIndex(tier as u16));
    let placement = all(FAST).policy(&policy, SiteNames::new(), find).unwrap();
    let mut events = Vec::new();
    for n in 0..4 {
        events.push((1, allocate(n, 0x10_0000 * (n + 1), 32 << 10, 1)));
        events.push((1, load(n, 0x10_0000 * (n + 1), true)));
    }
    let report = run(&events, placement, &config());
    let by_tier: Vec<_> = report.tiers.iter().map(|tier| (tier.tier, tier.count.misses)).collect();
    assert_eq!(by_tier, [(FAST, 2), (SLOW, 2)]);
    let missing = all(FAST).policy(&policy, SiteNames::new(), |name| (name == "dram").then_some(FAST));
    assert!(missing.unwrap_err().to_string().contains("`slow`"));
}

/// A thread on slow memory and one on fast memory: the one that is behind goes on, and what happens to blocks happens in
/// the recorded order.
#[test]
fn threads_run_side_by_side_in_virtual_time() {
    let mut events = Vec::new();
    for n in 0..200 {
        events.push((1, load(n, 0x10_0000 + n * 4096, true)));
        events.push((2, load(n, 0x8000_0000 + n * 4096, true)));
    }
    let rules = vec![Rule::Address(0x8000_0000..0x9000_0000, SLOW)];
    let bytes = trace(&events);
    let trace = Trace::new(bytes.as_slice(), Strictness::Strict).unwrap();
    let placement = all(FAST).rules(rules, SiteNames::new());
    let mut memory = Fixed::default();
    let report = replay(&trace, &mut memory, placement, &config()).unwrap();
    let ends: Vec<_> = report.threads.iter().map(|thread| thread.end.0).collect();
    // A nanosecond of work overlaps with nothing here, but each access waits for the one before.
    assert_eq!(ends, [200 * FAST_PS, 200 * SLOW_PS]);
    assert!(memory.back <= SLOW_PS + config().quantum.0, "a request came {} ps late", memory.back);
}

/// One thread allocates and frees, the other one uses: each access counts for the block that was there when it was
/// recorded, although the second thread runs far behind in virtual time.
#[test]
fn blocks_of_other_threads_are_there_when_they_were_recorded() {
    let mut events = Vec::new();
    for n in 0..50u64 {
        events.push((1, allocate(n * 100, 0x10_0000, 0x8_0000, n as u32 + 1)));
        for i in 0..10 {
            events.push((2, load(n * 100 + 10 + i, 0x10_0000 + (n * 10 + i) % 128 * 4096, true)));
        }
        events.push((1, Event::Free(Free { at: n * 100 + 50, address: 0x10_0000 })));
    }
    let report = run(&events, all(SLOW), &config());
    assert_eq!(report.sites.len(), 50, "{:?}", report.sites);
    assert!(report.sites.iter().all(|site| site.site.is_some() && site.count.accesses == 10));
    assert_eq!(report, run(&events, all(SLOW), &config()));
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    for accesses in [Completeness::Absent, Completeness::Aggregated, Completeness::Sampled(7)] {
        let from = Provenance { accesses, ..provenance() };
        let bytes = Writer::new(Vec::new(), &from).unwrap().finish().unwrap();
        let trace = Trace::new(bytes.as_slice(), Strictness::Strict).unwrap();
        let error = replay(&trace, &mut Fixed::default(), all(FAST), &config()).unwrap_err();
        assert!(matches!(error, ReplayError::NotExact(_)), "{error}");
    }
    let bytes = trace(&[]);
    let trace = Trace::new(bytes.as_slice(), Strictness::Strict).unwrap();
    assert!(matches!(replay(&trace, &mut Fixed::default(), all(FAST), &config()), Err(ReplayError::Empty)));
    let none = Config { outstanding: 0, ..config() };
    assert!(matches!(replay(&trace, &mut Fixed::default(), all(FAST), &none), Err(ReplayError::Config(_))));
}

/// A block of `size` bytes, on a tier of the recorded run.
fn allocate_on(at: u64, address: u64, size: u64, tier: u8) -> Event {
    Event::Allocate(Allocate { at, site: SiteId(7), address, size, tier: TierTag(tier) })
}

#[test]
fn blocks_lie_where_they_were_recorded_and_move_when_they_did() {
    let recorded = || all(FAST).as_recorded([(TierTag(1), SLOW), (TierTag(0), FAST)].into());
    let (near, far) = (0x10_0000, 0x20_0000);
    let mut events = vec![(1, allocate_on(0, near, 4096, 0)), (1, allocate_on(0, far, 4096, 1))];
    events.extend([near, far].map(|address| (1, load(1, address, true))));
    let report = run(&events, recorded(), &config());
    let accesses = |report: &Report, tier| report.tiers.iter().find(|t| t.tier == tier).map_or(0, |t| t.count.accesses);
    assert_eq!((accesses(&report, FAST), accesses(&report, SLOW)), (1, 1));
    // The second half of the far block moves to the near tier.
    events.insert(2, (1, Event::Place(Place { at: 0, address: far + 2048, len: 2048, tier: TierTag(0) })));
    events.extend([(1, load(2, far + 2048, true)), (1, load(2, far + 2047, true))]);
    let report = run(&events, recorded(), &config());
    assert_eq!((accesses(&report, FAST), accesses(&report, SLOW)), (2, 2));
    // Without being asked for, none of that counts.
    assert_eq!(accesses(&run(&events, all(FAST), &config()), SLOW), 0);
}

#[test]
fn samples_and_counts_go_to_the_tier_that_the_memory_is_on() {
    let from = Provenance { accesses: Completeness::Sampled(0), ..provenance() };
    let mut writer = Writer::new(Vec::new(), &from).unwrap();
    let sample = |address| Event::Sample(Sample { at: 5, address, weight: 100, ..Sample::default() });
    let (counts, seen) = (Counts::Counted { reads: 30, writes: 10 }, Counts::Seen { hits: 8, looks: 32 });
    let events = [
        allocate_on(0, 0x10_0000, 1 << 20, 0),
        allocate_on(1, 0x40_0000, 1 << 20, 1),
        Event::Free(Free { at: 2, address: 0x10_0000 }),
        allocate_on(3, 0x10_0000, 1 << 19, 0),
        sample(0x10_0000),
        sample(0x40_0000),
        sample(0x40_0800),
        // Half of it in the slow block, half in none.
        Event::Interval(Interval { at: 6, ticks: 5, address: 0x3f_0000, len: 0x2_0000, counts }),
        // A quarter of its OS pages.
        Event::Interval(Interval { at: 7, ticks: 5, address: 0x3f_0000, len: 0x2_0000, counts: seen }),
    ];
    events.iter().for_each(|event| writer.event(StreamId(1), event).unwrap());
    let bytes = writer.finish().unwrap();
    let trace = Trace::new(bytes.as_slice(), Strictness::Strict).unwrap();
    let placement = all(FAST).as_recorded([(TierTag(1), SLOW)].into());
    assert!(matches!(
        replay(&trace, &mut Fixed::default(), placement.clone(), &config()),
        Err(ReplayError::NotExact(Completeness::Sampled(0)))
    ));
    let tally = tally(&trace, placement).unwrap();
    let of = |tier| tally.tiers.iter().find(|(there, _)| *there == tier).unwrap().1;
    let fast = Amount { blocks: 2, bytes_max: 1 << 20, bytes_left: 1 << 19, accesses: 120.0, bytes_seen: 16384.0 };
    let slow = Amount { blocks: 1, bytes_max: 1 << 20, bytes_left: 1 << 20, accesses: 220.0, bytes_seen: 16384.0 };
    assert_eq!((of(FAST), of(SLOW)), (fast, slow));
    assert_eq!((tally.sites[0].tier, tally.sites[0].site), (SLOW, Some(SiteId(7))));
    assert!(tally.assumptions.iter().any(|sentence| sentence.contains("3 samples")));
}

/// A thread decodes ahead; what another one allocates meanwhile counts from then on, and not before.
#[test]
fn accesses_that_were_decoded_before_a_block_came_belong_to_it() {
    let mut events: Vec<(u32, Event)> = (0..20).map(|n| (1, load(n * 10, 0x10_0000, false))).collect();
    events.push((2, allocate(95, 0x10_0000, 64, 7)));
    events.push((2, Event::Free(Free { at: 145, address: 0x10_0000 })));
    events.sort_by_key(|(_, event)| event.at());
    let report = run(&events, all(FAST), &config());
    let of_block = report.sites.iter().find(|site| site.site == Some(SiteId(7))).unwrap();
    assert_eq!((of_block.count.accesses, report.total.accesses), (5, 20));
}
