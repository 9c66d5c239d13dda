//! The project's targets for the allocator, and where the results stand against them.

use std::fmt::Write as _;

use super::cells::Kind;
use super::measure::{Results, Row};
use super::reported::course;
use super::rivals::OURS;
use super::summary::{self, Figure, losses};

/// A loss above this ratio breaks the target for single cells.
pub const LOSS_TARGET: f64 = 1.10;
const LIBC: &str = "glibc";

/// One target.
struct Target {
    what: String,
    /// Not more than this.
    limit: f64,
    /// What was measured; `None` if its cells were not run.
    value: Option<f64>,
}

/// The table; empty if ours did not take part.
pub fn table(results: &Results, baseline: &str) -> String {
    if !results.rivals.iter().any(|rival| rival.name == OURS) {
        return String::new();
    }
    let mut text = format!("### Against the targets, {OURS}\n\n| | target | measured | |\n|---|---|---|---|\n");
    for Target { what, limit, value } in targets(results, baseline) {
        let (shown, verdict) = match value {
            Some(value) => (format!("{value:.3}"), if value <= limit { "reached" } else { "**missed**" }),
            None => ("not measured".to_owned(), ""),
        };
        let _ = writeln!(text, "| {what} | ≤ {limit} | {shown} | {verdict} |");
    }
    text + "\n"
}

fn targets(results: &Results, baseline: &str) -> Vec<Target> {
    let target = |what: &str, limit: f64, value: Option<f64>| Target { what: what.to_owned(), limit, value };
    let mean = |figure, wanted: fn(&Row) -> bool| summary::mean(results, OURS, baseline, figure, wanted).ratio;
    let reported = |cell: &str, key: &str| results.reported(cell, OURS, key).map(|spread| spread.median);
    let over = |cell: &str, key: &str, other: &str| -> Option<f64> {
        Some(results.reported(cell, OURS, key)?.median / results.reported(cell, other, key)?.median)
    };
    let allies: Vec<&str> =
        results.rivals.iter().map(|rival| rival.name.as_str()).filter(|name| name.starts_with(OURS)).collect();
    // Without a loss the worst cell is one that we lead.
    let worst = (results.rivals.len() > allies.len() && results.work().next().is_some())
        .then(|| losses(results, OURS, &allies, Figure::Cpu).first().map_or(1.0, |loss| loss.ours_over_best));
    // The means depend on which cells there are; how far ahead of the best rival we are depends on it less.
    let ahead = |figure, wanted: fn(&Row) -> bool| {
        let others = results.rivals.iter().filter(|rival| !rival.name.starts_with(OURS));
        let best = others.filter_map(|rival| summary::mean(results, &rival.name, baseline, figure, wanted).ratio);
        Some(mean(figure, wanted)? / best.min_by(f64::total_cmp)?)
    };
    let all: fn(&Row) -> bool = |_| true;
    let multi: fn(&Row) -> bool = |row| row.kind == Kind::Multi;
    vec![
        target(&format!("CPU time, geometric mean, relative to {baseline}"), 0.85, mean(Figure::Cpu, all)),
        target("the same, relative to the best rival's mean (.85 of .91)", 0.934, ahead(Figure::Cpu, all)),
        target(&format!("CPU time, multi-threaded, relative to {baseline}"), 0.72, mean(Figure::Cpu, multi)),
        target("the same, relative to the best rival's mean (.72 of .77)", 0.935, ahead(Figure::Cpu, multi)),
        target("worst cell, CPU time, relative to its best rival", LOSS_TARGET, worst),
        target(&format!("peak RSS, geometric mean, relative to {baseline}"), 0.48, mean(Figure::Rss, all)),
        target("the same, relative to the best rival's mean (.48 of .46)", 1.043, ahead(Figure::Rss, all)),
        target(
            "everything freed: resident after 2 s, share of the peak",
            0.03,
            course(results, OURS).map(|[peak, _, late]| late / peak),
        ),
        target(
            &format!("churn at 100,000 live objects (`live-churn-wide`), relative to {baseline}"),
            0.32,
            over("live-churn-wide", "cpu_ns_per_pair", baseline),
        ),
        target(
            "thread created, allocates, exits, relative to glibc",
            1.0,
            over("thread-cycle", "cpu_us_per_thread_alone", LIBC),
        ),
        target("the same, eight at a time", 1.0, over("thread-cycle", "cpu_us_per_thread_of_eight", LIBC)),
        target(
            "sizes shift, lifetimes in clusters: footprint over live after 1.5 s",
            1.5,
            reported("fragmentation-clustered", "footprint_over_live_max"),
        ),
        target(
            "sizes shift, one block in eight survives: footprint over live after 1.5 s",
            1.5,
            reported("fragmentation-adversarial", "footprint_over_live_max"),
        ),
        target("idle, holding 500 MiB: CPU %", 1.0, reported("idle-cost", "idle_cpu_percent_holding")),
        target("idle, after freeing 500 MiB: CPU %", 1.0, reported("idle-cost", "idle_cpu_percent_after_free")),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::child::{Measured, Outcome};
    use super::super::measure::Series;
    use super::super::rivals::Rival;
    use super::*;

    fn results(footprint: f64) -> Results {
        let rival = |name: &str| Rival { name: name.into(), origin: String::new(), preload: None, environment: vec![] };
        let run = Measured {
            outcome: Outcome::Finished,
            user_s: 1.0,
            system_s: 0.0,
            wall_s: 1.0,
            rss_max_bytes: 1,
            stderr: String::new(),
        };
        let series = Series { runs: vec![run], reports: vec![json!({ "footprint_over_live_max": footprint })] };
        let row = Row {
            cell: "fragmentation-clustered".into(),
            kind: Kind::Question,
            series: BTreeMap::from([(OURS.into(), series)]),
        };
        Results {
            machine: String::new(),
            rounds: 1,
            rivals: vec![rival(OURS), rival("base")],
            absent: vec![],
            missing_cells: vec![],
            rows: vec![row],
        }
    }

    #[test]
    fn a_target_is_reached_missed_or_not_measured() {
        assert!(table(&results(1.4), "base").contains("| ≤ 1.5 | 1.400 | reached |"));
        assert!(table(&results(1.6), "base").contains("| ≤ 1.5 | 1.600 | **missed** |"));
        assert!(table(&results(1.6), "base").contains("| ≤ 0.85 | not measured |  |"));
    }
}
