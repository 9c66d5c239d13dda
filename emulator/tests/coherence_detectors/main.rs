//! One small program for each kind of bug that the explorer knows, and the same program without it: the bug is found by
//! each strategy, called by its name, shrunk to a few deviations, and repeats from its seed and from the schedule as it
//! is printed; in the right program, nothing is found. Without its detector, the bug goes by another name or unnoticed.

use tiermem_emulator::coherence::{Architecture, Detector, Explorer, FindingKind, Host, Scenario, Schedule, Strategy};

mod crash;
mod lifetime;
mod reads;
mod remains;
mod writes;

/// Two lines without coherence and two with.
const X: u64 = 0;
const Y: u64 = 64;
const CX: u64 = 128;
const CY: u64 = 192;

const SYSTEMATIC: Strategy = Strategy::Systematic { deviations: 3 };
const STRATEGIES: [Strategy; 3] =
    [SYSTEMATIC, Strategy::Random { schedules: 5_000 }, Strategy::Pct { schedules: 5_000, depth: 3 }];

/// Whether a program is right, or has its bug.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Right,
    Wrong,
}
use Program::{Right, Wrong};

/// The bug of a scenario is found, and only that: with at most `most` deviations, once shrunk.
#[track_caller]
fn finds(detector: Detector, most: usize, scenario: impl Fn(&mut Scenario, Program)) {
    let wrong = |s: &mut Scenario| set_up(s, Wrong, &scenario);
    let right = |s: &mut Scenario| set_up(s, Right, &scenario);
    for strategy in STRATEGIES {
        let explorer = Explorer::new().strategies(&[strategy]);
        let report = explorer.check(wrong);
        let failure = report.assert_found(FindingKind::Detected(detector));
        assert!(failure.schedule.len() <= most, "not short: {failure}");

        let printed = failure.to_string();
        let schedule = printed.lines().find_map(|line| line.strip_prefix("schedule: ")).expect("a schedule is printed");
        let again = explorer.replay(&schedule.parse::<Schedule>().expect("it parses"), wrong);
        assert_eq!(again.failure.map(|failure| failure.finding), Some(failure.finding.clone()), "{printed}");

        let seed = printed.lines().find_map(|line| line.strip_prefix("seed:     "));
        assert_eq!(seed.is_some(), strategy != SYSTEMATIC, "{printed}");
        if let Some(seed) = seed {
            let again = explorer.replay_seed(seed.parse().expect("it parses"), wrong);
            again.assert_found(FindingKind::Detected(detector));
        }
        let blind = explorer.clone().without(detector).check(wrong);
        assert_ne!(blind.kind(), Some(FindingKind::Detected(detector)));

        for architecture in [Architecture::X86, Architecture::Weak] {
            let report = explorer.clone().architecture(architecture).check(right);
            report.assert_clean();
            assert!(report.passes[0].complete, "{report}");
        }
    }
}

fn set_up(s: &mut Scenario, program: Program, scenario: &impl Fn(&mut Scenario, Program)) {
    s.pool(256).coherent(CX..CY + 64);
    scenario(s, program);
}

fn write_back(host: &Host<'_>, offset: u64) {
    host.clean(offset..offset + 8);
    host.fence();
}

fn invalidate(host: &Host<'_>, offset: u64) {
    host.flush(offset..offset + 8);
    host.fence();
}

fn wait_for(host: &Host<'_>, offset: u64, value: u64) {
    while host.load_u64(offset) != value {
        host.pause();
    }
}
