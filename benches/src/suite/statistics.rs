//! Robust figures for few, noisy runs.

use serde::{Deserialize, Serialize};

/// Least, middle and spread of a set of runs. On a shared machine noise only adds, so the least is the best estimate
/// of the undisturbed cost, and the spread says how far to trust it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Smallest value.
    pub min: f64,
    /// Median.
    pub median: f64,
    /// Median absolute deviation from the median.
    pub mad: f64,
    /// How many values.
    pub runs: usize,
}

impl Spread {
    /// The spread of `values`; `None` without any.
    pub fn of(values: &[f64]) -> Option<Self> {
        let median = median(values)?;
        let deviations: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        Some(Self { min, median, mad: self::median(&deviations)?, runs: values.len() })
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// Geometric mean of positive values; `None` without any.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let logarithms: f64 = values.iter().map(|value| value.ln()).sum();
    (!values.is_empty()).then(|| (logarithms / values.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_moves_neither_median_nor_deviation_much() {
        let spread = Spread::of(&[1.0, 1.1, 0.9, 1.0, 50.0]).expect("five values");
        assert_eq!((spread.min, spread.median, spread.runs), (0.9, 1.0, 5));
        assert!((spread.mad - 0.1).abs() < 1e-9);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_halving_and_a_doubling_cancel() {
        assert!((geometric_mean(&[0.5, 2.0]).expect("two values") - 1.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
    }
}
