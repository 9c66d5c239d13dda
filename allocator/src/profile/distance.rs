//! The arithmetic of a Poisson process. (Not through the C library's `log` and `exp`: the preload would bring libm into
//! programs that do without it.)

use std::cell::Cell;

use tiermem_sys::clock;

/// Bytes until the next sample, exponentially distributed with mean `interval` bytes; at least 1. The sample is the block
/// that this byte falls into. `u64::MAX` if `interval` is 0.
///
/// `state` is the caller's random state; 0 is seeded from its address and the clock. Rounding up makes the distance
/// geometric, so that a block of `s` bytes is reached with exactly the probability `1 − exp(−s / interval)`.
pub fn distance(state: &Cell<u64>, interval: u64) -> u64 {
    if interval == 0 {
        return u64::MAX;
    }
    // In (0, 1], in steps of 2^-53.
    let uniform = ((next(state) >> 11) + 1) as f64 * f64::EPSILON / 2.0;
    let distance = -ln(uniform) * interval as f64;
    let whole = distance as u64;
    whole.saturating_add(u64::from(distance > whole as f64)).max(1)
}

/// SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, OOPSLA 2014).
fn next(state: &Cell<u64>) -> u64 {
    if state.get() == 0 {
        // Mixed below like every state, so neighbouring seeds are no harm.
        state.set((state.as_ptr().addr() as u64).rotate_left(32) ^ clock::monotonic_ns());
    }
    let fresh = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    state.set(fresh);
    let mixed = (fresh ^ fresh >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// The probability that a block of `bytes` (at least 1) is sampled: `1 − exp(−bytes / interval)`, in (0, 1].
pub fn probability(bytes: u64, interval: u64) -> f64 {
    if interval == 0 {
        return 1.0;
    }
    let x = bytes as f64 / interval as f64;
    if x > 40.0 {
        // 1 − 4·10⁻¹⁸ is no other number.
        return 1.0;
    }
    // exp(−x) = exp(−x / 2^n)^(2^n); carried as 1 − exp, so that small probabilities keep their digits:
    // 1 − (1 − p)² = p (2 − p).
    let halvings = if x > 0.125 { (x / 0.125) as u32 + 1 } else { 1 }.next_power_of_two().trailing_zeros();
    let small = x / f64::from(1u32 << halvings);
    // 1 − exp(−small), by its series; the first term left out is below 10⁻¹⁶ of the sum.
    let mut term = small;
    let mut sum = small;
    for n in 2..12 {
        term *= -small / f64::from(n);
        sum += term;
    }
    (0..halvings).fold(sum, |p, _| p * (2.0 - p))
}

/// The natural logarithm of a normal number in (0, 1].
fn ln(x: f64) -> f64 {
    const MANTISSA_BITS: u32 = f64::MANTISSA_DIGITS - 1;
    const ONE: u64 = 1.0f64.to_bits();
    let bits = x.to_bits();
    let mut exponent = (bits >> MANTISSA_BITS) as i32 - 1023;
    let mut mantissa = f64::from_bits(bits & ((1 << MANTISSA_BITS) - 1) | ONE);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    // ln m = 2 artanh((m − 1) / (m + 1)); the argument is below 0.1716, so the first term left out is below 10⁻¹⁶.
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let (square, mut power, mut sum) = (z * z, z, z);
    for n in 1..10 {
        power *= square;
        sum += power / f64::from(2 * n + 1);
    }
    f64::from(exponent) * std::f64::consts::LN_2 + 2.0 * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative, but where both are next to nothing.
    fn assert_close(got: f64, expected: f64, what: f64) {
        assert!((got - expected).abs() <= 1e-13 * expected.abs().max(1e-13), "{what}: {got:e}, expected {expected:e}");
    }

    #[test]
    fn logarithms_and_probabilities_are_those_of_the_library() {
        for step in 1..100_000u32 {
            let x = f64::from(step) / 100_000.0;
            assert_close(ln(x), x.ln(), x);
            let tiny = x * 2f64.powi(-40);
            assert_close(ln(tiny), tiny.ln(), tiny);
        }
        assert_eq!(ln(1.0), 0.0);
        for interval in [4096, 512 << 10, 1 << 30] {
            for shift in 0..34 {
                for bytes in [1u64 << shift, 3 << shift] {
                    let expected = -(-(bytes as f64 / interval as f64)).exp_m1();
                    assert_close(probability(bytes, interval), expected, bytes as f64);
                }
            }
        }
    }

    #[test]
    fn distances_are_exponential() {
        const COUNT: usize = 200_000;
        const INTERVAL: u64 = 512 << 10;
        let state = Cell::new(7);
        let mut distances: Vec<u64> = (0..COUNT).map(|_| distance(&state, INTERVAL)).collect();
        distances.sort_unstable();
        // Kolmogorov and Smirnov: the largest gap between the two distributions, and its 0.01 % critical value.
        let gap = distances.iter().enumerate().map(|(i, &d)| {
            let expected = -(-(d as f64 / INTERVAL as f64)).exp_m1();
            (expected - i as f64 / COUNT as f64).abs()
        });
        let largest = gap.fold(0.0, f64::max);
        assert!(largest < 2.23 / (COUNT as f64).sqrt(), "{largest}");
    }

    #[test]
    fn extremes_are_served() {
        let state = Cell::new(0);
        assert_eq!(distance(&state, 0), u64::MAX);
        assert_eq!(state.get(), 0, "no seed is needed yet");
        assert!((0..1000).all(|_| distance(&state, 1) >= 1));
        assert_ne!(state.get(), 0);
        assert!((0..1000).all(|_| distance(&state, u64::MAX) >= 1));
    }
}
