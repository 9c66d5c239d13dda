//! [`Plan::choose`] against a model written straight from its documentation, and against its promises.
//!
//! Figures are small, so that cases on and beside every bound are common. The last test plants a bug for each promise
//! and expects that the comparison finds it.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tiermem_placement::{
    Plan, Policy, Reason, Request, SpillCause, Strategy as Placing, TIERS_MAX, Tier, TierIndex, TierLoad, Weights,
};

type Loads = [TierLoad; TIERS_MAX];

/// What the model answers.
#[derive(Debug, PartialEq)]
struct Answer {
    candidates: Vec<TierIndex>,
    origin: Reason,
    spilled_from: Option<TierIndex>,
    cause: Option<SpillCause>,
}

/// The model: lists and sorts, with the policy's own figures instead of the plan's.
struct Model<'a> {
    policy: &'a Policy,
    loads: &'a Loads,
    grow: u64,
}

impl Model<'_> {
    fn tier(&self, tier: TierIndex) -> &Tier {
        &self.policy.tiers()[tier.index()]
    }

    fn room(&self, tier: TierIndex) -> (u128, u128) {
        let load = self.loads[tier.index()];
        (u128::from(load.committed) + u128::from(self.grow), u128::from(load.capacity))
    }

    fn limit(&self, tier: TierIndex) -> u128 {
        self.tier(tier).limit().map_or(u128::MAX, u128::from)
    }

    fn refused(&self, tier: TierIndex) -> Option<SpillCause> {
        let (after, capacity) = self.room(tier);
        if !self.loads[tier.index()].available {
            Some(SpillCause::Unavailable)
        } else if after > self.limit(tier) || after > u128::from(u64::MAX) {
            Some(SpillCause::Limit)
        } else if after > capacity {
            Some(SpillCause::Full)
        } else {
            None
        }
    }

    /// Over the watermark: `after > watermark × min(limit, capacity)`, in whole numbers; the mark is printed as a decimal.
    fn over_watermark(&self, tier: TierIndex) -> bool {
        let (after, capacity) = self.room(tier);
        let ceiling = self.limit(tier).min(capacity);
        let watermark = self.tier(tier).watermark().to_string();
        let (whole, fraction) = watermark.split_once('.').expect("a decimal");
        let millionths: u128 = format!("{whole}{fraction:0<6}").parse().expect("digits");
        ceiling < u128::from(u64::MAX) && after * 1_000_000 > ceiling * millionths
    }

    fn weight(&self, tier: TierIndex) -> u128 {
        match self.policy.weights() {
            Some(Weights::Given(given)) => given.iter().find(|(of, _)| *of == tier).map_or(1, |w| u128::from(w.1)),
            _ => 1,
        }
    }

    /// The tier wanted and its successors.
    fn order(&self, request: &Request) -> (Reason, Vec<TierIndex>) {
        let known = |tier: &TierIndex| tier.index() < self.policy.tiers().len();
        let by_size = || {
            let mut rules =
                self.policy.rules().iter().filter(|rule| rule.symbol().is_none() && rule.module().is_none());
            let rule = rules.find(|rule| rule.size().is_some_and(|s| s.min <= request.size && request.size <= s.max));
            rule.map(|rule| rule.tier())
        };
        let chain = self.policy.chain().to_vec();
        if let Some(hint) = request.hint.filter(known) {
            (Reason::Hint, self.successors(hint))
        } else if let Some(site) = request.site.filter(known) {
            (Reason::SiteRule, self.successors(site))
        } else if let Some(tier) = by_size() {
            (Reason::SizeRule, self.successors(tier))
        } else if self.policy.strategy() == Placing::Fill {
            (Reason::Fill, chain)
        } else {
            let mut chain = chain;
            let held = |tier: TierIndex| u128::from(self.loads[tier.index()].committed);
            chain.sort_by(|&a, &b| (held(a) * self.weight(b)).cmp(&(held(b) * self.weight(a))));
            (Reason::Interleave, chain)
        }
    }

    fn successors(&self, from: TierIndex) -> Vec<TierIndex> {
        let mut order = vec![from];
        if self.policy.spill().is_empty() {
            let chain = self.policy.chain();
            let at = chain.iter().position(|&tier| tier == from);
            let rotated = chain.iter().cycle().skip(at.map_or(0, |at| at + 1)).take(chain.len());
            order.extend(rotated.filter(|&&tier| tier != from));
        } else {
            while let Some((_, next)) = self.policy.spill().iter().find(|(at, _)| Some(at) == order.last()) {
                order.push(*next);
            }
        }
        order
    }

    fn answer(&self, request: &Request) -> Answer {
        let (origin, order) = self.order(request);
        let (low, high): (Vec<_>, Vec<_>) =
            order.iter().filter(|&&tier| self.refused(tier).is_none()).partition(|&&tier| !self.over_watermark(tier));
        let candidates: Vec<TierIndex> = low.into_iter().chain(high).copied().collect();
        let spilled_from = (candidates.first() != order.first()).then(|| order[0]);
        let cause = spilled_from.map(|tier| self.refused(tier).unwrap_or(SpillCause::Watermark));
        Answer { candidates, origin, spilled_from, cause }
    }
}

fn answer(plan: &Plan, request: &Request, loads: &Loads) -> Answer {
    let choice = plan.choose(request, loads);
    let candidates = choice.iter().collect();
    let origin = choice.origin();
    let reason = if choice.spilled_from().is_some() { Reason::Fallback } else { origin };
    assert_eq!(choice.reason(), reason);
    assert_eq!(choice.preferred(), choice.iter().next());
    assert_eq!(choice, plan.choose(request, loads), "the same question, the same answer");
    Answer { candidates, origin, spilled_from: choice.spilled_from(), cause: choice.spill_cause() }
}

prop_compose! {
    /// The text of a policy with one to eight tiers, made of small figures.
    fn policy()(
        tiers in 1..=TIERS_MAX,
        limits in proptest::array::uniform8(prop::option::of(1u64..24)),
        watermarks in proptest::array::uniform8(prop::sample::select(vec!["1.0", "0.9", "0.5", "0.333333"])),
        weights in proptest::array::uniform8(1u32..5),
        rules in prop::collection::vec((0u64..40, 0u64..20, any::<prop::sample::Index>()), 0..4),
        shuffle in Just((0..TIERS_MAX).collect::<Vec<_>>()).prop_shuffle(),
        chain_len in any::<prop::sample::Index>(),
        (interleave, explicit_spill) in any::<(bool, bool)>(),
    ) -> Policy {
        let name = |tier: usize| if tier == 0 { "dram".to_owned() } else { format!("t{tier}") };
        let mut text = "version = 1\n".to_owned();
        for tier in 0..tiers {
            text += &format!("[tier.{}]\nsource = 'x'\nwatermark = {}\n", name(tier), watermarks[tier]);
            text += &limits[tier].map(|limit| format!("limit = {limit}\n")).unwrap_or_default();
        }
        let order: Vec<usize> = shuffle.into_iter().filter(|&tier| tier < tiers).collect();
        let chain: Vec<usize> = order[..=chain_len.index(tiers)].to_vec();
        let join = |of: &[usize], show: &dyn Fn(usize) -> String| of.iter().map(|&t| show(t)).collect::<Vec<_>>().join(", ");
        text += &format!("[placement]\nchain = [{}]\n", join(&chain, &|tier| format!("'{}'", name(tier))));
        text += &format!("weights = {{ {} }}\n", join(&chain, &|tier| format!("{} = {}", name(tier), weights[tier])));
        text += if interleave { "strategy = 'interleave'\n" } else { "strategy = 'fill'\n" };
        if explicit_spill {
            let next = |i: usize| format!("{} = '{}'", name(order[i]), name(order[(i + 2).min(tiers - 1)]));
            let all: Vec<usize> = (0..tiers.saturating_sub(1)).collect();
            text += &format!("spill = {{ {} }}\n", join(&all, &next));
        }
        let mut covered: Vec<(u64, u64)> = Vec::new();
        for (min, len, tier) in rules {
            let max = min + len;
            if covered.iter().all(|&(a, b)| min < a || max > b) {
                text += &format!("[[rule]]\nsize = '{min}..={max}'\ntier = '{}'\n", name(tier.index(tiers)));
                covered.push((min, max));
            }
        }
        Policy::parse(&text, "generated").unwrap_or_else(|error| panic!("{error}\n{text}"))
    }
}

prop_compose! {
    fn load()(
        committed in prop_oneof![8 => 0u64..26, 1 => Just(u64::MAX), 1 => any::<u64>()],
        capacity in prop_oneof![3 => 1u64..24, 2 => Just(u64::MAX), 1 => any::<u64>()],
        available in prop::bool::weighted(0.85),
    ) -> TierLoad {
        TierLoad { committed, capacity, available }
    }
}

prop_compose! {
    fn request()(
        size in prop_oneof![8 => 0u64..64, 1 => any::<u64>()],
        grow in prop_oneof![8 => 0u64..4, 1 => any::<u64>()],
        hint in prop::option::weighted(0.2, any::<u8>().prop_map(|i| TierIndex(i % 10))),
        site in prop::option::weighted(0.2, any::<u8>().prop_map(|i| TierIndex(i % 10))),
    ) -> Request {
        Request { size, grow, hint, site }
    }
}

fn question() -> impl Strategy<Value = (Policy, Request, Loads)> {
    (policy(), request(), proptest::array::uniform8(load()))
}

proptest! {
    #![proptest_config(Config { cases: 2000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_plan_answers_as_the_model((policy, request, loads) in question()) {
        let model = Model { policy: &policy, loads: &loads, grow: request.grow };
        let got = answer(&policy.compile(), &request, &loads);
        prop_assert_eq!(&got, &model.answer(&request));
        let mut once = got.candidates.clone();
        once.sort();
        once.dedup();
        prop_assert_eq!(once.len(), got.candidates.len(), "no candidate twice");
        for tier in got.candidates {
            prop_assert_eq!(model.refused(tier), None, "no candidate without room");
            prop_assert!(policy.compile().fits(tier, &loads, request.grow));
        }
    }

    /// A program that allocates, frees and loses tiers never gets a tier over its limit or capacity.
    #[test]
    fn limits_hold_at_every_step(
        policy in policy(),
        capacities in proptest::array::uniform8(prop_oneof![1u64..40, Just(u64::MAX)]),
        steps in prop::collection::vec((request(), any::<u8>(), any::<bool>()), 1..200),
    ) {
        let plan = policy.compile();
        let mut loads = capacities.map(|capacity| TierLoad { committed: 0, capacity, available: true });
        for (mut request, tier, shrink) in steps {
            let at = usize::from(tier) % TIERS_MAX;
            if shrink {
                loads[at].committed /= 2;
                loads[at].available = !tier.is_multiple_of(16);
                continue;
            }
            request.grow %= 8;
            if let Some(tier) = plan.choose(&request, &loads).preferred() {
                prop_assert!(loads[tier.index()].available);
                loads[tier.index()].committed += request.grow;
            }
            for (tier, load) in policy.tiers().iter().zip(&loads) {
                prop_assert!(load.committed <= tier.limit().unwrap_or(u64::MAX).min(load.capacity));
            }
        }
    }
}

proptest! {
    // Fewer cases, of thousands of steps each.
    #![proptest_config(Config { cases: 100, failure_persistence: None, ..Config::default() })]

    /// From any start, and with steps of any size up to `e`, a tier ends at most `e` above its share, and at most
    /// `e × (others) × weight / sum` below it: with two tiers, within one extent of the ideal.
    ///
    /// Why: a tier grows only when its `committed / weight` is the least, and the least never falls.
    #[test]
    fn interleave_keeps_the_weights(
        weights in prop::collection::vec(1u32..40, 2..=TIERS_MAX),
        start in proptest::array::uniform8(0u64..50),
        steps in prop::collection::vec(1u64..=4, 1..50),
    ) {
        let extent_max = 4;
        let plan = interleave(&weights).compile();
        let mut loads = start.map(|committed| TierLoad { committed, ..TierLoad::default() });
        // Long enough for every tier to have grown past the most lopsided start: then the start is forgotten.
        let weight_sum = u64::from(weights.iter().sum::<u32>());
        let enough = 50 * weight_sum + 400;
        for grow in steps.iter().cycle() {
            let tier = plan.choose(&Request::new(1, *grow), &loads).preferred().expect("no limits");
            loads[tier.index()].committed += grow;
            if loads[..weights.len()].iter().map(|load| load.committed).sum::<u64>() > enough {
                break;
            }
        }
        let total: u64 = loads[..weights.len()].iter().map(|load| load.committed).sum();
        for (load, &weight) in loads.iter().zip(&weights) {
            // Both sides times the sum of the weights, to stay in whole numbers.
            let (held, ideal) = (load.committed * weight_sum, total * u64::from(weight));
            let others = weights.len() as u64 - 1;
            prop_assert!(held <= ideal + extent_max * weight_sum, "{loads:?} {weights:?}");
            prop_assert!(held + extent_max * others * u64::from(weight) >= ideal, "{loads:?} {weights:?}");
        }
    }
}

fn interleave(weights: &[u32]) -> Policy {
    let name = |i: usize| if i == 0 { "dram".to_owned() } else { format!("t{i}") };
    let tiers: String = (1..weights.len()).map(|i| format!("[tier.t{i}]\nsource = 'x'\n")).collect();
    let weights: Vec<String> =
        weights.iter().enumerate().map(|(i, weight)| format!("{} = {weight}", name(i))).collect();
    let placement = format!("[placement]\nstrategy = 'interleave'\nweights = {{ {} }}\n", weights.join(", "));
    Policy::parse(&format!("version = 1\n{tiers}{placement}"), "generated").expect("a good policy")
}

/// An answer with one of the mistakes that [`the_plan_answers_as_the_model`] is there to find.
type Mistake = fn(&Model<'_>, &Request) -> Answer;

/// The answer to another question: `change` turns the right one into what a faulty plan would have looked at.
fn asked_wrongly(model: &Model<'_>, request: &Request, change: impl Fn(&mut Request, &mut Loads)) -> Answer {
    let (mut request, mut loads) = (*request, *model.loads);
    change(&mut request, &mut loads);
    answer(&model.policy.compile(), &request, &loads)
}

const MISTAKES: [(&str, Mistake); 7] = [
    ("watermark and limit off by one", |model, request| {
        asked_wrongly(model, request, |request, _| request.grow = request.grow.saturating_sub(1))
    }),
    ("growth not counted", |model, request| asked_wrongly(model, request, |request, _| request.grow = 0)),
    ("site rule before hint", |model, request| {
        asked_wrongly(model, request, |request, _| {
            if request.site.is_some_and(|site| site.index() < model.policy.tiers().len()) {
                request.hint = None;
            }
        })
    }),
    ("size of the block one too small", |model, request| {
        asked_wrongly(model, request, |request, _| request.size = request.size.saturating_sub(1))
    }),
    ("lost tiers used", |model, request| {
        asked_wrongly(model, request, |_, loads| loads.iter_mut().for_each(|load| load.available = true))
    }),
    ("watermark not kept", |model, request| {
        let mut right = model.answer(request);
        let order = model.order(request).1;
        right.candidates.sort_by_key(|tier| order.iter().position(|other| other == tier));
        right
    }),
    ("interleave without weights", |model, request| {
        let mut right = answer(&model.policy.compile(), request, model.loads);
        if right.origin == Reason::Interleave {
            right.candidates.sort_by_key(|tier| (model.over_watermark(*tier), model.loads[tier.index()].committed));
        }
        right
    }),
];

#[test]
fn planted_mistakes_are_found() {
    for (what, mistake) in MISTAKES {
        let config = Config { cases: 2000, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let result = runner.run(&question(), |(policy, request, loads)| {
            let model = Model { policy: &policy, loads: &loads, grow: request.grow };
            prop_assert_eq!(mistake(&model, &request), model.answer(&request));
            Ok(())
        });
        assert!(result.is_err(), "not found: {what}");
    }
}
