//! Small caches by hand, and what any of them do against plain ones.

use super::reference::Plain;
use super::{CacheConfig, CoreIndex, Hierarchy, LINE, Lookup, Traffic};

const CORE: CoreIndex = CoreIndex(0);
const OTHER: CoreIndex = CoreIndex(1);

fn hierarchy(text: &str, cores: u32) -> Hierarchy {
    Hierarchy::new(&CacheConfig::parse(text).unwrap(), cores).unwrap()
}

struct Host {
    caches: Hierarchy,
    traffic: Vec<Traffic>,
}

impl Host {
    fn new(text: &str, cores: u32) -> Self {
        Self { caches: hierarchy(text, cores), traffic: Vec::new() }
    }

    fn on(&mut self, core: CoreIndex, line: u64, store: bool) -> Lookup {
        let Self { caches, traffic } = self;
        // Changes nothing, whatever the caches hold.
        caches.expect(core, line * LINE);
        caches.access(core, line * LINE, store, &mut |t| traffic.push(t))
    }

    fn load(&mut self, line: u64) -> Lookup {
        self.on(CORE, line, false)
    }

    fn store(&mut self, line: u64) -> Lookup {
        self.on(CORE, line, true)
    }

    fn traffic(&mut self) -> Vec<Traffic> {
        std::mem::take(&mut self.traffic)
    }
}

#[test]
fn the_least_recently_used_line_makes_way() {
    // One set of two ways.
    let mut host = Host::new("128/2@1", 1);
    assert_eq!((host.load(1), host.load(2), host.load(1)), (Lookup::Miss, Lookup::Miss, Lookup::Hit(1)));
    assert_eq!(host.load(3), Lookup::Miss);
    assert_eq!((host.load(1), host.load(2)), (Lookup::Hit(1), Lookup::Miss));
    assert!(host.traffic().is_empty());
}

#[test]
fn sets_do_not_disturb_each_other() {
    // Two sets of one way: even and odd lines.
    let mut host = Host::new("128/1@1", 1);
    for line in [2, 3] {
        host.load(line);
    }
    assert_eq!((host.load(2), host.load(3), host.load(5), host.load(2)), {
        (Lookup::Hit(1), Lookup::Hit(1), Lookup::Miss, Lookup::Hit(1))
    });
    // Three sets: not a power of two.
    let mut host = Host::new("192/1@1", 1);
    for line in [0, 1, 2] {
        host.load(line);
    }
    assert_eq!((host.load(0), host.load(1), host.load(2), host.load(3), host.load(0)), {
        (Lookup::Hit(1), Lookup::Hit(1), Lookup::Hit(1), Lookup::Miss, Lookup::Miss)
    });
}

#[test]
fn a_dirty_line_is_written_when_the_last_level_drops_it() {
    let mut host = Host::new("64/1@1,shared:128/2@5", 1);
    host.store(1);
    host.load(2);
    assert_eq!(host.load(1), Lookup::Hit(2));
    assert!(host.traffic().is_empty(), "the shared level has it");
    host.load(3);
    host.load(4);
    assert_eq!(host.traffic(), [Traffic::WriteBack(LINE)]);
    assert_eq!(host.caches.counts(CORE).written_back, 1);
}

#[test]
fn a_store_that_misses_reads_its_line_and_line_zero_is_a_line() {
    let mut host = Host::new("64/1@1", 1);
    assert_eq!((host.store(0), host.load(0)), (Lookup::Miss, Lookup::Hit(1)));
    host.load(1);
    assert_eq!(host.traffic(), [Traffic::WriteBack(0)]);
}

#[test]
fn the_middle_level_keeps_what_the_first_drops() {
    let mut host = Host::new("64/1@1,256/4@3,shared:1K/16@9", 1);
    for line in 0..4 {
        host.store(line);
    }
    assert_eq!((host.load(0), host.load(3)), (Lookup::Hit(2), Lookup::Hit(2)));
    assert_eq!(host.caches.counts(CORE).hits, [0, 2, 0, 0]);
    assert_eq!(host.caches.counts(CORE).accesses(), 6);
}

#[test]
fn flushing_and_cleaning_write_once() {
    let mut host = Host::new("1K/4@1,shared:4K/4@5", 2);
    host.store(7);
    let Host { caches, traffic } = &mut host;
    assert!(caches.clean(7 * LINE + 5, &mut |t| traffic.push(t)));
    assert!(!caches.clean(7 * LINE, &mut |t| traffic.push(t)));
    assert_eq!(host.load(7), Lookup::Hit(1), "cleaning keeps it");
    host.store(7);
    let Host { caches, traffic } = &mut host;
    assert!(caches.flush(7 * LINE, &mut |t| traffic.push(t)));
    assert!(!caches.flush(7 * LINE, &mut |t| traffic.push(t)));
    assert_eq!(host.load(7), Lookup::Miss, "flushing does not");
    assert_eq!(host.traffic(), [Traffic::WriteBack(7 * LINE); 2]);
    host.on(OTHER, 9, true);
    host.store(8);
    let Host { caches, traffic } = &mut host;
    caches.flush_all(&mut |t| traffic.push(t));
    caches.flush_all(&mut |t| traffic.push(t));
    assert_eq!(host.traffic(), [Traffic::WriteBack(8 * LINE), Traffic::WriteBack(9 * LINE)]);
}

#[test]
fn a_store_takes_the_line_from_the_other_core() {
    let mut host = Host::new("1K/4@1,2K/4@2,shared:4K/4@5", 2);
    host.load(1);
    assert_eq!(host.on(OTHER, 1, false), Lookup::Hit(3));
    assert_eq!(host.store(1), Lookup::Hit(1), "an upgrade");
    assert_eq!(host.caches.counts(CORE).invalidated, 1);
    assert_eq!(host.store(1), Lookup::Hit(1));
    assert_eq!(host.caches.counts(CORE).invalidated, 1, "it is its own now");
    assert_eq!(host.on(OTHER, 1, false), Lookup::Hit(3), "modified elsewhere");
    assert_eq!(host.on(OTHER, 1, true), Lookup::Hit(1));
    assert_eq!(host.load(1), Lookup::Hit(3), "and taken back");
    assert!(host.traffic().is_empty());
}

#[test]
fn a_core_that_comes_later_finds_what_the_first_one_has() {
    let mut host = Host::new("1K/4@1,2K/4@2,shared:4K/4@5", 1);
    assert_eq!((host.store(1), host.store(100), host.caches.add_core()), (Lookup::Miss, Lookup::Miss, OTHER));
    assert_eq!((host.on(OTHER, 1, true), host.load(1)), (Lookup::Hit(3), Lookup::Hit(3)));
    assert_eq!(host.on(OTHER, 100, false), Lookup::Hit(3));
    assert_eq!((host.store(100), host.caches.counts(CORE).invalidated), (Lookup::Hit(1), 1), "it was shared");
}

#[test]
fn without_a_shared_level_modified_lines_pass_through_memory() {
    let mut host = Host::new("1K/4@1", 2);
    host.store(1);
    assert_eq!(host.on(OTHER, 1, false), Lookup::Hit(1));
    assert_eq!(host.traffic(), [Traffic::WriteBack(LINE)]);
    assert_eq!(host.on(OTHER, 2, true), Lookup::Miss);
    assert_eq!(host.store(2), Lookup::Hit(1), "from cache to cache");
    assert!(host.traffic().is_empty());
}

#[test]
fn what_a_core_modified_is_not_lost_in_its_second_level() {
    let mut host = Host::new("64/1@1,128/2@2,shared:4K/4@5", 2);
    host.store(1);
    host.load(2); // Line 1 moves to the second level, dirty and owned.
    assert_eq!(host.on(OTHER, 1, false), Lookup::Hit(3));
    let Host { caches, traffic } = &mut host;
    assert!(caches.flush(LINE, &mut |t| traffic.push(t)));
    assert_eq!(host.traffic(), [Traffic::WriteBack(LINE)]);
}

#[test]
fn streams_are_brought_up_to_the_end_of_the_os_page() {
    let mut host = Host::new("1K/4@1,64K/4@2,shared:128K/4@5,prefetch:4x4", 1);
    host.load(60);
    assert!(host.traffic().is_empty());
    host.load(61);
    assert_eq!(host.traffic(), [62, 63].map(|l| Traffic::Prefetch(l * LINE)));
    assert_eq!((host.load(62), host.load(62), host.load(63)), {
        (Lookup::Prefetched(2), Lookup::Hit(1), Lookup::Prefetched(2))
    });
    assert_eq!(host.load(64), Lookup::Miss, "another OS page");
    // Downwards.
    for line in [104, 103] {
        host.load(line);
    }
    assert_eq!(host.traffic(), [102, 101, 100, 99].map(|l| Traffic::Prefetch(l * LINE)));
    host.load(102);
    assert_eq!(host.traffic(), [Traffic::Prefetch(98 * LINE)]);
    assert_eq!(host.caches.counts(CORE).prefetched, 7);
}

#[test]
fn the_first_use_of_a_line_is_told_also_where_it_is_the_last_that_was_brought() {
    // With one level, the prefetcher fills it, and its last line is the most recent of its set.
    let mut host = Host::new("4K/4@1,prefetch:4x4", 1);
    assert_eq!((host.load(8), host.load(9)), (Lookup::Miss, Lookup::Miss));
    assert_eq!((host.load(13), host.load(13)), (Lookup::Prefetched(1), Lookup::Hit(1)));
}

#[test]
fn no_stream_no_prefetch() {
    let mut host = Host::new("1K/4@1,64K/4@2,prefetch:4x4", 1);
    for line in [1, 3, 7, 20, 2, 40] {
        host.load(line);
    }
    assert!(host.traffic().is_empty());
}

#[test]
fn what_cannot_be_built_is_refused_with_a_reason() {
    for (text, reason) in [
        ("", "is no level"),
        ("32K", "is no level"),
        ("32K/8", "is no level"),
        ("32K/0@1", "ways"),
        ("34K/17@1", "1 to 16"),
        ("100/1@1", "multiple"),
        ("0/1@1", "multiple"),
        ("32K/8@-1", "latency"),
        ("32K/8@NaN", "latency"),
        ("shared:32K/8@1", "level of its own"),
        ("32K/8@1,shared:1M/8@1,shared:2M/8@1", "one shared level"),
        ("32K/8@1,shared:1M/8@1,2M/8@1", "before the shared"),
        ("32K/8@1,32K/8@1,32K/8@1,32K/8@1,32K/8@1", "4 levels at most"),
        ("32K/8@1,prefetch:0x4", "streams"),
        ("32K/8@1,prefetch:4x64", "lines ahead"),
        ("32K/8@1,prefetch:4", "no prefetcher"),
        ("99999999999999G/8@1", "is no level"),
        ("64G/8@1", "16G at most"),
    ] {
        let error = CacheConfig::parse(text).expect_err(text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn the_text_form_says_all() {
    let mut config = CacheConfig { prefetch: Some(super::Prefetch::default()), ..CacheConfig::default() };
    assert_eq!(CacheConfig::parse(&config.to_string()), Ok(config.clone()));
    config.shared = None;
    assert_eq!(CacheConfig::parse(&config.to_string()), Ok(config));
}

#[test]
fn a_line_is_never_found_in_an_empty_way() {
    // All bits set are what empty ways have for a tag: sixteen of them behind the first level, 24 in it.
    for line in [0xffff, 0xff_ffff, 0x1_ffff, u64::MAX / LINE] {
        let mut host = Host::new("64/1@1,128/2@2,shared:256/4@5", 1);
        assert_eq!((host.load(line), host.load(line)), (Lookup::Miss, Lookup::Hit(1)), "{line:x}");
        host.store(1);
        assert_eq!((host.load(line), host.load(1)), (Lookup::Hit(2), Lookup::Hit(2)), "{line:x}");
        host.caches.flush(line * LINE, &mut |_| {});
        assert_eq!((host.load(line), host.load(line)), (Lookup::Miss, Lookup::Hit(1)), "{line:x}");
        let Host { caches, traffic } = &mut host;
        caches.flush_all(&mut |t| traffic.push(t));
        assert_eq!(host.traffic(), [Traffic::WriteBack(LINE)], "{line:x}");
        assert_eq!((host.load(line), host.load(1)), (Lookup::Miss, Lookup::Miss), "{line:x}");
    }
}

#[test]
fn lines_are_told_apart_when_the_first_far_one_comes() {
    let mut host = Host::new("128/2@1,256/4@2,shared:512/8@5", 1);
    // The same near bits behind the first level, then in all of them.
    for line in [5, 5 | 1 << 16, 5 | 1 << 24] {
        assert_eq!((host.load(line), host.load(line)), (Lookup::Miss, Lookup::Hit(1)), "{line:x}");
    }
    assert_eq!((host.load(5), host.load(5 | 1 << 16)), (Lookup::Hit(2), Lookup::Hit(2)));
}

/// Shapes whose sets, ways and levels differ, each so small that lines make way all the time. The last four are usual ones (see
/// [`super::near`]).
const SHAPES: [&str; 12] = [
    "512/2@1,1536/4@2,shared:3K/3@5",
    "768/12@1,shared:2K/16@5,prefetch:2x4",
    "256/2@1,1K/4@2,shared:2K/8@5,prefetch:4x8",
    "512/4@1",
    "384/2@1,640/5@2,prefetch:3x2",
    "128/1@1,256/2@2,512/4@3,shared:1K/1@5",
    "64/1@1,192/1@2,448/7@3,prefetch:1x63",
    "1K/4@1,2K/8@2",
    "1K/16@1,2K/16@2,shared:4K/16@5",
    "256/2@1,1K/4@2,shared:2K/8@5",
    "768/12@1,512/8@2,shared:4K/16@5",
    "512/1@1,256/2@2,shared:1K/2@5",
];

#[derive(Clone, Copy, Debug)]
enum Step {
    /// By a core, of a line, a store or a load.
    Access(usize, u64, bool),
    Flush(u64),
    Clean(u64),
    FlushAll,
    /// Up to four cores.
    AddCore,
}

/// Lines near each other, and some whose numbers differ only in one part of a tag: far above a set's own bits, so that
/// each of them is the only one that tells the two apart.
fn line() -> impl proptest::strategy::Strategy<Value = u64> {
    let far = proptest::sample::select(vec![0, 0, 0, 0, 1 << 12, 1 << 17, 1 << 22, 1 << 26, 1 << 33, 1 << 40, 1 << 57]);
    proptest::strategy::Strategy::prop_map((0..90_u64, far), |(near, far)| near | far)
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::strategy::Strategy;
    proptest::prop_oneof![
        60 => (0..4_usize, line(), proptest::bool::weighted(0.3)).prop_map(|(c, l, s)| Step::Access(c, l, s)),
        10 => (0..4_usize, 0..20_u64).prop_map(|(c, l)| Step::Access(c, l, false)),
        2 => line().prop_map(Step::Flush),
        2 => line().prop_map(Step::Clean),
        1 => proptest::strategy::Just(Step::FlushAll),
        1 => proptest::strategy::Just(Step::AddCore),
    ]
}

proptest::proptest! {
    /// Whatever several cores do, the plain caches of [`super::reference`] say the same of it.
    #[test]
    fn it_does_what_the_plain_caches_do(
        shape in 0..SHAPES.len(),
        cores in 1..4_usize,
        // Without far lines the caches take the shorter way, with some they leave it at the first.
        far in proptest::bool::ANY,
        steps in proptest::collection::vec(step(), 1..1500),
    ) {
        let config = CacheConfig::parse(SHAPES[shape]).unwrap();
        let mut host = Host::new(SHAPES[shape], cores as u32);
        let mut plain = Plain::new(&config, cores);
        let near_lines = host.caches.near_lines.max(1 << 16);
        let mut cores = cores;
        for step in steps {
            match step {
                Step::Access(core, line, store) => {
                    let core = core % cores;
                    let line = if far { line } else { line % near_lines };
                    let found = host.on(CoreIndex(core as u32), line, store);
                    proptest::prop_assert_eq!(found, plain.access(core, line * LINE, store));
                }
                Step::Flush(line) => {
                    let Host { caches, traffic } = &mut host;
                    let was_dirty = caches.flush(line * LINE, &mut |t| traffic.push(t));
                    proptest::prop_assert_eq!(was_dirty, plain.flush(line * LINE));
                }
                Step::Clean(line) => {
                    let Host { caches, traffic } = &mut host;
                    let was_dirty = caches.clean(line * LINE, &mut |t| traffic.push(t));
                    proptest::prop_assert_eq!(was_dirty, plain.clean(line * LINE));
                }
                Step::FlushAll => {
                    let Host { caches, traffic } = &mut host;
                    caches.flush_all(&mut |t| traffic.push(t));
                    plain.flush_all();
                }
                Step::AddCore if cores < 4 => {
                    proptest::prop_assert_eq!(host.caches.add_core(), CoreIndex(cores as u32));
                    plain.add_core(&config);
                    cores += 1;
                }
                Step::AddCore => {}
            }
            proptest::prop_assert_eq!(host.traffic(), std::mem::take(&mut plain.traffic));
        }
        for core in 0..cores {
            proptest::prop_assert_eq!(host.caches.counts(CoreIndex(core as u32)), plain.counts(core));
        }
    }

    /// Whatever two cores do: every store reaches memory after it was made, and nothing else does.
    #[test]
    fn no_store_is_lost_between_cores(
        accesses in proptest::collection::vec((0..2_u32, 0..40_u64, proptest::bool::ANY), 1..600),
    ) {
        let mut host = Host::new("256/2@1,512/2@2,shared:1K/4@5", 2);
        let mut waiting = std::collections::BTreeSet::new();
        let mut stored = std::collections::BTreeSet::new();
        for (core, line, store) in accesses {
            host.on(CoreIndex(core), line, store);
            for written in host.traffic() {
                proptest::prop_assert!(stored.contains(&written));
                waiting.remove(&written);
            }
            if store {
                stored.insert(Traffic::WriteBack(line * LINE));
                waiting.insert(Traffic::WriteBack(line * LINE));
            }
        }
        let Host { caches, traffic } = &mut host;
        caches.flush_all(&mut |t| traffic.push(t));
        for written in host.traffic() {
            proptest::prop_assert!(stored.contains(&written));
            waiting.remove(&written);
        }
        proptest::prop_assert!(waiting.is_empty(), "lost: {waiting:?}");
    }
}
