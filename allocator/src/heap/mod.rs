//! Thread heaps: what a thread allocates from without asking anyone.
//!
//! A thread has one [`Heap`], which has one [`TierHeap`] for each tier that the thread uses; `malloc` goes to the
//! current one. So a tier costs nothing on the fast path, and a hint is a change of one pointer. Heaps are pooled:
//! when a thread ends, its heap, with the spans in it, waits for the next thread.

mod allocate;
mod free;
mod outbox;
mod registry;
pub mod tls;

use std::cell::Cell;
use std::ptr;

use tiermem_sys::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::inbox::{Inbox, Linked};
use crate::size_class::{CLASS_COUNT, DIRECT_COUNT, SizeClass};
use crate::span::{Block, Span, SpanCell, SpanQueue};
use crate::tiers::TIERS_MAX;

pub use allocate::Demand;
pub use outbox::Outbox;
pub use registry::{attach, collect_idle, lease, lock_for_fork, unlock_after_fork};

impl Linked for Block {
    unsafe fn set_link(node: *mut Self, next: *mut Self) {
        // SAFETY: passed on to the caller.
        unsafe { Self::set_next(node, next) }
    }
}

/// The spans of one size class in a tier heap.
#[repr(C)]
pub struct Bin {
    current: SpanCell,
    queue: SpanQueue,
}

/// What a thread has of one tier.
#[repr(C)]
pub struct TierHeap {
    /// By requested size in 16-byte steps: the current span of its class. At offset 0: the fast path's table.
    direct: [SpanCell; DIRECT_COUNT],
    bins: [Bin; CLASS_COUNT],
    tier: u8,
}

/// What a thread has.
///
/// Only the heap's thread uses it, except for `inbox`, to which anyone sends, and `pool_next`, which belongs to the
/// registry's lock. A heap in the registry's pool has no thread; whoever takes it out acts as its thread.
#[repr(C)]
pub struct Heap {
    /// Blocks that other threads have freed.
    inbox: Inbox<Block>,
    /// Blocks of other heaps that this thread has freed.
    outbox: Outbox,
    /// By tier; null until the thread uses it.
    tiers: [AtomicPtr<TierHeap>; TIERS_MAX],
    /// Tiers asked for by scope, innermost last.
    hints: [Cell<u8>; HINTS_MAX],
    hint_depth: Cell<u32>,
    /// The tier that the strategy chose last.
    strategy_tier: Cell<u8>,
    /// Whether the thread is walking its stack, which may allocate.
    pub in_site_code: Cell<bool>,
    /// The number of the heap, for statistics and for spreading.
    number: AtomicU32,
    pool_next: AtomicPtr<Heap>,
}

/// How deep scopes with tier hints may nest; deeper ones count but have no effect of their own.
pub const HINTS_MAX: usize = 32;

// SAFETY: the cells are used only by the heap's own thread, or by the one that took it out of the registry's pool
// under its lock; other threads reach the heap through `Span::owner` and use only the inbox, which is Sync.
unsafe impl Sync for Heap {}

/// The heap of a thread that has none: it owns no span.
pub static EMPTY_HEAP: Heap = Heap::new();

/// The heap of a thread that ends and has given its heap back.
pub static ENDED_HEAP: Heap = Heap::new();

/// A tier heap that is always out of blocks.
pub static EMPTY_TIER_HEAP: TierHeap = TierHeap::new(0);

impl TierHeap {
    const fn new(tier: u8) -> Self {
        Self {
            direct: [const { SpanCell::empty() }; DIRECT_COUNT],
            bins: [const { Bin { current: SpanCell::empty(), queue: SpanQueue::new() } }; CLASS_COUNT],
            tier,
        }
    }

    /// The fast path of small requests: a block, or null.
    #[inline(always)]
    pub fn pop_small(&self, size: usize) -> *mut Block {
        debug_assert!(size <= crate::size_class::SMALL_MAX);
        self.direct[size.div_ceil(crate::size_class::ALIGNMENT_MIN)].get().pop()
    }

    /// Takes a block from the class's current span, or null.
    #[inline]
    pub fn pop(&self, class: SizeClass) -> *mut Block {
        self.bins[class.index()].current.get().pop()
    }

    fn set_current(&self, class: SizeClass, span: &'static Span) {
        self.bins[class.index()].current.set(span);
        // Classes under a rule have no direct entry, so that each request is looked at. One from before the rule must
        // go: it would lead to a span that is no longer this bin's, or not even of this class.
        let direct = if crate::place::is_ruled(class) { &crate::span::EMPTY } else { span };
        for entry in class.direct_entries() {
            self.direct[entry].set(direct);
        }
    }
}

impl Heap {
    const fn new() -> Self {
        Self {
            inbox: Inbox::new(),
            outbox: Outbox::new(),
            tiers: [const { AtomicPtr::new(ptr::null_mut()) }; TIERS_MAX],
            hints: [const { Cell::new(0) }; HINTS_MAX],
            hint_depth: Cell::new(0),
            strategy_tier: Cell::new(0),
            in_site_code: Cell::new(false),
            number: AtomicU32::new(0),
            pool_next: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// This thread's part of a tier, made on first use. `None` if there is no memory for it.
    pub fn tier(&self, tier: u8) -> Option<&'static TierHeap> {
        let slot = self.tiers.get(usize::from(tier))?;
        // Relaxed: only the heap's thread writes and reads it.
        // SAFETY: null or a tier heap, which live for ever.
        if let Some(there) = unsafe { slot.load(Ordering::Relaxed).as_ref() } {
            return Some(there);
        }
        let made = crate::meta::place(TierHeap::new(tier))?;
        slot.store(ptr::from_ref(made).cast_mut(), Ordering::Relaxed);
        Some(made)
    }

    /// The innermost tier hint.
    pub fn hint(&self) -> Option<u8> {
        let depth = (self.hint_depth.get() as usize).min(HINTS_MAX);
        depth.checked_sub(1).map(|top| self.hints[top].get())
    }

    /// Asks for a tier until [`Heap::pop_hint`].
    pub fn push_hint(&self, tier: u8) {
        let depth = self.hint_depth.get();
        if let Some(slot) = self.hints.get(depth as usize) {
            slot.set(tier);
        }
        self.hint_depth.set(depth.saturating_add(1));
        self.select();
    }

    /// Ends the innermost [`Heap::push_hint`]. False if there is none.
    pub fn pop_hint(&self) -> bool {
        let Some(depth) = self.hint_depth.get().checked_sub(1) else { return false };
        self.hint_depth.set(depth);
        self.select();
        true
    }

    /// Remembers what the strategy chose.
    pub fn set_strategy_tier(&self, tier: u8) {
        if self.strategy_tier.replace(tier) != tier || ptr::eq(tls::current(), &raw const EMPTY_TIER_HEAP) {
            self.select();
        }
    }

    /// Makes the fast path use the hinted tier, or without a hint the strategy's.
    fn select(&self) {
        // A heap on loan to a thread that ends has no say in what that thread does next.
        if ptr::eq(tls::heap(), self)
            && let Some(tier_heap) = self.tier(self.hint().unwrap_or(self.strategy_tier.get()))
        {
            tls::set_current(tier_heap);
        }
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }
}
