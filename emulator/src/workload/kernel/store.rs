//! A key-value store with some keys that everybody wants.

use tiermem_topology::Topology;

use super::{Outcome, Random, Run, Setting, total_cache_lines};
use crate::cache::LINE;

/// Numbers from 0 below `count`, number `n` with a probability proportional to 1/(n+1)^`skew`.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// Probability of this number or a smaller one.
    cumulated: Vec<f64>,
}

impl Zipf {
    /// The distribution over `count` numbers.
    #[expect(clippy::cast_precision_loss, reason = "counts of keys")]
    pub fn new(count: usize, skew: f64) -> Self {
        let mut sum = 0.0;
        let mut cumulated: Vec<f64> = (1..=count)
            .map(|rank| {
                sum += (rank as f64).powf(-skew);
                sum
            })
            .collect();
        cumulated.iter_mut().for_each(|probability| *probability /= sum);
        Self { cumulated }
    }

    /// The number that `fraction`, evenly distributed from 0 to 1, stands for.
    pub fn draw(&self, fraction: f64) -> usize {
        self.cumulated
            .partition_point(|&probability| probability < fraction)
            .min(self.cumulated.len().saturating_sub(1))
    }

    /// The probability of each number.
    pub fn probabilities(&self) -> impl Iterator<Item = f64> {
        let before = std::iter::once(0.0).chain(self.cumulated.iter().copied());
        self.cumulated.iter().zip(before).map(|(now, before)| now - before)
    }
}

/// Gets `gets` values of a line each from a store of `keys` keys with Zipf popularity. A get reads its bucket (a line of
/// its own for each key: no collisions), waits for it, and reads the value that it points to. An operation is a get. `None`
/// if the setting cannot be modelled.
pub fn zipf_store(topology: &Topology, setting: &Setting, keys: usize, skew: f64, gets: u64) -> Option<Outcome> {
    let zipf = Zipf::new(keys, skew);
    let mut random = Random::new(4);
    // Popular keys lie anywhere.
    let mut places: Vec<u64> = (0..keys as u64).collect();
    for at in (1..keys).rev() {
        #[expect(clippy::cast_possible_truncation, reason = "below `keys`")]
        places.swap(at, random.below(at as u64 + 1) as usize);
    }
    let mut run = Run::new(topology, setting)?;
    let buckets = run.machine.place(setting.tier, keys as u64 * LINE).base;
    let values = run.machine.place(setting.tier, keys as u64 * LINE).base;
    let warm_up = gets.max(8 * total_cache_lines(&setting.caches));
    for get in 0..warm_up + gets {
        if get == warm_up {
            run.begin();
        }
        let place = places[zipf.draw(random.fraction())];
        run.load(buckets + place * LINE);
        run.load(values + place * LINE);
    }
    Some(run.end(gets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn popular_numbers_come_as_often_as_they_should() {
        let zipf = Zipf::new(1000, 0.99);
        let mut random = Random::new(9);
        let mut counts = vec![0_u32; 1000];
        for _ in 0..200_000 {
            counts[zipf.draw(random.fraction())] += 1;
        }
        for (count, probability) in counts.iter().zip(zipf.probabilities()).take(5) {
            let share = f64::from(*count) / 200_000.0;
            assert!((share / probability - 1.0).abs() < 0.03, "{share} {probability}");
        }
        assert!((zipf.probabilities().sum::<f64>() - 1.0).abs() < 1e-9);
    }
}
