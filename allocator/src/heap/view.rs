//! Views: which span serves a request, by size class.

use std::ptr::NonNull;

use super::allocate::make_ready;
use crate::size_class::{ALIGNMENT_MIN, CLASS_COUNT, DIRECT_COUNT, SMALL_MAX, SizeClass};
use crate::span::{Block, EMPTY, Span, SpanCell, State};
use crate::{place, profile};

/// The spans that a thread allocates from, one per size class.
///
/// A tier heap has a view of its own spans; a heap has one that mixes tiers, each class as the strategy chose. The
/// thread's fast path goes through one of them: the mixed one, or while a hint is in force that of the hinted tier.
#[repr(C)]
pub struct View {
    /// By requested size in 16-byte steps: the span of its class. At offset 0: the fast path's table.
    direct: [SpanCell; DIRECT_COUNT],
    by_class: [SpanCell; CLASS_COUNT],
    /// Serves what no span serves, by having nothing. The view's own, because each attempt writes to it.
    empty: Span,
}

impl View {
    /// A view that is always out of blocks.
    pub(super) const fn new() -> Self {
        Self {
            direct: [const { SpanCell::empty() }; DIRECT_COUNT],
            by_class: [const { SpanCell::empty() }; CLASS_COUNT],
            empty: Span::empty(),
        }
    }

    /// Has every class lead to this view's own empty span. To be called once, where the view lives from now on.
    pub(super) fn begin(&'static self) {
        self.direct.iter().chain(&self.by_class).for_each(|entry| entry.set(&self.empty));
    }

    /// Puts the empty span back where failed attempts have moved it from. For the slow path.
    #[inline]
    pub fn refresh(&self) {
        self.empty.refresh();
        // That of the views which have not [begun](Self::begin): of threads that come or go.
        EMPTY.refresh();
    }

    /// The fast path of small requests: a block, or `None` when the slow path is due.
    #[inline(always)]
    pub fn pop_small(&self, size: usize) -> Option<NonNull<Block>> {
        debug_assert!(size <= SMALL_MAX);
        self.direct[size.div_ceil(ALIGNMENT_MIN)].get().pop()
    }

    /// The span that serves small requests of `size` bytes.
    #[inline(always)]
    pub fn small(&self, size: usize) -> &'static Span {
        self.direct[size.div_ceil(ALIGNMENT_MIN)].get()
    }

    /// Takes a block from the class's span; `None` when the slow path is due.
    #[inline]
    pub fn pop(&self, class: SizeClass) -> Option<NonNull<Block>> {
        self.get(class).pop()
    }

    /// Takes a block from the class's span after that has taken in what it got back, or carved some more; `None` if it has
    /// too little left, and the slow path is due.
    pub fn pop_after_refill(&self, class: SizeClass) -> Option<NonNull<Block>> {
        if self.refill(class) { self.get(class).pop() } else { None }
    }

    /// Has the class's span take in what it got back, or carve some more. False if the slow path is due.
    pub fn refill(&self, class: SizeClass) -> bool {
        let span = self.get(class);
        // While a profile is made, how many may be given out is not for the span alone to say.
        if span.state() != State::Current || profile::interval() != 0 {
            return false;
        }
        let ready = make_ready(span, class);
        span.grant(ready);
        ready > 0
    }

    /// The class's span.
    #[inline]
    pub fn get(&self, class: SizeClass) -> &'static Span {
        self.by_class[class.index()].get()
    }

    /// Has the class served from `span`; by nothing if that is `None`.
    pub(super) fn set(&'static self, class: SizeClass, span: Option<&'static Span>) {
        let span = span.unwrap_or(&self.empty);
        self.by_class[class.index()].set(span);
        // Classes under a rule have no direct entry, so that each request is looked at. One from before the rule must
        // go: it would lead to a span that is no longer this view's, or not even of this class.
        let direct = if place::is_ruled(class) { &self.empty } else { span };
        for entry in class.direct_entries() {
            self.direct[entry].set(direct);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::EMPTY_VIEW;

    /// Each new thread's first request counts the common empty span down, and only its own view's was put back: after two
    /// thousand million threads it would have had something to give.
    #[test]
    fn attempts_on_a_view_that_has_not_begun_are_put_back() {
        let full = EMPTY.attempts_left();
        (0..1 << 17).for_each(|_| assert!(EMPTY_VIEW.pop_small(16).is_none()));
        assert!(EMPTY.attempts_left() < full);
        EMPTY_VIEW.refresh();
        assert!(EMPTY.attempts_left() > full - (1 << 16));
    }
}
