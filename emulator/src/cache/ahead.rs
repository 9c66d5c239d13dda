//! Looking at lines before their turn.

use super::LINE;
use super::level::Sets;

/// Levels that the host should have at hand when a line's turn comes: the second one and the shared one. The first is small, and a
/// third is rare.
#[derive(Clone, Copy, Debug)]
pub struct Outlook<'a> {
    pub(super) second: Sets<'a>,
    pub(super) last: Sets<'a>,
}

impl Outlook<'_> {
    /// Says that an access to `address` is about to come.
    #[inline(always)]
    pub fn expect(&self, address: u64) {
        self.second.expect(address / LINE);
        self.last.expect(address / LINE);
    }
}

/// Lines that are remembered: a few less than a first level has, so that what goes on being used is not looked at again.
const LINES: usize = 256;

/// Remembers a few lines, so that those that are asked for again and again are [expected](super::Hierarchy::expect) once.
/// What it forgets is expected once more, which costs a little time and changes nothing.
#[derive(Clone, Copy, Debug)]
pub struct LookedAt([u64; LINES]);

impl Default for LookedAt {
    fn default() -> Self {
        Self([u64::MAX; LINES])
    }
}

impl LookedAt {
    /// Whether the line of `address` is none of those that it remembers. From now on it is.
    #[inline]
    pub fn is_new(&mut self, address: u64) -> bool {
        let line = address / LINE;
        // The multiplier of Fibonacci hashing (Knuth, TAOCP 3, 6.4): arrays that are walked together share their low bits.
        let slot =
            &mut self.0[(line.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - LINES.trailing_zeros())) as usize % LINES];
        std::mem::replace(slot, line) != line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_new_once_as_long_as_few_others_come() {
        let mut looked_at = LookedAt::default();
        // Three arrays, 16 MiB apart, sixteen bytes at a time.
        let walk = (0..4096_u64).step_by(16).flat_map(|at| (0..3).map(move |array| (array << 24) + at));
        let new = walk.filter(|&address| looked_at.is_new(address)).count();
        assert!((192..400).contains(&new), "{new} of 768 steps through 192 lines");
    }
}
