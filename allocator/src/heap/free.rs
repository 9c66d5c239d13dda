//! Freeing within a heap: what happens beyond the push onto a span's list.

use super::{Heap, TierHeap};
use crate::geometry::UNIT_SIZE;
use crate::pool::is_bad;
use crate::size_class::SizeClass;
use crate::span::{Block, Span, SpanQueue, State};
use crate::{arena, clock, harden, stats, tiers};

impl Heap {
    /// Frees a block of one of this heap's spans.
    ///
    /// # Safety
    /// `span` is this heap's, `block` is a block of it in use that nobody uses any more, and the caller is the
    /// heap's thread.
    pub unsafe fn free_own(&self, span: &'static Span, block: *mut Block) {
        // SAFETY: passed on to the caller.
        if unsafe { span.push(block) } {
            self.attend(span);
        }
    }

    /// Looks after a span whose `frees_left` has come to 0: it wakes up, or is empty.
    #[cold]
    pub fn attend(&self, span: &'static Span) {
        let _busy = self.busy();
        // The purger may have been faster: the last used blocks were others' frees, and the span is gone.
        if !span.is_of(self) || !span.is_due() {
            return;
        }
        let Some(queue) = self.queue_of(span) else { return };
        match span.state() {
            State::Asleep => {
                span.wake();
                if span.used() == 0 {
                    release(span);
                } else {
                    queue.push_front(span);
                }
            }
            State::Queued => {
                queue.remove(span);
                release(span);
            }
            // The current span stays, even empty: the next allocation of its class is likely near.
            State::Current => span.make_current(),
            State::Mosaic => {
                if let Some(tier_heap) = self.tier(span.tier()) {
                    tier_heap.end_mosaic(span);
                    release(span);
                }
            }
            _ => {}
        }
    }

    pub(super) fn queue_of(&self, span: &Span) -> Option<&'static SpanQueue> {
        Some(&self.tier(span.tier())?.queues[span.class().index()])
    }

    /// Frees what other threads have sent. True if there was anything.
    pub fn collect(&self) -> bool {
        let mut at = self.inbox.take();
        let any = !at.is_null();
        while !at.is_null() {
            if harden::has_tails() && !harden::arrives(self, at) {
                break;
            }
            // SAFETY: taken from the inbox: ours, and linked by its sender.
            let next = unsafe { Block::next(at) };
            if let Some(span) = arena::span_of(at.expose_provenance()) {
                // SAFETY: senders send blocks to the owner of their span, which cannot change while one is in use.
                unsafe { self.free_own(span, at) };
            }
            at = next;
        }
        any
    }

    /// Sends a block to the heap that owns it.
    ///
    /// # Safety
    /// `block` is in use, in a span of this heap, and the caller gives it up.
    pub unsafe fn send(&self, first: *mut Block, last: *mut Block) {
        // SAFETY: passed on to the caller.
        unsafe { self.inbox.send(first, last) };
        crate::purge::note_mail();
    }

    /// Before an allocation fails: makes use of the few free blocks in sleeping spans, and gives the empty current spans
    /// back. Looks at every span of the process.
    pub fn rouse(&'static self) {
        self.trim();
        for slot in tiers::all() {
            slot.pool.for_each_extent(|index| {
                for span in arena::units_of(index).filter(|span| span.is_of(self)) {
                    if span.state() == State::Asleep
                        && span.has_free()
                        && !span.is_sampled()
                        && !is_bad(span.start())
                        && let Some(queue) = self.queue_of(span)
                    {
                        span.wake();
                        // However few they are.
                        span.grant(span.free_blocks());
                        queue.push_back(span);
                    }
                }
            });
        }
    }

    /// Puts the blocks of a tray back into their mosaics.
    fn clear_tray(&self, tray: &Span) {
        // They were counted when they were cut out.
        let left = tray.free_blocks();
        stats::retire(tray.tier(), tray.class(), 0u64.wrapping_sub(left as u64));
        tray.grant(left);
        while let Some(block) = tray.pop() {
            if let Some(mosaic) = arena::record_of(block.addr().get()) {
                // SAFETY: the block was cut out of a mosaic of this heap, and nobody has it.
                unsafe { self.free_own(mosaic, block.as_ptr()) };
            }
        }
    }

    /// Stops allocating from a class's current span, which lies in a bad extent.
    #[cold]
    pub(super) fn leave_bad(&'static self, tier_heap: &'static TierHeap, class: SizeClass, span: &'static Span) {
        self.set_current(tier_heap, class, None);
        retire(span);
    }

    /// Takes back what the thread has lined up of a tier and lies in a bad extent, so that its next allocation is sound.
    #[cold]
    pub fn leave_all_bad(&'static self, tier: u8) {
        let Some(tier_heap) = self.tier_if_used(tier.into()) else { return };
        for class in SizeClass::all() {
            let span = tier_heap.view.get(class);
            match span.state() {
                State::Current if is_bad(span.start()) => self.leave_bad(tier_heap, class, span),
                // Its blocks are from anywhere in the tier, and to see from where would be to follow links in bad memory:
                // all of them are given up.
                State::Tray => {
                    self.set_current(tier_heap, class, None);
                    stats::retire(tier, class, 0u64.wrapping_sub(span.free_blocks() as u64));
                    span.grant(0);
                    span.take_list();
                }
                _ => {}
            }
        }
    }

    /// Gives the empty current spans back.
    pub fn trim(&'static self) {
        for tier in 0..tiers::count() {
            let Some(tier_heap) = self.tier_if_used(tier) else { continue };
            tier_heap.trim_samples();
            for class in SizeClass::all() {
                let span = tier_heap.view.get(class);
                match span.state() {
                    State::Current if span.used() == 0 => {
                        self.set_current(tier_heap, class, None);
                        release(span);
                    }
                    State::Tray => {
                        self.set_current(tier_heap, class, None);
                        self.clear_tray(span);
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Has nothing more allocated from a span that nothing allocates from at the moment.
pub(super) fn retire(span: &'static Span) {
    if span.used() == 0 {
        release(span);
    } else {
        span.sleep_until_empty();
    }
}

/// Gives an empty span's units back to their pool.
pub(super) fn release(span: &'static Span) {
    let (start, units, tier) = (span.start(), span.class().span_units(), span.tier());
    stats::retire(tier, span.class(), span.allocations());
    for unit in 0..units {
        if let Some(record) = arena::record_of(start + unit * UNIT_SIZE) {
            record.end();
        }
    }
    tiers::pool(tier).give_back(start, units, clock::now_ms());
    crate::purge::note_freed();
}
