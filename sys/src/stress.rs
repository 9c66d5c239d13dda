//! Loops that load memory in a known way, for measuring it: dependent loads for latency, streams for bandwidth.
//!
//! The ideas are those of lmbench's `lat_mem_rd` (McVoy and Staelin, USENIX 1996), STREAM (McCalpin, 1995) and Intel's
//! Memory Latency Checker (loaded latency). None of these loops is inlined into its caller, so that its code does not
//! depend on where it is called from.

use std::hint::black_box;

/// Words (of 8 bytes) in a cache line.
const LINE: usize = 8;

/// Memory arranged as one random cycle over all of its cache lines. Every load's address is the result of the load
/// before it, so neither prefetching nor out-of-order execution hides its latency.
#[derive(Debug)]
pub struct Ring<'m> {
    /// Invariant: the first word of every line is the index of the first word of a line.
    words: &'m [u64],
}

impl<'m> Ring<'m> {
    /// Arranges the memory. Takes about two random accesses a line.
    ///
    /// # Panics
    /// If there are less than two lines.
    pub fn new(words: &'m mut [u64], seed: u64) -> Self {
        let lines = words.len() / LINE;
        assert!(lines >= 2, "a ring has at least two lines");
        for (line, word) in words.iter_mut().step_by(LINE).take(lines).enumerate() {
            *word = (line * LINE) as u64;
        }
        // Sattolo's shuffle (1986): a random permutation that is a single cycle.
        let mut random = seed | 1;
        for line in (1..lines).rev() {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let other = (random % line as u64) as usize;
            words.swap(line * LINE, other * LINE);
        }
        Self { words }
    }

    /// Follows the cycle for `steps` loads (rounded up to a multiple of 16) from `start`, an answer of this function
    /// or 0, and returns where it got to.
    #[inline(never)]
    pub fn follow(&self, start: u64, steps: u64) -> u64 {
        let mut at = if start < self.words.len() as u64 && start.is_multiple_of(LINE as u64) { start } else { 0 };
        for _ in 0..steps.div_ceil(16) {
            for _ in 0..16 {
                // SAFETY: `at` is the index of the first word of a line: at the start as just checked, then by the
                // invariant of `words`, which nobody can change while it is borrowed.
                at = unsafe { *self.words.get_unchecked(at as usize) };
            }
        }
        black_box(at)
    }

    /// Lines in the cycle.
    pub fn lines(&self) -> u64 {
        (self.words.len() / LINE) as u64
    }
}

/// Reads all of the memory once, in order, with ordinary loads, as wide as the compiler makes them.
#[inline(never)]
pub fn read(words: &[u64]) -> u64 {
    let mut sums = [0u64; 16];
    let (blocks, rest) = words.as_chunks::<16>();
    for block in blocks {
        for (sum, word) in sums.iter_mut().zip(block) {
            *sum = sum.wrapping_add(*word);
        }
    }
    black_box(sums.iter().chain(rest).fold(0, |all, &sum| all.wrapping_add(sum)))
}

/// How [`write()`] writes on this kind of machine, in words.
pub const WRITES: &str = if cfg!(target_arch = "x86_64") { "non-temporal stores" } else { "ordinary stores" };

/// Writes all of the memory once, in order: on x86-64 with non-temporal stores, which do not read the lines first, so
/// that the figure is of writes alone; elsewhere with ordinary stores.
#[inline(never)]
pub fn write(words: &mut [u64], value: u64) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m128i, _mm_set1_epi64x, _mm_sfence, _mm_stream_si128};
        #[expect(clippy::cast_possible_wrap, reason = "the bits matter, not the sign")]
        // SAFETY: SSE2 is part of x86-64.
        let both = unsafe { _mm_set1_epi64x(value as i64) };
        // SAFETY: any bytes are valid for both types.
        let (head, body, tail) = unsafe { words.align_to_mut::<__m128i>() };
        head.fill(value);
        tail.fill(value);
        for place in body {
            // SAFETY: a valid, aligned place, as align_to_mut promises; SSE2 is part of x86-64.
            unsafe { _mm_stream_si128(place, both) };
        }
        // SAFETY: orders the non-temporal stores before anything that follows, as the memory model expects.
        unsafe { _mm_sfence() };
    }
    #[cfg(not(target_arch = "x86_64"))]
    words.fill(black_box(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_one_cycle_over_all_lines() {
        for lines in [2usize, 3, 64, 1000] {
            let mut words = vec![0; lines * LINE];
            let ring = Ring::new(&mut words, 42);
            let mut seen = vec![false; lines];
            let mut at = 0u64;
            for _ in 0..lines {
                assert!(!std::mem::replace(&mut seen[at as usize / LINE], true), "line visited twice");
                at = ring.words[at as usize];
            }
            assert_eq!(at, 0, "back at the start after all {lines} lines");
        }
    }

    #[test]
    fn a_start_outside_the_ring_is_not_followed() {
        let mut words = vec![0; 4 * LINE];
        let ring = Ring::new(&mut words, 1);
        assert_eq!(ring.follow(u64::MAX, 16), ring.follow(0, 16));
    }

    #[test]
    fn every_word_is_written_and_read() {
        let mut words = vec![0; 1003];
        // Starting at an odd word makes a head and a tail that are not 16-byte aligned.
        write(&mut words[1..1002], 3);
        assert_eq!((words[0], words[1002]), (0, 0));
        assert_eq!(read(&words), 3 * 1001);
    }
}
