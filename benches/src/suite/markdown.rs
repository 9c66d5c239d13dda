//! The Markdown report of an allocator run.

use std::fmt::Write as _;

use super::child::Measured;
use super::measure::{Results, Row, describe};
use super::rivals::OURS;
use super::summary::{Figure, compare, losses, mean};

/// A loss above this ratio breaks the target for single cells.
const LOSS_TARGET: f64 = 1.10;
const RETURN_CELL: &str = "memory-return";
/// When the memory-return target is read.
const RETURN_AT_MS: u64 = 2_000;

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
    returned(&mut text, results);
    lost(&mut text, results);
    failures(&mut text, results);
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
    for row in &results.rows {
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
        ("**multi-threaded**", |row| row.multi_threaded),
        ("**single-threaded**", |row| !row.multi_threaded),
    ];
    for (title, wanted) in choices {
        let _ = write!(text, "| {title} | |");
        for name in &names {
            let mean = mean(results, name, baseline, figure, wanted);
            let compared = results.rows.iter().filter(|row| wanted(row)).count();
            // A mean over fewer cells than the others' is not comparable; say so.
            let short =
                if mean.cells < compared { format!(" ({} of {compared} cells)", mean.cells) } else { String::new() };
            let _ = write!(text, " {}{short} |", mean.ratio.map_or("–".to_owned(), |ratio| format!("**{ratio:.2}**")));
        }
        text.push('\n');
    }
    text.push('\n');
}

fn entry(row: &Row, name: &str, baseline: &str, figure: Figure) -> String {
    match compare(row, name, baseline, figure) {
        Some(compared) => format!("{:.2} ± {:.2}", compared.ratio.median, compared.ratio.mad),
        None if row.series.get(name).is_some_and(|series| series.failure().is_some()) => "**failed**".to_owned(),
        None => "–".to_owned(),
    }
}

/// How much of the peak is still resident after the program freed everything and idled.
fn returned(text: &mut String, results: &Results) {
    let Some(row) = results.rows.iter().find(|row| row.cell == RETURN_CELL) else { return };
    let _ = writeln!(text, "### Memory return: everything freed, then idle\n");
    let _ = writeln!(
        text,
        "| | peak, MiB | just freed | after {} s | share of peak |\n|---|---|---|---|---|",
        RETURN_AT_MS / 1000
    );
    for name in names(results) {
        let Some(report) = row.series.get(name).and_then(|series| series.reports.last()) else { continue };
        let mebibytes = |value: &serde_json::Value| value.as_f64().unwrap_or_default() / 1048576.0;
        let late = report["idle"].as_array().and_then(|samples| {
            samples.iter().find(|sample| sample["at_ms"].as_u64().is_some_and(|at_ms| at_ms >= RETURN_AT_MS))
        });
        let (peak, freed) = (mebibytes(&report["peak_bytes"]), mebibytes(&report["freed_bytes"]));
        let Some(late) = late.map(|sample| mebibytes(&sample["resident_bytes"])) else { continue };
        let _ = writeln!(text, "| {name} | {peak:.0} | {freed:.0} | {late:.0} | {:.1} % |", 100.0 * late / peak);
    }
    text.push('\n');
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

fn failures(text: &mut String, results: &Results) {
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
            multi_threaded: false,
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
