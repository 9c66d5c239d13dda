//! Views: which span serves a request, by size class.

use crate::place;
use crate::size_class::{ALIGNMENT_MIN, CLASS_COUNT, DIRECT_COUNT, SMALL_MAX, SizeClass};
use crate::span::{Block, EMPTY, Span, SpanCell};

/// The spans that a thread allocates from, one per size class.
///
/// A tier heap has a view of its own spans; a heap has one that mixes tiers, each class as the strategy chose. The
/// thread's fast path goes through one of them: the mixed one, or while a hint is in force that of the hinted tier.
#[repr(C)]
pub struct View {
    /// By requested size in 16-byte steps: the span of its class. At offset 0: the fast path's table.
    direct: [SpanCell; DIRECT_COUNT],
    by_class: [SpanCell; CLASS_COUNT],
}

impl View {
    /// A view that is always out of blocks.
    pub(super) const fn new() -> Self {
        Self {
            direct: [const { SpanCell::empty() }; DIRECT_COUNT],
            by_class: [const { SpanCell::empty() }; CLASS_COUNT],
        }
    }

    /// The fast path of small requests: a block, or null.
    #[inline(always)]
    pub fn pop_small(&self, size: usize) -> *mut Block {
        debug_assert!(size <= SMALL_MAX);
        self.direct[size.div_ceil(ALIGNMENT_MIN)].get().pop()
    }

    /// Takes a block from the class's span, or null.
    #[inline]
    pub fn pop(&self, class: SizeClass) -> *mut Block {
        self.get(class).pop()
    }

    /// The class's span.
    #[inline]
    pub(super) fn get(&self, class: SizeClass) -> &'static Span {
        self.by_class[class.index()].get()
    }

    /// Has the class served from `span`.
    pub(super) fn set(&self, class: SizeClass, span: &'static Span) {
        self.by_class[class.index()].set(span);
        // Classes under a rule have no direct entry, so that each request is looked at. One from before the rule must
        // go: it would lead to a span that is no longer this view's, or not even of this class.
        let direct = if place::is_ruled(class) { &EMPTY } else { span };
        for entry in class.direct_entries() {
            self.direct[entry].set(direct);
        }
    }
}
