//! Which allocations are samples of the heap profile.
//!
//! For each class of a tier heap, samples are a Poisson process over the bytes that it hands out; processes of different
//! classes, heaps and tiers add up to one over all bytes. The distance to the next sample is drawn in advance. So a current
//! span is [granted](crate::span::Span::grant) no more blocks than come before the sample, and the slow path that follows hands the
//! sample out: whatever the fast path does, it does unwatched, and no allocation goes uncounted.
//!
//! Samples lie in spans of their own, whose records name their owner with a [tag](crate::span::Span::is_sampled). So a `free` finds that
//! it is not its own, takes the slow path, and the profile hears of it.

use std::cell::Cell;
use std::ptr::NonNull;

use super::TierHeap;

use crate::pool::{Refusal, is_bad};
use crate::profile;
use crate::size_class::{CLASS_COUNT, SizeClass};
use crate::span::{Block, SpanCell, State};

use super::Heap;
use super::allocate::{carve, new_span};

/// What a tier heap knows of its next samples.
pub struct Sampler {
    /// Mean distance with which the next samples were drawn, bytes; 0 if none was.
    interval: Cell<u64>,
    random: Cell<u64>,
    /// Blocks of each class before its next sample; [`FAR`] for none.
    until: [Cell<u32>; CLASS_COUNT],
    /// Bytes of large blocks up to and including the next sample's.
    until_large: Cell<u64>,
    /// Where the samples of each class lie.
    spans: [SpanCell; CLASS_COUNT],
}

const FAR: u32 = u32::MAX;

impl Sampler {
    pub(super) const fn new() -> Self {
        Self {
            interval: Cell::new(0),
            random: Cell::new(0),
            until: [const { Cell::new(FAR) }; CLASS_COUNT],
            until_large: Cell::new(u64::MAX),
            spans: [const { SpanCell::empty() }; CLASS_COUNT],
        }
    }

    /// How many of `wanted` blocks of the class come before its next sample. What is returned counts as handed out; 0 means
    /// that the next one is the sample, and draws the one after it.
    pub(super) fn pass(&self, class: SizeClass, wanted: usize) -> usize {
        self.follow_setting();
        self.step(class, wanted)
    }

    /// As [`Sampler::pass`], with the setting as it was.
    fn step(&self, class: SizeClass, wanted: usize) -> usize {
        let until = &self.until[class.index()];
        match until.get() {
            FAR => wanted,
            0 => {
                self.draw(class);
                0
            }
            left => {
                let passed = wanted.min(left as usize);
                until.set(left - passed as u32);
                passed
            }
        }
    }

    /// Whether a large block of `bytes` is a sample.
    pub(super) fn takes_large(&self, bytes: usize) -> bool {
        self.follow_setting();
        let (left, bytes) = (self.until_large.get(), bytes as u64);
        let taken = left != u64::MAX && left <= bytes;
        if taken {
            self.draw_large();
        } else if left != u64::MAX {
            self.until_large.set(left - bytes);
        }
        taken
    }

    /// Draws anew when the profile has been switched on or off or to another interval. Distances have no memory, so that is
    /// no bias.
    fn follow_setting(&self) {
        let interval = profile::interval();
        if interval != self.interval.get() {
            self.interval.set(interval);
            SizeClass::all().for_each(|class| self.draw(class));
            self.draw_large();
        }
    }

    fn draw(&self, class: SizeClass) {
        let bytes = profile::distance(&self.random, self.interval.get());
        let blocks = (bytes - 1) / class.block_size() as u64;
        let none = self.interval.get() == 0;
        self.until[class.index()].set(if none { FAR } else { blocks.min(u64::from(FAR) - 1) as u32 });
    }

    fn draw_large(&self) {
        self.until_large.set(profile::distance(&self.random, self.interval.get()));
    }
}

impl TierHeap {
    /// Takes a block that is a sample.
    pub(super) fn allocate_sample(
        &'static self,
        heap: &'static Heap,
        class: SizeClass,
        may_grow: bool,
    ) -> Result<NonNull<Block>, Refusal> {
        let place = &self.sampler.spans[class.index()];
        loop {
            let span = place.get();
            // Not from the common empty span, to which each attempt writes.
            if span.state() == State::Current && is_bad(span.start()) {
                place.set(&crate::span::EMPTY);
                super::free::retire(span);
            } else if span.state() == State::Current {
                if let Some(block) = span.pop() {
                    return Ok(block);
                }
                carve(span, 1);
                if span.has_free() {
                    span.grant(span.free_blocks());
                    continue;
                }
                span.sleep_until_empty();
                // Even if no new span can be had: this one may be empty, and gone, before the next sample.
                place.set(&crate::span::EMPTY);
            }
            let new = new_span(self.tier, class, may_grow)?;
            new.begin_sampled(class, self.tier, heap);
            place.set(new);
        }
    }

    /// Gives the empty spans of samples back.
    pub(super) fn trim_samples(&'static self) {
        for place in &self.sampler.spans {
            let span = place.get();
            if span.state() == State::Current && span.used() == 0 {
                place.set(&crate::span::EMPTY);
                super::free::release(span);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(interval: u64) -> Sampler {
        let sampler = Sampler::new();
        // As if the setting had been followed.
        sampler.random.set(1);
        sampler.interval.set(interval);
        SizeClass::all().for_each(|class| sampler.draw(class));
        sampler.draw_large();
        sampler
    }

    /// Of `total` blocks, how many are samples, when spans ask for `grant` at a time.
    fn samples(sampler: &Sampler, class: SizeClass, total: usize, grant: usize) -> usize {
        let (mut passed, mut samples) = (0, 0);
        while passed < total {
            match sampler.step(class, grant) {
                0 => (samples, passed) = (samples + 1, passed + 1),
                before => passed += before,
            }
        }
        samples
    }

    #[test]
    fn as_many_samples_as_the_process_has() {
        const INTERVAL: u64 = 64 << 10;
        for (size, grant) in [(16, 256), (112, 3), (1024, 1), (65536, 4)] {
            let class = SizeClass::of(size).unwrap();
            let total = (4000 * INTERVAL) as usize / class.block_size();
            let p = 1.0 - (-(class.block_size() as f64) / INTERVAL as f64).exp();
            let expected = p * total as f64;
            let found = samples(&sampler(INTERVAL), class, total, grant) as f64;
            let error = (expected * (1.0 - p)).sqrt();
            assert!((found - expected).abs() < 4.0 * error, "{size}: {found} samples, expected {expected} ± {error}");
        }
    }

    #[test]
    fn switched_off_nothing_is_a_sample() {
        let sampler = sampler(0);
        let class = SizeClass::of(100).unwrap();
        assert_eq!((sampler.pass(class, 1000), sampler.takes_large(1 << 40)), (1000, false));
    }
}
