//! What checks cost: each hardened allocator relative to itself without them.

use std::fmt::Write as _;

use super::markdown::{absences, entry};
use super::measure::Results;
use super::rivals::{OURS, OURS_HARDENED};
use super::summary::{Figure, mean};

/// A hardened allocator and the same without checks.
const PAIRS: [(&str, &str); 4] = [
    (OURS_HARDENED[0], OURS),
    (OURS_HARDENED[1], OURS),
    ("mimalloc-secure", "mimalloc3.3"),
    ("snmalloc-checks", "snmalloc"),
];

/// The whole report.
pub fn report(results: &Results) -> String {
    let mut text = format!(
        "Machine: {}. {} interleaved rounds. Each ratio is to the same allocator without checks in the same round.\n\n",
        results.machine, results.rounds
    );
    let takes_part = |name: &str| results.rivals.iter().any(|rival| rival.name == name);
    let pairs: Vec<(&str, &str)> =
        PAIRS.into_iter().filter(|(hardened, plain)| takes_part(hardened) && takes_part(plain)).collect();
    for (title, figure) in [("CPU time", Figure::Cpu), ("Peak resident memory", Figure::Rss)] {
        let _ = writeln!(text, "### {title}, hardened over plain\n");
        let heads: Vec<String> = pairs.iter().map(|(hardened, plain)| format!("{hardened} / {plain}")).collect();
        let _ = writeln!(text, "| | {} |\n|---|{}", heads.join(" | "), "---|".repeat(heads.len()));
        for row in results.work() {
            let entries: Vec<String> =
                pairs.iter().map(|(hardened, plain)| entry(row, hardened, plain, figure)).collect();
            let _ = writeln!(text, "| {} | {} |", row.cell, entries.join(" | "));
        }
        let means = pairs.iter().map(|(hardened, plain)| {
            let mean = mean(results, hardened, plain, figure, |_| true);
            mean.ratio.map_or("–".to_owned(), |ratio| format!("**{ratio:.3}** ({} cells)", mean.cells))
        });
        let _ = writeln!(text, "| **geometric mean** | {} |\n", means.collect::<Vec<_>>().join(" | "));
    }
    absences(&mut text, results);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::cells::Kind;
    use super::super::child::{Measured, Outcome};
    use super::super::measure::{Row, Series};
    use super::super::rivals::{Absent, Rival};
    use super::*;

    #[test]
    fn each_is_compared_with_itself_and_who_is_missing_is_named() {
        let rival = |name: &str| Rival { name: name.into(), origin: String::new(), preload: None, environment: vec![] };
        let series = |user_s| Series {
            runs: vec![Measured {
                outcome: Outcome::Finished,
                user_s,
                system_s: 0.0,
                wall_s: 1.0,
                rss_max_bytes: 1,
                stderr: String::new(),
            }],
            reports: vec![],
        };
        let series = [("snmalloc", 1.0), ("snmalloc-checks", 1.1), (OURS, 4.0), (OURS_HARDENED[0], 4.2)]
            .map(|(name, user_s)| (name.to_owned(), series(user_s)));
        let results = Results {
            machine: String::new(),
            rounds: 1,
            rivals: series.iter().map(|(name, _)| rival(name)).collect(),
            absent: vec![Absent { name: OURS_HARDENED[1].into(), why: "no such mode".into() }],
            missing_cells: vec![],
            rows: vec![Row { cell: "kv".into(), kind: Kind::Single, series: BTreeMap::from(series) }],
        };
        let text = report(&results);
        assert!(text.contains("| kv | 1.05 ± 0.00 | 1.10 ± 0.00 |"), "{text}");
        assert!(text.contains("- tiermem-strong did not take part: no such mode"), "{text}");
    }
}
