//! What the runs say: ratios to the baseline with their spread, means, and the cells that we lose.

use serde::Serialize;

use super::child::Measured;
use super::measure::{Results, Row};
use super::statistics::{Spread, geometric_mean};

/// Which figure of a run is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// User and system CPU time.
    Cpu,
    /// Wall-clock time.
    Wall,
    /// Peak resident memory.
    Rss,
}

impl Figure {
    /// Its value for one run.
    pub fn of(self, run: &Measured) -> f64 {
        match self {
            Self::Cpu => run.cpu_s(),
            Self::Wall => run.wall_s,
            Self::Rss => run.rss_max_bytes as f64,
        }
    }
}

/// One allocator on one cell, compared.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// The cell.
    pub cell: String,
    /// The allocator.
    pub rival: String,
    /// The figure itself, seconds or bytes.
    pub absolute: Spread,
    /// Its ratio to the baseline's run in the same round.
    pub ratio: Spread,
}

/// A geometric mean of ratios over several cells.
#[derive(Clone, Debug, Serialize)]
pub struct Mean {
    /// The allocator.
    pub rival: String,
    /// Mean of the median ratios; `None` if no cell could be compared.
    pub ratio: Option<f64>,
    /// Over how many cells.
    pub cells: usize,
}

/// A cell in which another allocator does better than ours.
#[derive(Clone, Debug, Serialize)]
pub struct Loss {
    /// The cell.
    pub cell: String,
    /// Who is best.
    pub best: String,
    /// Our figure divided by theirs, from the least of the runs of each.
    pub ours_over_best: f64,
}

/// Ratio of `rival` to `baseline` in `row`, round by round.
pub fn compare(row: &Row, rival: &str, baseline: &str, figure: Figure) -> Option<Compared> {
    let mine = row.series.get(rival)?.figures(|run| figure.of(run))?;
    let base = row.series.get(baseline)?.figures(|run| figure.of(run))?;
    let ratios: Vec<f64> = mine.iter().zip(&base).map(|(mine, base)| mine / base).collect();
    let (absolute, ratio) = (Spread::of(&mine)?, Spread::of(&ratios)?);
    Some(Compared { cell: row.cell.clone(), rival: rival.to_owned(), absolute, ratio })
}

/// Geometric mean of the ratios of `rival` over the rows that `wanted` picks.
pub fn mean(results: &Results, rival: &str, baseline: &str, figure: Figure, wanted: impl Fn(&Row) -> bool) -> Mean {
    let rows = results.work().filter(|row| wanted(row));
    let ratios: Vec<f64> = rows.filter_map(|row| Some(compare(row, rival, baseline, figure)?.ratio.median)).collect();
    Mean { rival: rival.to_owned(), ratio: geometric_mean(&ratios), cells: ratios.len() }
}

/// The cells in which some rival other than `allies` beats `ours`, worst first.
pub fn losses(results: &Results, ours: &str, allies: &[&str], figure: Figure) -> Vec<Loss> {
    let least = |row: &Row, name: &str| -> Option<f64> {
        Some(Spread::of(&row.series.get(name)?.figures(|run| figure.of(run))?)?.min)
    };
    let mut losses: Vec<Loss> = results
        .work()
        .filter_map(|row| {
            let mine = least(row, ours)?;
            let others = row.series.keys().filter(|name| *name != ours && !allies.contains(&name.as_str()));
            let (theirs, best) = others
                .filter_map(|name| Some((least(row, name)?, name.clone())))
                .min_by(|left, right| left.0.total_cmp(&right.0))?;
            (mine > theirs).then(|| Loss { cell: row.cell.clone(), best, ours_over_best: mine / theirs })
        })
        .collect();
    losses.sort_by(|left, right| right.ours_over_best.total_cmp(&left.ours_over_best));
    losses
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::cells::Kind;
    use super::super::child::Outcome;
    use super::super::measure::Series;
    use super::*;

    fn series(cpu: &[f64]) -> Series {
        let run = |user_s: &f64| Measured {
            outcome: Outcome::Finished,
            user_s: *user_s,
            system_s: 0.0,
            wall_s: 1.0,
            rss_max_bytes: 1 << 20,
            stderr: String::new(),
        };
        Series { runs: cpu.iter().map(run).collect(), reports: vec![] }
    }

    fn results() -> Results {
        let row = |cell: &str, base: &[f64], ours: &[f64]| Row {
            cell: cell.into(),
            kind: if cell == "a" { Kind::Multi } else { Kind::Single },
            series: BTreeMap::from([("base".into(), series(base)), ("ours".into(), series(ours))]),
        };
        let rows = vec![row("a", &[1.0, 2.0], &[0.5, 1.0]), row("b", &[1.0, 1.0], &[2.0, 2.2])];
        Results { machine: String::new(), rounds: 2, rivals: vec![], absent: vec![], missing_cells: vec![], rows }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The second round was twice as slow for both: the ratio does not notice.
        let compared = compare(&results().rows[0], "ours", "base", Figure::Cpu).expect("both finished");
        assert_eq!((compared.ratio.median, compared.ratio.mad), (0.5, 0.0));
    }

    #[test]
    fn means_and_losses_name_the_right_cells() {
        let results = results();
        let all = mean(&results, "ours", "base", Figure::Cpu, |_| true);
        assert_eq!(all.cells, 2);
        assert!((all.ratio.expect("compared") - (0.5f64 * 2.1).sqrt()).abs() < 1e-9);
        let losses = losses(&results, "ours", &[], Figure::Cpu);
        assert_eq!(losses.len(), 1);
        assert_eq!((losses[0].cell.as_str(), losses[0].ours_over_best), ("b", 2.0));
    }
}
