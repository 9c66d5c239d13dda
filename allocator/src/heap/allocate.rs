//! The slow path of allocation within one tier: finding the next block of a class.

use tiermem_tiers::Provenance;

use super::{Heap, TierHeap};
use crate::geometry::UNIT_SIZE;
use crate::pool::{Fit, Refusal, is_bad};
use crate::size_class::{BLOCK_SIZE, CLASS_COUNT, SizeClass};
use crate::span::{Block, Span, State};
use crate::{arena, harden, tiers};

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
        tiers::pool(self.tier).heed();
        loop {
            let span = self.view.get(class);
            if let Some(block) = span.pop() {
                return Ok(block.as_ptr());
            }
            let state = span.state();
            if state == State::Current && is_bad(span.start()) {
                heap.leave_bad(self, class, span);
                continue;
            }
            if matches!(state, State::Current | State::Tray) {
                let ready = make_ready(span, class);
                if ready > 0 {
                    match self.sampler.pass(class, ready) {
                        0 => {
                            if let Ok(sample) = self.allocate_sample(heap, class, may_grow) {
                                return Ok(sample.as_ptr());
                            }
                            // No span for it: the sample is lost, but not the request, for which there are blocks.
                            span.grant(1);
                        }
                        before => span.grant(before),
                    }
                    continue;
                }
                if state == State::Current {
                    span.sleep();
                }
            }
            let next = match self.queues[class.index()].pop_front() {
                Some(queued) if is_bad(queued.start()) => {
                    queued.sleep_until_empty();
                    continue;
                }
                Some(queued) => {
                    queued.make_current();
                    queued
                }
                None => match self.take_more(heap, class, may_grow) {
                    Ok(tray) if tray.state() == State::Tray => tray,
                    Ok(new) => {
                        new.begin(class, self.tier, heap);
                        new
                    }
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
}

impl TierHeap {
    /// Gaps of mosaics on a tray, or units for a new span, whose record is for the caller to begin; or, if there are none, the
    /// last gap that can be found.
    fn take_more(
        &'static self,
        heap: &'static Heap,
        class: SizeClass,
        may_grow: bool,
    ) -> Result<&'static Span, Refusal> {
        self.fill_tray(heap, class)
            .map_or_else(|| new_span(self.tier, class, may_grow), Ok)
            .or_else(|refusal| self.fill_tray_at_all_costs(class).ok_or(refusal))
    }
}

/// Takes units for a span of `class` from a tier; the record of the first one is for the caller to begin.
pub(super) fn new_span(tier: u8, class: SizeClass, may_grow: bool) -> Result<&'static Span, Refusal> {
    let units = class.span_units();
    let run = tiers::pool(tier).take(units, UNIT_SIZE, may_grow, Fit::Tight, Provenance::Spans)?;
    let span = arena::record_of(run.start).ok_or(Refusal::AddressSpace)?;
    span.lie_at(run.start);
    if harden::has_tails() {
        span.forget_asked();
    }
    for back in 1..units {
        if let Some(record) = arena::record_of(run.start + back * UNIT_SIZE) {
            record.begin_interior(back);
        }
    }
    Ok(span)
}

/// As [`Span::carve`]; in a hardened process the blocks then look as free ones do there.
pub(super) fn carve(span: &Span, at_most: usize) -> usize {
    let count = span.carve(at_most);
    if count > 0 && harden::has_tails() {
        harden::prepare(span, count);
    }
    count
}

/// Makes blocks of the current span ready to be given out. Returns how many it has then; 0 if they are too few.
pub(super) fn make_ready(span: &Span, class: SizeClass) -> usize {
    let mut free = span.free_blocks();
    let few = class.span_capacity() / 16;
    if free <= few && span.state() == State::Current {
        free += carve(span, CARVED_AT_ONCE[class.index()].into());
        if free < few {
            return 0;
        }
    }
    free
}
