//! The example is a policy; what a policy shows is the policy; and no text, however mangled, breaks the parser.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tiermem_placement::{EXAMPLE, Policy, Strategy as Placing, TierIndex, Weights};

#[path = "../../fuzz/bodies/policy.rs"]
mod body;

const SEEDS: [&str; 4] = [
    EXAMPLE,
    include_str!("../../fuzz/seeds/policy/interleave.toml"),
    include_str!("../../fuzz/seeds/policy/bandwidth.toml"),
    include_str!("../../fuzz/seeds/policy/faulty.toml"),
];

#[test]
fn the_example_says_what_its_comments_say() {
    let policy = Policy::parse(EXAMPLE, "example.toml").unwrap_or_else(|error| panic!("{error}"));
    let [dram, slow] = policy.tiers() else { panic!("{policy}") };
    assert_eq!((dram.name(), dram.source(), dram.limit()), ("dram", None, Some(64 << 20)));
    assert_eq!((slow.name(), slow.source(), slow.limit()), ("slow", Some("dax-file:/dev/shm/slow,size=4G"), None));
    assert_eq!(policy.strategy(), Placing::Fill);
    assert_eq!(policy.chain(), [TierIndex(0), TierIndex(1)]);
    assert_eq!(policy.rules().len(), 3);
    assert_eq!(policy.site_rules().rules().len(), 2);
    assert_eq!(policy.decay_ms(), 1000);
    let plan = policy.compile();
    assert_eq!((plan.size_rule((1 << 20) - 1), plan.size_rule(1 << 20)), (None, Some(TierIndex(1))));
    assert!(plan.has_site_rules() && plan.tier_count() == 2 && plan.decay_ms() == 1000);
    assert_eq!(
        (plan.limit(TierIndex(0)), plan.limit(TierIndex(1)), plan.limit(TierIndex(9))),
        (Some(64 << 20), None, None)
    );
}

/// A size class is under a rule exactly if one of its sizes is.
#[test]
fn overlaps_are_those_of_the_single_sizes() {
    let text = "version = 1\n[[rule]]\nsize = '5..8'\ntier = 'dram'\n[[rule]]\nsize = '= 12'\ntier = 'dram'\n";
    let plan = Policy::parse(text, "rules").unwrap().compile();
    for first in 0..16 {
        for last in first..16 {
            let expected = (first..=last).any(|size| plan.size_rule(size).is_some());
            assert_eq!(plan.size_rule_overlaps(first, last), expected, "{first} to {last}");
        }
    }
}

#[test]
fn every_key_is_in_the_example() {
    let keys = ["limit", "watermark", "source", "bandwidth", "strategy", "chain", "weights", "spill", "size"];
    for key in keys.into_iter().chain(["symbol", "module", "depth", "tier", "decay_ms", "version"]) {
        assert!(EXAMPLE.contains(&format!("{key} =")), "{key}");
    }
}

#[test]
fn policies_survive_being_shown() {
    for seed in &SEEDS[..3] {
        let policy = Policy::parse(seed, "seed").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(Policy::parse(&policy.to_toml(), "shown").as_ref(), Ok(&policy), "{policy}");
    }
    assert_eq!(Policy::parse(&Policy::default().to_toml(), "shown"), Ok(Policy::default()));
    let made = Policy::with_tiers(["slow=dax-file:/a \"b\"\\c,size=4G", "far=nvme:/é"]).unwrap();
    assert_eq!(Policy::parse(&made.to_toml(), "shown"), Ok(made));
}

#[test]
fn bandwidths_become_weights() {
    let mut policy = Policy::parse(SEEDS[2], "seed").unwrap();
    assert_eq!(policy.weights(), Some(&Weights::Bandwidth));
    let missing = |policy: &Policy| policy.bandwidths_missing().map(|tier| tier.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(missing(&policy), ["dram", "slow"]);
    let bandwidth = |text| tiermem_placement::Bandwidth::parse(text).unwrap();
    assert!(policy.set_bandwidth("dram", bandwidth("30 GB/s")) && policy.set_bandwidth("slow", bandwidth("10 GB/s")));
    assert!(!policy.set_bandwidth("slow", bandwidth("99 GB/s")), "what is known stays");
    assert_eq!(missing(&policy), [""; 0]);
    let plan = policy.compile();
    let mut loads = [tiermem_placement::TierLoad::default(); tiermem_placement::TIERS_MAX];
    for _ in 0..400 {
        let tier = plan.choose(&tiermem_placement::Request::new(1, 2), &loads).preferred().unwrap();
        loads[tier.index()].committed += 2;
    }
    assert_eq!((loads[0].committed, loads[1].committed), (600, 200));
}

/// A change to a text: where, how, and what to put there.
#[derive(Clone, Debug)]
enum Edit {
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, String),
    Byte(prop::sample::Index, u8),
    DoubleLine(prop::sample::Index),
    Truncate(prop::sample::Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let words =
        vec!["[", "]", "{", "}", "=", "'", "\"", ",", "\n", "..", "-1", "0", "\u{0}", "é", "dram", "slow", "x", "."];
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), 1usize..12).prop_map(|(at, len)| Edit::Remove(at, len)),
        (at(), prop::sample::select(words)).prop_map(|(at, word)| Edit::Insert(at, word.to_owned())),
        (at(), any::<String>()).prop_map(|(at, text)| Edit::Insert(at, text)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
        at().prop_map(Edit::DoubleLine),
        at().prop_map(Edit::Truncate),
    ]
}

fn mangle(text: &str, edits: &[Edit]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for edit in edits {
        bytes.push(b'\n');
        match edit {
            Edit::Remove(at, len) => {
                let start = at.index(bytes.len());
                bytes.drain(start..(start + len).min(bytes.len()));
            }
            Edit::Insert(at, text) => {
                let start = at.index(bytes.len());
                bytes.splice(start..start, text.bytes());
            }
            Edit::Byte(at, byte) => {
                let start = at.index(bytes.len());
                bytes[start] = *byte;
            }
            Edit::DoubleLine(at) => {
                let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
                let line = lines[at.index(lines.len())].to_vec();
                bytes.extend(line);
            }
            Edit::Truncate(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
    bytes
}

fn mangled() -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(SEEDS.to_vec()), prop::collection::vec(edit(), 0..6))
        .prop_map(|(text, edits)| mangle(text, &edits))
}

proptest! {
    #![proptest_config(Config { cases: 3000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        body::check_policy(&bytes);
    }

    #[test]
    fn any_text(text in any::<String>()) {
        body::check_policy(text.as_bytes());
    }

    #[test]
    fn mangled_policies(bytes in mangled()) {
        body::check_policy(&bytes);
    }
}

/// The mangling is neither so mild that all stays valid, nor so wild that nothing gets past the TOML parser.
#[test]
fn mangled_policies_reach_every_stage() {
    let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let stages = std::cell::Cell::new([0; 3]);
    let done = runner.run(&mangled(), |bytes| {
        let stage = match Policy::parse_bytes(&bytes, "mangled") {
            Ok(_) => 2,
            Err(error) => usize::from(!error.to_string().contains("invalid TOML")),
        };
        let mut counts = stages.get();
        counts[stage] += 1;
        stages.set(counts);
        Ok(())
    });
    assert_eq!(done, Ok(()));
    assert!(
        stages.get().iter().all(|&count| count >= 100),
        "syntax errors, other complaints, policies: {:?}",
        stages.get()
    );
}
