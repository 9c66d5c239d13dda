//! The Markdown report of an allocator run.

use std::fmt::Write as _;

use super::cells::Kind;
use super::child::Measured;
use super::measure::{Results, Row, describe};
use super::reported;
use super::rivals::OURS;
use super::summary::{Figure, compare, losses, mean};
use super::targets::{self, LOSS_TARGET};

/// The whole report, with ratios to `baseline`.
pub fn report(results: &Results, baseline: &str) -> String {
    let mut text = String::new();
    let rounds = results.rounds;
    let _ = writeln!(
        text,
        "Machine: {}. {rounds} interleaved rounds. Ratios are to {baseline} in the same round; lower is better.",
        results.machine
    );
    let _ = writeln!(text, "A cell is `median ratio ± median absolute deviation`.\n");
    for (title, figure) in
        [("CPU time", Figure::Cpu), ("Peak resident memory", Figure::Rss), ("Wall time", Figure::Wall)]
    {
        let _ = writeln!(text, "### {title}, relative to {baseline}\n");
        table(&mut text, results, baseline, figure);
    }
    text.push_str(&reported::tables(results));
    text.push_str(&targets::table(results, baseline));
    lost(&mut text, results);
    absences(&mut text, results);
    text
}

fn names(results: &Results) -> Vec<&str> {
    results.rivals.iter().map(|rival| rival.name.as_str()).collect()
}

fn table(text: &mut String, results: &Results, baseline: &str, figure: Figure) {
    let names = names(results);
    let _ =
        writeln!(text, "| | {baseline}, {} | {} |", if figure == Figure::Rss { "MiB" } else { "s" }, names.join(" | "));
    let _ = writeln!(text, "|---|---|{}", "---|".repeat(names.len()));
    for row in results.work() {
        let absolute = compare(row, baseline, baseline, figure).map_or("–".to_owned(), |base| match figure {
            Figure::Rss => format!("{:.1}", base.absolute.median / 1048576.0),
            _ => format!("{:.2}", base.absolute.median),
        });
        let _ = write!(text, "| {} | {absolute} |", row.cell);
        for name in &names {
            let _ = write!(text, " {} |", entry(row, name, baseline, figure));
        }
        text.push('\n');
    }
    type Choice = (&'static str, fn(&Row) -> bool);
    let choices: [Choice; 3] = [
        ("**geometric mean**", |_| true),
        ("**multi-threaded**", |row| row.kind == Kind::Multi),
        ("**single-threaded**", |row| row.kind == Kind::Single),
    ];
    for (title, wanted) in choices {
        let _ = write!(text, "| {title} | |");
        for name in &names {
            let mean = mean(results, name, baseline, figure, wanted);
            let compared = results.work().filter(|row| wanted(row)).count();
            // A mean over fewer cells than the others' is not comparable; say so.
            let short =
                if mean.cells < compared { format!(" ({} of {compared} cells)", mean.cells) } else { String::new() };
            let _ = write!(text, " {}{short} |", mean.ratio.map_or("–".to_owned(), |ratio| format!("**{ratio:.2}**")));
        }
        text.push('\n');
    }
    text.push('\n');
}

/// The ratio of `name` to `baseline` in a row, or why there is none.
pub(super) fn entry(row: &Row, name: &str, baseline: &str, figure: Figure) -> String {
    match compare(row, name, baseline, figure) {
        Some(compared) => format!("{:.2} ± {:.2}", compared.ratio.median, compared.ratio.mad),
        None if row.series.get(name).is_some_and(|series| series.failure().is_some()) => "**failed**".to_owned(),
        None => "–".to_owned(),
    }
}

fn lost(text: &mut String, results: &Results) {
    if !results.rivals.iter().any(|rival| rival.name == OURS) {
        return;
    }
    let allies: Vec<&str> = names(results).into_iter().filter(|name| name.starts_with(OURS)).collect();
    for (title, figure) in [("CPU time", Figure::Cpu), ("peak resident memory", Figure::Rss)] {
        let losses = losses(results, OURS, &allies, figure);
        let _ = writeln!(text, "### Cells in which {OURS} loses: {title}\n");
        if losses.is_empty() {
            let _ = writeln!(text, "None.\n");
            continue;
        }
        let _ = writeln!(
            text,
            "| cell | best | ours over best (least of the runs) | over {LOSS_TARGET:.2} |\n|---|---|---|---|"
        );
        for loss in losses {
            let over = if loss.ours_over_best > LOSS_TARGET { "yes" } else { "" };
            let _ = writeln!(text, "| {} | {} | {:.2} | {over} |", loss.cell, loss.best, loss.ours_over_best);
        }
        text.push('\n');
    }
}

/// Who failed where, who could not take part, and where everyone comes from.
pub(super) fn absences(text: &mut String, results: &Results) {
    let failed = results.rows.iter().flat_map(|row| {
        row.series.iter().filter_map(move |(name, series)| Some((row.cell.as_str(), name.as_str(), series.failure()?)))
    });
    let mut lines: Vec<String> = failed
        .map(|(cell, name, run): (&str, &str, &Measured)| format!("- {name} failed on {cell}: {}", describe(run)))
        .collect();
    lines.extend(results.absent.iter().map(|absent| format!("- {} did not take part: {}", absent.name, absent.why)));
    lines.extend(results.missing_cells.iter().map(|cell| format!("- cell {} was left out: {}", cell.name, cell.why)));
    if !lines.is_empty() {
        let _ = writeln!(text, "### Failures and absences\n\n{}\n", lines.join("\n"));
    }
    let origins: Vec<String> =
        results.rivals.iter().map(|rival| format!("{} ({})", rival.name, rival.origin)).collect();
    let _ = writeln!(text, "Allocators: {}.", origins.join(", "));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::child::Outcome;
    use super::super::measure::Series;
    use super::super::rivals::{Absent, Rival};
    use super::*;

    fn run(outcome: Outcome) -> Series {
        let stderr = if outcome == Outcome::Finished { "" } else { "free(): invalid pointer" };
        let run = Measured {
            outcome,
            user_s: 1.0,
            system_s: 0.0,
            wall_s: 1.0,
            rss_max_bytes: 1 << 20,
            stderr: stderr.into(),
        };
        Series { runs: vec![run], reports: vec![] }
    }

    #[test]
    fn a_crash_and_an_absence_are_shown() {
        let rival = |name: &str| Rival { name: name.into(), origin: String::new(), preload: None, environment: vec![] };
        let row = Row {
            cell: "kv".into(),
            kind: Kind::Single,
            series: BTreeMap::from([
                ("base".into(), run(Outcome::Finished)),
                ("crashing".into(), run(Outcome::Signalled(6))),
            ]),
        };
        let results = Results {
            machine: "a machine".into(),
            rounds: 1,
            rivals: vec![rival("base"), rival("crashing")],
            absent: vec![Absent { name: "gone".into(), why: "not installed".into() }],
            missing_cells: vec![],
            rows: vec![row],
        };
        let text = report(&results, "base");
        assert!(text.contains("| kv | 1.00 | 1.00 ± 0.00 | **failed** |"), "{text}");
        assert!(text.contains("- crashing failed on kv: aborted: free(): invalid pointer"), "{text}");
        assert!(text.contains("- gone did not take part: not installed"), "{text}");
    }
}
