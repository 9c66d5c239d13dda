//! Stores against a slow one, and times that can be counted by hand.

use proptest::prelude::*;

use super::*;
use crate::model::{Direction, Request, System};
use crate::random::Random;
use crate::trace::{Access, Completeness, Provenance, StreamId, Strictness, Writer};

const FAST: TierIndex = TierIndex(0);
const SLOW: TierIndex = TierIndex(1);
const FAST_PS: u64 = 100_000;
const SLOW_PS: u64 = 250_000;

/// Memory that always takes its tier's latency, and notes what it was asked.
#[derive(Clone, Default)]
struct Fixed(Vec<(u64, Request)>);

impl Serve for &mut Fixed {
    fn serve(&mut self, at: Time, request: Request) -> Time {
        self.0.push((at.0, request));
        Time(at.0 + if request.tier == FAST { FAST_PS } else { SLOW_PS })
    }
}

fn config(capacities: [u64; 2]) -> Config {
    let shelf = |(tier, capacity)| Shelf { tier, capacity };
    Config {
        chain: [FAST, SLOW].into_iter().zip(capacities).map(shelf).collect(),
        host: HostIndex(0),
        pace: Pace::Recorded(1.0),
        promote: true,
        on_miss: OnMiss::Fill,
        miss: Time::ZERO,
        value_bytes: None,
        prefixes: false,
    }
}

fn operation(at: u64, action: KeyAction, key: u64) -> KeyOperation {
    KeyOperation { at, action, key, size: 100, tenant: 0, request: 0 }
}

fn get(at: u64, key: u64) -> KeyOperation {
    operation(at, KeyAction::Get, key)
}

fn trace(operations: &[KeyOperation]) -> Trace<&'static [u8]> {
    let from = Provenance { clock: Clock::RealNs, common_clock: true, ..Provenance::default() };
    written(&from, operations.iter().copied().map(Event::Key))
}

fn written(from: &Provenance, events: impl Iterator<Item = Event>) -> Trace<&'static [u8]> {
    let mut writer = Writer::new(Vec::new(), from).unwrap();
    events.for_each(|event| writer.event(StreamId(0), &event).unwrap());
    Trace::new(&*writer.finish().unwrap().leak(), Strictness::Strict).unwrap()
}

fn run(operations: &[KeyOperation], config: &Config) -> (Report, Vec<(u64, Request)>) {
    let mut memory = Fixed::default();
    let report = replay(&trace(operations), &mut memory, config).unwrap();
    (report, memory.0)
}

#[test]
fn values_move_down_and_up_and_out() {
    // Two values on each tier. 1 and 2 come in; 3 and 4 push them down; 5 pushes 3 down and 1 out; 2 comes up again.
    let operations: Vec<_> = [1, 2, 3, 4, 5, 2, 4, 1].iter().zip(0..).map(|(&key, n)| get(n * 1000, key)).collect();
    let (report, _) = run(&operations, &config([200, 200]));
    // Of the last three, 2 is found on the slow tier (and pushes 4 down), 4 too, and 1 is gone.
    assert_eq!((report.gets, report.misses, report.first), (8, 6, 5));
    assert_eq!([report.shelves[0].hits, report.shelves[1].hits], [0, 2]);
    assert_eq!([report.shelves[0].promoted, report.shelves[1].promoted], [2, 0]);
    // 1, 2, 3; 4 and 5 for those that come up; the last miss moves one more.
    assert_eq!([report.shelves[0].demoted, report.shelves[1].demoted], [0, 6]);
    assert_eq!((report.dropped, report.left), (2, 4));
    assert_eq!([report.shelves[0].bytes_max, report.shelves[1].bytes_max], [200, 200]);
    assert_eq!(report.shelves[1].latency.max, Time(SLOW_PS));
    // Six came in, two went up.
    assert_eq!(report.shelves[0].bytes_written, 800);
    assert_eq!(report.shelves[1].bytes_read, 400);
}

#[test]
fn without_promotion_values_stay_down() {
    let operations: Vec<_> = [1, 2, 3, 1, 1].iter().zip(0..).map(|(&key, n)| get(n * 1000, key)).collect();
    let (report, _) = run(&operations, &Config { promote: false, ..config([200, 200]) });
    assert_eq!([report.shelves[0].hits, report.shelves[1].hits], [0, 2]);
    let (report, _) = run(&operations, &config([200, 200]));
    assert_eq!([report.shelves[0].hits, report.shelves[1].hits], [1, 1]);
}

#[test]
fn copies_begin_when_their_cause_is_done() {
    let mut put = operation(0, KeyAction::Put, 1);
    put.size = PIECE + 5;
    let (report, served) = run(&[put, get(1000, 1)], &config([4 * PIECE, PIECE]));
    assert_eq!((report.put.max, report.get.max), (Time(FAST_PS), Time(FAST_PS)));
    let lens: Vec<_> = served.iter().map(|(at, r)| (*at, r.direction, r.offset, r.len)).collect();
    let [whole, rest] = [(0, 1 << 20), (PIECE, 5)];
    assert_eq!(
        lens,
        [
            (0, Direction::Write, whole.0, whole.1),
            (0, Direction::Write, rest.0, rest.1),
            (1_000_000, Direction::Read, whole.0, whole.1),
            (1_000_000, Direction::Read, rest.0, rest.1),
        ]
    );
    // A miss that takes a microsecond, with the value that it displaces: read when the miss is over, written when read.
    let config = Config { miss: Time::from_ns(1000.0), ..config([100, 100]) };
    let (report, served) = run(&[get(0, 1), get(5000, 2)], &config);
    assert_eq!((report.get.max, report.end), (Time(1_000_000), Time(6_000_000)));
    let times: Vec<_> = served.iter().map(|(at, r)| (*at, r.tier, r.direction)).collect();
    assert_eq!(
        times,
        [
            (1_000_000, FAST, Direction::Write),
            (6_000_000, FAST, Direction::Write),
            (6_000_000, FAST, Direction::Read),
            (6_000_000 + FAST_PS, SLOW, Direction::Write),
        ]
    );
}

#[test]
fn clients_do_one_operation_after_another() {
    let operations: Vec<_> =
        (0..100).map(|n| if n == 0 { operation(0, KeyAction::Put, 7) } else { get(0, 7) }).collect();
    for clients in [1, 4, 10] {
        let (report, served) = run(&operations, &Config { pace: Pace::Clients(clients), ..config([1000, 1000]) });
        assert_eq!(report.end, Time(100 * FAST_PS / u64::from(clients)));
        assert!(served.is_sorted_by_key(|(at, _)| *at));
    }
}

#[test]
fn behind_a_miss_a_prefix_is_of_no_use() {
    let blocks = |at, request, keys: &[u64]| -> Vec<_> {
        keys.iter().map(|&key| KeyOperation { request, ..get(at, key) }).collect()
    };
    let operations =
        [blocks(0, 1, &[1, 2]), blocks(1000, 2, &[1, 2, 3]), blocks(2000, 3, &[9, 2, 3]), blocks(3000, 4, &[1, 2, 3])];
    let prefixes = Config { prefixes: true, ..config([1000, 1000]) };
    let (report, _) = run(&operations.concat(), &prefixes);
    // 1 and 2; 3; 9 and then 2 and 3, which are there; nothing.
    assert_eq!((report.misses, report.behind, report.first), (2 + 1 + 3, 2, 4));
    assert_eq!(report.request.count, 4);
    let (report, _) = run(&operations.concat(), &config([1000, 1000]));
    assert_eq!((report.misses, report.behind), (4, 0));
}

#[test]
fn a_tier_that_cannot_keep_up_shows_in_the_latencies() {
    // 64 KiB each microsecond are 65 GB/s, more than an expander gives; each ten microseconds are a sixth of that.
    let topology = tiermem_topology::Topology::shipped("one-expander").unwrap();
    let system = System::new(&topology).unwrap();
    let tier = system.tier("cxl0").unwrap();
    let chain = vec![Shelf { tier, capacity: 1 << 30 }];
    let config = Config { chain, value_bytes: Some(1 << 16), ..config([1, 1]) };
    let at = |every: u64| -> Report {
        let gets = (0..2000).map(|n| KeyOperation { size: 0, ..get(n * every, n % 16) });
        replay(&trace(&gets.collect::<Vec<_>>()), system.clone(), &config).unwrap()
    };
    let (fast, slow) = (at(1000), at(10_000));
    assert!(fast.get.p50.0 > 20 * slow.get.p50.0, "{:?} {:?}", fast.get, slow.get);
    assert_eq!(fast, at(1000), "the same each time");
}

/// Zipf gets on a least-recently-used store: Che, Tung and Wang, "Hierarchical Web Caching Systems" (IEEE JSAC 2002): a
/// key is there if it was asked for within the characteristic time T, which solves Σ (1 − exp(−p T)) = capacity.
#[test]
fn hits_are_those_of_ches_approximation() {
    const KEYS: usize = 2000;
    let weights: Vec<f64> = (1..=KEYS).map(|rank| (rank as f64).powf(-0.9)).collect();
    let sum: f64 = weights.iter().sum();
    let expected = |capacity: f64| {
        let filled = |t: f64| weights.iter().map(|w| 1.0 - (-w / sum * t).exp()).sum::<f64>();
        let (mut low, mut high) = (0.0, 1e9);
        for _ in 0..200 {
            let middle = f64::midpoint(low, high);
            if filled(middle) < capacity { low = middle } else { high = middle }
        }
        weights.iter().map(|w| w / sum * (1.0 - (-w / sum * low).exp())).sum::<f64>()
    };
    let mut random = Random::new(7);
    let gets: Vec<_> = (0..200_000)
        .map(|n| {
            let mut left = random.fraction() * sum;
            let key = weights.iter().position(|w| {
                left -= w;
                left < 0.0
            });
            get(n, key.unwrap_or(0) as u64)
        })
        .collect();
    for (first, second) in [(100_u64, 400_u64), (500, 1000)] {
        let (report, _) = run(&gets, &config([first * 100, second * 100]));
        let share = |hits: u64| hits as f64 / report.gets as f64;
        let [on_first, on_both] = [first, first + second].map(|values| expected(values as f64));
        assert!((share(report.shelves[0].hits) - on_first).abs() < 0.01, "{on_first} {report:?}");
        assert!((share(report.gets - report.misses) - on_both).abs() < 0.01, "{on_both} {report:?}");
    }
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let refused = |operations: &[KeyOperation], config: &Config| {
        replay(&trace(operations), &mut Fixed::default(), config).unwrap_err().to_string()
    };
    let good = config([1000, 1000]);
    assert!(refused(&[], &good).contains("no operations on keys"));
    assert!(refused(&[get(0, 1), KeyOperation { size: 0, ..get(0, 2) }], &good).contains("operation 2 does not tell"));
    for bad in [
        Config { chain: Vec::new(), ..good.clone() },
        Config { chain: vec![good.chain[0]; 2], ..good.clone() },
        Config { pace: Pace::Clients(0), ..good.clone() },
        Config { pace: Pace::Recorded(f64::NAN), ..good.clone() },
        config([0, 1]),
    ] {
        assert!(matches!(replay(&trace(&[get(0, 1)]), &mut Fixed::default(), &bad), Err(KeyedError::Config(_))));
    }
    let untimed = written(&Provenance::default(), [Event::Key(get(0, 1))].into_iter());
    let told = replay(&untimed, &mut Fixed::default(), &good).unwrap_err();
    assert!(told.to_string().contains("--clients"), "{told}");
    let clients = Config { pace: Pace::Clients(1), ..good.clone() };
    assert_eq!(replay(&untimed, &mut Fixed::default(), &clients).unwrap().gets, 1);
    // Others are left out and counted; a value that fits nowhere is not kept.
    let from =
        Provenance { clock: Clock::RealNs, common_clock: true, accesses: Completeness::Exact, ..Provenance::default() };
    let mixed = written(&from, [Event::Key(get(0, 1)), Event::Access(Access::default())].into_iter());
    assert!(is_keyed(&mixed).unwrap());
    let report = replay(&mixed, &mut Fixed::default(), &config([10, 50])).unwrap();
    assert_eq!((report.others, report.too_large, report.left), (1, 1, 0));
}

/// The tiers as plain lists, newest first.
#[derive(Default)]
struct Slow {
    shelves: Vec<(u64, Vec<(u64, u64)>)>,
}

impl Slow {
    fn put_on(&mut self, shelf: usize, value: (u64, u64)) {
        let Some(shelf) = (shelf..self.shelves.len()).find(|&at| value.1 <= self.shelves[at].0) else { return };
        self.shelves[shelf].1.insert(0, value);
        while self.shelves[shelf].1.iter().map(|value| value.1).sum::<u64>() > self.shelves[shelf].0 {
            let oldest = self.shelves[shelf].1.pop().unwrap();
            self.put_on(shelf + 1, oldest);
        }
    }

    fn take(&mut self, key: u64) -> Option<(usize, (u64, u64))> {
        self.shelves.iter_mut().enumerate().find_map(|(shelf, (_, values))| {
            let at = values.iter().position(|value| value.0 == key)?;
            Some((shelf, values.remove(at)))
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_store_does_what_a_slow_one_does(
        capacities in prop::collection::vec(1_u64..40, 1..4),
        operations in prop::collection::vec((0_u8..3, 0_u64..12, 1_u64..30), 1..200),
        promote in any::<bool>(),
    ) {
        let mut store = Store::new(capacities.iter().copied());
        let mut slow = Slow { shelves: capacities.iter().map(|&capacity| (capacity, Vec::new())).collect() };
        for (what, key, size) in operations {
            let mut changes = Vec::new();
            match what {
                0 => {
                    store.touch(key, promote, &mut changes);
                    if let Some((shelf, value)) = slow.take(key) {
                        slow.put_on(if promote { 0 } else { shelf }, value);
                    }
                }
                1 => {
                    store.remove(key);
                    store.insert(key, size, &mut changes);
                    slow.take(key);
                    slow.put_on(0, (key, size));
                }
                _ => {
                    store.remove(key);
                    slow.take(key);
                }
            }
            for (shelf, (capacity, values)) in slow.shelves.iter().enumerate() {
                let used: u64 = values.iter().map(|value| value.1).sum();
                prop_assert!(used <= *capacity);
                prop_assert_eq!(store.used().nth(shelf), Some(used));
                for &(key, size) in values {
                    let found = store.find(key).map(|found| (found.shelf, found.size));
                    prop_assert_eq!(found, Some((shelf, size)));
                }
            }
            prop_assert_eq!(store.len(), slow.shelves.iter().map(|(_, values)| values.len()).sum::<usize>());
        }
    }
}
