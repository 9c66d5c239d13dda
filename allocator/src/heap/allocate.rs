//! The slow path of allocation within one tier: finding the next block of a class.

use tiermem_tiers::Provenance;

use super::{Heap, TierHeap};
use crate::geometry::UNIT_SIZE;
use crate::pool::{Fit, Refusal};
use crate::size_class::{BLOCK_SIZE, CLASS_COUNT, SizeClass};
use crate::span::{Block, Span, State};
use crate::{arena, tiers};

/// What is wanted of a tier.
#[derive(Clone, Copy, Debug)]
pub enum Demand {
    /// A block of a class.
    Class(SizeClass),
    /// A large block: bytes, alignment, and whether it is likely to grow.
    Large(usize, usize, Fit),
}

/// How many blocks of a class are carved at a time: about 4 KiB of them, so that a span's memory is touched only as it is
/// used.
const CARVED_AT_ONCE: [u16; CLASS_COUNT] = {
    const BYTES: u32 = 4096;
    let mut counts = [1; CLASS_COUNT];
    let mut class = 0;
    while class < CLASS_COUNT && BLOCK_SIZE[class] <= BYTES {
        counts[class] = (BYTES / BLOCK_SIZE[class]) as u16;
        class += 1;
    }
    counts
};

impl TierHeap {
    /// Takes a block of `class`, from what the thread has of the tier or from a new span.
    pub(crate) fn allocate(
        &'static self,
        heap: &'static Heap,
        class: SizeClass,
        may_grow: bool,
    ) -> Result<*mut Block, Refusal> {
        loop {
            let span = self.view.get(class);
            if let Some(block) = span.pop() {
                return Ok(block.as_ptr());
            }
            if span.state() == State::Current {
                if refill(span, class) {
                    continue;
                }
                span.sleep();
            }
            let next = match self.queues[class.index()].pop_front() {
                Some(queued) => {
                    queued.make_current();
                    queued
                }
                None => match self.new_span(heap, class, may_grow) {
                    Ok(new) => new,
                    Err(refusal) => {
                        // The span that fell asleep must not stay current: a free would otherwise not wake it.
                        heap.set_current(self, class, None);
                        return Err(refusal);
                    }
                },
            };
            heap.set_current(self, class, Some(next));
        }
    }

    fn new_span(&self, heap: &Heap, class: SizeClass, may_grow: bool) -> Result<&'static Span, Refusal> {
        let units = class.span_units();
        let run = tiers::pool(self.tier).take(units, UNIT_SIZE, may_grow, Fit::Tight, Provenance::Spans)?;
        let span = arena::record_of(run.start).ok_or(Refusal::AddressSpace)?;
        for back in 1..units {
            if let Some(record) = arena::record_of(run.start + back * UNIT_SIZE) {
                record.begin_interior(back);
            }
        }
        span.begin(class, self.tier, run.start, std::ptr::from_ref(heap).cast_mut());
        Ok(span)
    }
}

/// Lets the current span give out more of its blocks. False if it has too few.
pub(super) fn refill(span: &Span, class: SizeClass) -> bool {
    let few = class.span_capacity() / 16;
    let mut free = span.free_blocks();
    if free <= few {
        free += span.carve(CARVED_AT_ONCE[class.index()].into());
        if free < few.max(1) {
            return false;
        }
    }
    span.grant(free);
    true
}
