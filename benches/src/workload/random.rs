//! A small, fast, repeatable generator: every rival sees the same sequence of sizes and victims.

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator; different seeds give unrelated sequences.
    pub fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.bits()) * limit as u128) >> 64) as usize
    }

    /// Uniform in `low..=high`.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// A size whose magnitude is skewed to the small end: `low << k` with probability 2⁻ᵏ, and uniform within that
    /// octave. Programs allocate many small blocks and few large ones.
    pub fn skewed(&mut self, low: usize, octaves: u32) -> usize {
        let octave = self.bits().trailing_zeros().min(octaves - 1);
        let base = low << octave;
        base + self.below(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_in_their_range_and_reach_its_ends() {
        let mut random = Random::new(7);
        let (mut low, mut high) = (false, false);
        for _ in 0..10_000 {
            let value = random.between(3, 9);
            assert!((3..=9).contains(&value));
            low |= value == 3;
            high |= value == 9;
            let size = random.skewed(16, 6);
            assert!((16..16 << 6).contains(&size));
        }
        assert!(low && high);
    }
}
