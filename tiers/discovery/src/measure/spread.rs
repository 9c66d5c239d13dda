//! A median and how far the samples lie from it.

use serde::{Deserialize, Serialize};

/// Median of repeated measurements and their median absolute deviation, which a few disturbed runs do not move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Median.
    pub median: f64,
    /// Median absolute deviation, in the same unit.
    pub mad: f64,
    /// Number of measurements.
    pub samples: u64,
}

impl Spread {
    /// Of these samples; all zero if there are none.
    pub fn of(samples: &[f64]) -> Self {
        let middle = median(samples);
        let deviations: Vec<f64> = samples.iter().map(|sample| (sample - middle).abs()).collect();
        Self { median: middle, mad: median(&deviations), samples: samples.len() as u64 }
    }

    /// The deviation as a part of the median; 0 for an empty one.
    pub fn relative(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { self.mad / self.median }
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        None => 0.0,
        Some(&upper) if sorted.len() % 2 == 1 => upper,
        Some(&upper) => f64::midpoint(upper, sorted.get(middle - 1).copied().unwrap_or(upper)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_disturbed_run_moves_neither_figure() {
        let calm = Spread::of(&[100.0, 101.0, 99.0, 100.0, 102.0]);
        let disturbed = Spread::of(&[100.0, 101.0, 99.0, 100.0, 9000.0]);
        assert_eq!((calm.median, calm.mad), (100.0, 1.0));
        assert_eq!((disturbed.median, disturbed.mad), (100.0, 1.0));
    }

    #[test]
    fn even_and_empty_counts() {
        assert_eq!(Spread::of(&[1.0, 3.0]).median, 2.0);
        assert_eq!(Spread::of(&[]), Spread::default());
        assert_eq!(Spread::default().relative(), 0.0);
    }
}
