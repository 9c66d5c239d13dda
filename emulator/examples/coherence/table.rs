//! The table.

use std::time::Duration;

use tiermem_emulator::coherence::{Detector, Explorer, FindingKind, Report, Strategy};

use crate::worked::{Case, cases};

/// Schedules that a bug has to be found in.
const SCHEDULES: u64 = 10_000;
const SEEDS: u64 = 9;
const SYSTEMATIC: Strategy = Strategy::Systematic { deviations: 3 };
const RANDOM: Strategy = Strategy::Random { schedules: SCHEDULES };
const PCT: Strategy = Strategy::Pct { schedules: SCHEDULES, depth: 3 };

pub fn print() {
    let cases = cases();
    let (right, wrong): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| case.left_out.is_none());
    println!("Right: nothing may be found.\n");
    println!("| structure | strategy | schedules | thousands a second of processor time |\n|---|---|--:|--:|");
    for case in right {
        for strategy in [SYSTEMATIC, RANDOM, PCT] {
            survive(case, strategy);
        }
    }
    println!("\nA step left out: schedules until it is found, the median over {SEEDS} seeds; - if not in {SCHEDULES}.");
    println!("\"Unaided\" and \"coherent\" are random, too: without the detectors, and on memory that is coherent.\n");
    println!("| structure | left out | found as | deviations | systematic | random | pct | unaided | coherent |");
    println!("|---|---|---|--:|--:|--:|--:|--:|--:|");
    let mut spent = [Duration::ZERO; 3];
    for case in &wrong {
        spent.iter_mut().zip(find(case)).for_each(|(sum, part)| *sum += part);
    }
    let [systematic, random, pct] = spent.map(|time| time.as_secs_f64());
    println!("\nTo find and shrink all {} takes {systematic:.1} s of processor time with systematic,", wrong.len());
    println!("{random:.1} s with random and {pct:.1} s with pct, the latter two on average over the seeds.");
}

fn survive(case: &Case, strategy: Strategy) {
    let explorer = Explorer::new().strategies(&[strategy]);
    let (report, took) = timed(|| explorer.check(|scenario| case.build(scenario)));
    report.assert_clean();
    let schedules = report.schedules();
    let speed = schedules as f64 / took.as_secs_f64() / 1000.0;
    println!("| {} | {} | {schedules} | {speed:.0} |", case.structure, name(strategy));
}

/// What this thread has had of a processor: others that use the machine do not count.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.expect("/proc/thread-self/schedstat begins with nanoseconds"))
}

/// How long something takes.
fn timed<R>(act: impl FnOnce() -> R) -> (R, Duration) {
    let began = processor_time();
    (act(), processor_time() - began)
}

fn name(strategy: Strategy) -> String {
    match strategy {
        Strategy::Systematic { deviations } => format!("systematic, {deviations} deviations"),
        Strategy::Pct { depth, .. } => format!("pct, depth {depth}"),
        _ => "random".to_owned(),
    }
}

/// Prints the line of a bug; returns how long each of the three strategies took, on average.
fn find(case: &Case) -> [Duration; 3] {
    let default = Explorer::new();
    let all = default.clone().strategies(&[SYSTEMATIC]);
    let (systematic, systematic_took) = timed(|| all.check(|scenario| case.build(scenario)));
    let (random, random_took) = timed(|| seeds(case, RANDOM, &default));
    let (pct, pct_took) = timed(|| seeds(case, PCT, &default));
    let blind = Detector::ALL.iter().fold(Explorer::new(), |explorer, detector| explorer.without(*detector));
    let unaided = seeds(case, RANDOM, &blind);
    let coherent = seeds(case, RANDOM, &default.hardware_coherent());
    let failures = random.iter().chain(&pct).chain([&systematic]).filter_map(|report| report.failure.as_ref());
    let mut kinds: Vec<FindingKind> = failures.clone().map(|failure| failure.finding.kind).collect();
    kinds.sort();
    kinds.dedup();
    let kinds: Vec<String> = kinds.iter().map(|kind| name_of(case, *kind)).collect();
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
    let seeds = u32::try_from(SEEDS).unwrap_or(1);
    [systematic_took, random_took / seeds, pct_took / seeds]
}

/// Marked if it is not what the case expects.
fn name_of(case: &Case, kind: FindingKind) -> String {
    let mark = if case.expected.contains(&kind) { "" } else { " (!)" };
    format!("{kind}{mark}")
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
