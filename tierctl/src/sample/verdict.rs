//! From samples to a slowdown with its band, or to the reason why there is none.

use std::fmt;

use super::sites::{Samples, Site};

/// Fewer samples say nothing.
const SAMPLES_MIN: u64 = 500;
/// Loops with fewer samples are judged together.
const SITE_MIN: u64 = 100;
/// How much of the time may be spent at loads that cannot be judged.
const UNJUDGED_MAX: f64 = 0.10;

/// Which part of a program's user time goes where.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Samples.
    pub samples: u64,
    /// Waiting for memory beyond the caches, one access after the other.
    pub waiting: f64,
    /// At loads in order, which prefetchers hide more or less.
    pub streaming: f64,
    /// At loads of which it cannot be shown that they miss the caches.
    pub cached: f64,
    /// The lines that loads must have been about at least.
    pub lines_min: u64,
}

/// Why there is no figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refusal {
    /// Too few samples.
    TooFew(u64),
    /// Too much of the time goes to loads in order.
    Streams(f64),
    /// Too much of the time goes to loads that the caches may have answered.
    Cached {
        /// How much.
        share: f64,
        /// How much memory they touched at least, bytes.
        bytes_min: u64,
        /// How much the caches hold, bytes.
        caches: u64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFew(samples) => write!(
                f,
                "{samples} samples are too few to tell anything, {SAMPLES_MIN} are needed: let the program run longer"
            ),
            Self::Streams(share) => write!(
                f,
                "{:.0} % of the time it reads memory in order: prefetchers hide the latency of that, and nobody can see how \
                 much of it; record and replay the program instead (`tierctl replay`)",
                share * 100.0
            ),
            Self::Cached { share, bytes_min, caches } => write!(
                f,
                "{:.0} % of the time it stands at loads that the caches may have answered: they touched {} MiB for sure, and \
                 the caches hold {} MiB; let it run longer if it uses more memory, else record and replay it (`tierctl \
                 replay`)",
                share * 100.0,
                bytes_min >> 20,
                caches >> 20
            ),
        }
    }
}

/// A slowdown: how many times as long the program's user time takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowdown {
    /// Best guess.
    pub likely: f64,
    /// At least.
    pub low: f64,
    /// At most.
    pub high: f64,
}

/// Adds up where the time goes; `caches` is the size of the last-level cache, bytes.
pub fn shares(samples: &Samples, caches: u64) -> Shares {
    let (mut waiting, mut streaming, mut cached) = (0, 0, 0);
    let (mut rest, mut rest_addressed, mut rest_lines) = (0, 0, 0);
    let mut lines_min = 0;
    for site in samples.sites.values() {
        let (addressed, lines) = site.lines();
        if site.is_stream() {
            streaming += site.samples;
        } else if site.samples < SITE_MIN {
            rest += site.samples;
            rest_addressed += addressed;
            rest_lines += lines;
        } else {
            judge(site, addressed, lines, caches, &mut waiting, &mut cached, &mut lines_min);
        }
    }
    let rest_min = lines_at_least(rest_addressed, rest_lines);
    lines_min = lines_min.max(rest_min);
    *(if rest_min * 64 >= caches { &mut waiting } else { &mut cached }) += rest;
    let share = |count: u64| if samples.all == 0 { 0.0 } else { count as f64 / samples.all as f64 };
    Shares {
        samples: samples.all,
        waiting: share(waiting),
        streaming: share(streaming),
        cached: share(cached),
        lines_min,
    }
}

fn judge(
    site: &Site,
    addressed: u64,
    lines: u64,
    caches: u64,
    waiting: &mut u64,
    cached: &mut u64,
    lines_min: &mut u64,
) {
    let least = lines_at_least(addressed, lines);
    *lines_min = (*lines_min).max(least);
    *(if least * 64 >= caches { waiting } else { cached }) += site.samples;
}

/// How many lines there are at least, if `samples` of them, drawn by chance, were `different` ones: samples that meet a line
/// again are as rare as the lines are many (the birthday problem: n²/2W of n samples of W lines). With 19 in 20 chances.
fn lines_at_least(samples: u64, different: u64) -> u64 {
    let repeated = samples.saturating_sub(different) as f64;
    // The upper end of a Poisson variable of which `repeated` was seen; exact at 0 (3.0), within a few percent above.
    let repeated_max = repeated + 2.0 * repeated.sqrt() + 3.0;
    ((samples as f64).powi(2) / (2.0 * repeated_max)) as u64
}

/// The slowdown where memory has `ratio` times the latency. On this machine a program that only waits shows `full` of its time
/// as waiting, and shares of the time are off by `band`.
///
/// # Errors
/// Where the samples do not tell.
pub fn slowdown(shares: &Shares, ratio: f64, (full, band): (f64, f64), caches: u64) -> Result<Slowdown, Refusal> {
    if shares.samples < SAMPLES_MIN {
        return Err(Refusal::TooFew(shares.samples));
    }
    if shares.streaming > UNJUDGED_MAX {
        return Err(Refusal::Streams(shares.streaming));
    }
    if shares.cached + shares.streaming > UNJUDGED_MAX {
        let bytes_min = shares.lines_min * 64;
        return Err(Refusal::Cached { share: shares.cached, bytes_min, caches });
    }
    // The chance of the draw: twice the standard deviation of a share.
    let chance = 2.0 * (shares.waiting * (1.0 - shares.waiting) / shares.samples as f64).sqrt();
    let at = |share: f64| 1.0 + share.clamp(0.0, 1.0) * (ratio - 1.0);
    let unjudged = shares.streaming + shares.cached;
    let waiting = shares.waiting / full;
    Ok(Slowdown { likely: at(waiting), low: at(waiting - band - chance), high: at(waiting + unjudged + band + chance) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(waiting: f64, streaming: f64, cached: f64) -> Shares {
        Shares { samples: 10_000, waiting, streaming, cached, lines_min: 1000 }
    }

    #[test]
    fn repeated_lines_bound_what_was_touched() {
        // 5000 samples of 2 million lines: about six meet a line again.
        assert!((500_000..2_000_000).contains(&lines_at_least(5000, 4994)));
        // Of 512 lines.
        assert!(lines_at_least(5000, 512) < 512 * 6);
        assert!(lines_at_least(1000, 1000) > 100_000);
        assert_eq!(lines_at_least(0, 0), 0);
    }

    #[test]
    fn what_cannot_be_told_is_refused_and_why() {
        let refused = |shares: Shares| slowdown(&shares, 2.0, (1.0, 0.02), 32 << 20).unwrap_err();
        assert_eq!(refused(Shares { samples: 499, ..of(0.5, 0.0, 0.0) }), Refusal::TooFew(499));
        assert_eq!(refused(of(0.5, 0.2, 0.0)), Refusal::Streams(0.2));
        assert!(matches!(refused(of(0.5, 0.0, 0.2)), Refusal::Cached { .. }));
        assert!(matches!(refused(of(0.5, 0.06, 0.06)), Refusal::Cached { .. }), "both together are too much");
        let text = refused(of(0.0, 0.0, 0.9)).to_string();
        assert!(text.contains("90 %") && text.contains("the caches hold 32 MiB"), "{text}");
    }

    #[test]
    fn the_band_has_all_that_is_unsure() {
        let sure = slowdown(&of(0.5, 0.0, 0.0), 3.0, (1.0, 0.02), 1).unwrap();
        assert!((sure.likely - 2.0).abs() < 1e-9 && sure.low < 1.96 && sure.low > 1.9 && sure.high > 2.04);
        let unsure = slowdown(&of(0.5, 0.05, 0.0), 3.0, (1.0, 0.02), 1).unwrap();
        assert!((unsure.high - sure.high - 0.1).abs() < 1e-9 && unsure.low == sure.low);
        let corrected = slowdown(&of(0.45, 0.0, 0.0), 3.0, (0.9, 0.02), 1).unwrap();
        assert!((corrected.likely - 2.0).abs() < 1e-9);
        let none = slowdown(&of(0.0, 0.0, 0.0), 3.0, (1.0, 0.02), 1).unwrap();
        assert!((none.likely, none.low) == (1.0, 1.0) && none.high < 1.05);
    }
}
