//! The table.

use std::time::{Duration, Instant};

use tiermem_emulator::coherence::{Detector, Explorer, FindingKind, Report, Strategy};

use crate::worked::{Case, cases};

/// Schedules that a bug has to be found in.
const SCHEDULES: u64 = 20_000;
const SEEDS: u64 = 9;
/// Of which the fastest counts.
const RUNS: u32 = 5;
const SYSTEMATIC: Strategy = Strategy::Systematic { deviations: 3 };
const RANDOM: Strategy = Strategy::Random { schedules: SCHEDULES };
const PCT: Strategy = Strategy::Pct { schedules: SCHEDULES, depth: 3 };

pub fn print() {
    let cases = cases();
    let (right, wrong): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| case.left_out.is_none());
    println!("Right: nothing may be found.\n");
    println!("| structure | strategy | schedules | thousands a second |\n|---|---|--:|--:|");
    for case in right {
        for strategy in [SYSTEMATIC, RANDOM, PCT] {
            survive(case, strategy);
        }
    }
    println!("\nA step left out: schedules until it is found, the median over {SEEDS} seeds; - if not in {SCHEDULES}.");
    println!("\"Unaided\" and \"coherent\" are random, too: without the detectors, and on memory that is coherent.\n");
    println!("| structure | left out | found as | deviations | systematic | random | pct | unaided | coherent |");
    println!("|---|---|---|--:|--:|--:|--:|--:|--:|");
    let began = Instant::now();
    let spent: Duration = wrong.iter().map(|case| find(case)).sum();
    println!(
        "\nAll {} in {:.1} s with systematic; the whole table took {:.0} s.",
        wrong.len(),
        spent.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
}

fn survive(case: &Case, strategy: Strategy) {
    let run = || {
        let began = Instant::now();
        let report = Explorer::new().strategies(&[strategy]).check(|scenario| case.build(scenario));
        report.assert_clean();
        (began.elapsed(), report.schedules())
    };
    // The fastest run is the one that was disturbed least.
    let Some((took, schedules)) = (0..RUNS).map(|_| run()).min() else { return };
    let speed = schedules as f64 / took.as_secs_f64() / 1000.0;
    println!("| {} | {} | {schedules} | {speed:.0} |", case.structure, name(strategy));
}

fn name(strategy: Strategy) -> String {
    match strategy {
        Strategy::Systematic { deviations } => format!("systematic, {deviations} deviations"),
        Strategy::Pct { depth, .. } => format!("pct, depth {depth}"),
        _ => "random".to_owned(),
    }
}

/// Prints the line of a bug; returns what it took to find it systematically.
fn find(case: &Case) -> Duration {
    let began = Instant::now();
    let systematic = Explorer::new().strategies(&[SYSTEMATIC]).check(|scenario| case.build(scenario));
    let took = began.elapsed();
    let random = seeds(case, RANDOM, &Explorer::new());
    let pct = seeds(case, PCT, &Explorer::new());
    let blind = Detector::ALL.iter().fold(Explorer::new(), |explorer, detector| explorer.without(*detector));
    let unaided = seeds(case, RANDOM, &blind);
    let coherent = seeds(case, RANDOM, &Explorer::new().hardware_coherent());
    let failures = random.iter().chain(&pct).chain([&systematic]).filter_map(|report| report.failure.as_ref());
    let mut kinds: Vec<FindingKind> = failures.clone().map(|failure| failure.finding.kind).collect();
    kinds.sort();
    kinds.dedup();
    assert!(kinds.iter().all(|kind| case.expected.contains(kind)), "found as {kinds:?}, not as {:?}", case.expected);
    let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    let deviations = failures.map(|failure| failure.schedule.len()).min();
    println!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        case.structure,
        case.left_out.as_deref().unwrap_or("nothing"),
        kinds.join(", "),
        deviations.map_or("-".to_owned(), |len| len.to_string()),
        median(&[systematic]),
        median(&random),
        median(&pct),
        median(&unaided),
        median(&coherent),
    );
    took
}

fn seeds(case: &Case, strategy: Strategy, explorer: &Explorer) -> Vec<Report> {
    let explorer = |seed| explorer.clone().strategies(&[strategy]).seed(seed);
    (0..SEEDS).map(|seed| explorer(seed).check(|scenario| case.build(scenario))).collect()
}

/// Of the schedules until something was found; a dash where most of the reports have nothing.
fn median(reports: &[Report]) -> String {
    let schedules = |report: &Report| report.failure.as_ref().map_or(u64::MAX, |failure| failure.schedules);
    let mut all: Vec<u64> = reports.iter().map(schedules).collect();
    all.sort_unstable();
    match all[all.len() / 2] {
        u64::MAX => "-".to_owned(),
        found => found.to_string(),
    }
}
