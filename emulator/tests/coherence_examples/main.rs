//! The worked examples: nothing is found in the right ones, and each step of their protocols is needed: without it, each
//! strategy finds what breaks. The budget of the right ones is not smaller than that of the others.

#[path = "../../examples/coherence/worked/mod.rs"]
mod worked;

use tiermem_emulator::coherence::{Architecture, Explorer, Schedule, Strategy};
use worked::{Case, cases};

const SCHEDULES: u64 = 20_000;
const STRATEGIES: [Strategy; 3] = [
    Strategy::Systematic { deviations: 3 },
    Strategy::Random { schedules: SCHEDULES },
    Strategy::Pct { schedules: SCHEDULES, depth: 3 },
];

fn right(structure: &str) {
    let all = cases();
    let case = all.iter().find(|case| case.structure == structure && case.left_out.is_none()).expect("it is there");
    let explorer = Explorer::new().strategies(&STRATEGIES);
    let report = explorer.check(|scenario| case.build(scenario));
    report.assert_clean();
    assert!(report.passes.iter().all(|pass| pass.complete), "{report}");
    assert!(report.schedules() > 2 * SCHEDULES + 5_000, "{report}");
    let weak = explorer.architecture(Architecture::Weak).strategies(&STRATEGIES[1..]);
    weak.check(|scenario| case.build(scenario)).assert_clean();
}

/// All that can be left out is found, by each strategy.
fn wrong(structure: &str) {
    let all = cases();
    let wrong: Vec<&Case> = all.iter().filter(|case| case.structure == structure && case.left_out.is_some()).collect();
    assert!(wrong.len() >= 10, "{structure}: {}", wrong.len());
    for case in wrong {
        STRATEGIES.into_iter().for_each(|strategy| found(case, strategy));
    }
}

/// A step that is left out is found, as what it is; and again from the schedule and the seed, as they are printed.
fn found(case: &Case, strategy: Strategy) {
    let name = format!("{} without {}, {strategy}", case.structure, case.left_out.as_deref().unwrap_or_default());
    let explorer = Explorer::new().strategies(&[strategy]);
    let report = explorer.check(|scenario| case.build(scenario));
    let Some(failure) = &report.failure else { panic!("{name}: {report}") };
    assert!(case.expected.contains(&failure.finding.kind), "{name}: {failure}");
    // Two who change the list at once have to be switched many times to meet.
    let most = if case.left_out.as_deref() == Some("LockAtomically") { 9 } else { 4 };
    assert!(failure.schedule.len() <= most, "{name}: not short: {failure}");
    let schedule: Schedule = failure.schedule.to_string().parse().expect("it parses");
    let again = explorer.replay(&schedule, |scenario| case.build(scenario));
    assert_eq!(again.failure.map(|again| again.finding), Some(failure.finding.clone()), "{name}");
    if let Some(seed) = failure.seed {
        let seed = seed.to_string().parse().expect("it parses");
        let again = explorer.replay_seed(seed, |scenario| case.build(scenario));
        assert_eq!(again.kind(), report.kind(), "{name}");
    }
}

#[test]
fn the_ring_is_right() {
    right("ring");
}

#[test]
fn each_step_of_the_ring_is_needed() {
    wrong("ring");
}

#[test]
fn the_directory_is_right() {
    right("directory");
}

#[test]
fn each_step_of_the_directory_is_needed() {
    wrong("directory");
}

#[test]
fn the_free_list_is_right() {
    right("free-list");
}

#[test]
fn each_step_of_the_free_list_is_needed() {
    wrong("free-list");
}
