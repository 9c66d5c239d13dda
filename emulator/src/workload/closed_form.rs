//! What theory expects of the [kernels](super::kernel) on one kind of memory. None of this looks at the model: the formulas
//! use the profile's figures and the caches' sizes alone.

use tiermem_topology::MemoryFigures;

use super::Core;
use super::kernel::{Zipf, line_uses};
use crate::cache::{CacheConfig, LINE};

/// Nanoseconds of a step of a pointer chase through much more than the caches hold: the latency, at the load that one
/// thread makes.
///
/// `t = L(u)`, where `u = 64 / (t · B)` is the share of the bandwidth `B` that one line in `t` takes.
pub fn chase_ns(figures: &MemoryFigures) -> f64 {
    closed_loop_ns(figures, 1.0, 1.0, 0.0)
}

/// Nanoseconds of a line for `threads` threads that each have `lines_in_flight` on their way, lines read alone
/// (`written` = 0) or each written back too (`written` = 1), with `busy_ns` of each line's turn taken by issuing.
///
/// By Little's law `n = t · λ`: `n` lines in flight take `t = max(L(u), n · 64(1+w) / B)` each, so a line comes every
/// `t / n`; `u` follows from that. Solved by iteration.
pub fn closed_loop_ns(figures: &MemoryFigures, threads: f64, lines_in_flight: f64, written: f64) -> f64 {
    let share = 1.0 / (1.0 + written);
    let bandwidth = figures.bandwidth(share);
    let line = 64e9 * (1.0 + written) / bandwidth;
    let lines = threads * lines_in_flight;
    // The larger the load, the longer the latency, the smaller the load: there is one point where both agree.
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        let latency = figures.read_latency_ns.value * figures.latency_factor(middle);
        if lines * line / latency > middle {
            low = middle;
        } else {
            high = middle;
        }
    }
    let latency = figures.read_latency_ns.value * figures.latency_factor(low);
    (latency / lines).max(line)
}

/// Nanoseconds of a random update in `bytes` that are much more than the caches hold.
///
/// Part `h = C / S` of the updates finds its line in a cache of `C` bytes with LRU (any line is as likely as any other),
/// the others read a line and, since every line is dirty, write one back.
#[expect(clippy::cast_precision_loss, reason = "sizes, for a ratio")]
pub fn update_ns(figures: &MemoryFigures, caches: &CacheConfig, core: Core, bytes: u64) -> f64 {
    let cached = caches.levels().map(|level| level.size).max().unwrap_or(0) as f64;
    let missed = 1.0 - (cached / bytes as f64).min(1.0);
    missed * closed_loop_ns(figures, 1.0, core.lines_in_flight as f64, 1.0)
}

/// Things of one line each that are asked for independently: with which probability, and how many are asked for so.
pub type Popularity = (f64, f64);

/// Share of the accesses that find their line in a cache of `lines` lines with LRU.
///
/// Che's approximation (Che, Tung, Wang, IEEE JSAC 20(7), 2002; its accuracy: Fricker, Robert, Roberts, ITC 2012): a thing
/// of probability `p` is there with probability `1 - exp(-p · T)`, where `T` is such that these sum up to `lines`.
#[expect(clippy::cast_precision_loss, reason = "counts of lines")]
pub fn che_hit_rate(things: &[Popularity], lines: u64) -> f64 {
    let held = |time: f64| things.iter().map(|(p, count)| count * (1.0 - (-p * time).exp())).sum::<f64>();
    if lines as f64 >= things.iter().map(|(_, count)| count).sum() {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    while held(high) < lines as f64 {
        high *= 2.0;
    }
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if held(middle) < lines as f64 {
            low = middle;
        } else {
            high = middle;
        }
    }
    let total: f64 = things.iter().map(|(p, count)| p * count).sum();
    things.iter().map(|(p, count)| p * count * (1.0 - (-p * low).exp())).sum::<f64>() / total
}

/// Nanoseconds of an access that is waited for, to one of `things`, behind the caches; the misses load the memory, with
/// `other_ns` of other work to each access.
///
/// Each level is taken as an LRU cache of its own size that sees all accesses: `Σ (hₖ - hₖ₋₁) · lₖ + (1 - h) · L(u)`, with
/// the hit rates by [`che_hit_rate`].
#[expect(clippy::cast_precision_loss, reason = "lines, for a latency")]
pub fn behind_caches_ns(figures: &MemoryFigures, caches: &CacheConfig, things: &[Popularity], other_ns: f64) -> f64 {
    let mut below = 0.0;
    let mut hits = 0.0;
    for level in caches.levels() {
        let rate = che_hit_rate(things, level.size / LINE);
        hits += (rate - below).max(0.0) * level.latency_ns;
        below = f64::max(below, rate);
    }
    let mut each = figures.read_latency_ns.value;
    for _ in 0..50 {
        let load = (1.0 - below) * LINE as f64 * 1e9 / (each + other_ns) / figures.read_bandwidth.value;
        each = hits + (1.0 - below) * figures.read_latency_ns.value * figures.latency_factor(load);
    }
    each
}

/// Nanoseconds of a get of [`zipf_store`](super::kernel::zipf_store): two accesses that wait for each other.
pub fn zipf_get_ns(figures: &MemoryFigures, caches: &CacheConfig, zipf: &Zipf) -> f64 {
    // A bucket and a value for each key, each asked for once a get.
    let things: Vec<Popularity> = zipf.probabilities().map(|probability| (probability, 2.0)).collect();
    2.0 * behind_caches_ns(figures, caches, &things, 0.0)
}

/// Nanoseconds of a lookup of [`btree`](super::kernel::btree).
///
/// Each line of a node is used by a lookup that comes to the node with a probability that the binary search decides; the
/// first use is an access behind the caches, further ones find it in the first level.
pub fn btree_lookup_ns(figures: &MemoryFigures, caches: &CacheConfig, keys: u64) -> f64 {
    let (things, uses) = line_uses(keys);
    let first: f64 = things.iter().map(|(p, count)| p * count).sum();
    let nearest = caches.levels().next().map_or(0.0, |level| level.latency_ns);
    let again = (uses - first) * nearest;
    first * behind_caches_ns(figures, caches, &things, again / first) + again
}
