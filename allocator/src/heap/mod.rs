//! Thread heaps: what a thread allocates from without asking anyone.
//!
//! A thread has one [`Heap`], which has one [`TierHeap`] for each tier that the thread uses; `malloc` goes to the
//! current one. So a tier costs nothing on the fast path, and a hint is a change of one pointer. Heaps are pooled:
//! when a thread ends, its heap, with the spans in it, waits for the next thread.

mod allocate;
mod free;
mod mosaic;
mod outbox;
mod registry;
mod sampler;
mod tenancy;
pub mod tls;
mod view;

use std::cell::Cell;
use std::ptr;

use tiermem_sys::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::harden::{self, Quarantine};
use crate::inbox::{Inbox, Linked};
use crate::recorder::Lane;
use crate::size_class::{CLASS_COUNT, SizeClass};
use crate::span::{Block, Span, SpanQueue};
use crate::tiers::TIERS_MAX;

pub use allocate::Demand;
use mosaic::Mosaics;
pub use outbox::Outbox;
pub use registry::{
    attach, collect_idle, counts, for_each, lease, lock_for_fork, restart_in_child, return_mail, unlock_after_fork,
};
use sampler::Sampler;
use tenancy::Tenancy;
pub use view::View;

impl Linked for Block {
    unsafe fn set_link(node: *mut Self, next: *mut Self) {
        // SAFETY: passed on to the caller.
        unsafe { Self::set_next(node, next) }
    }
}

/// What a thread has of one tier.
pub struct TierHeap {
    /// Its current spans.
    view: View,
    /// Its spans with free blocks that wait to become current.
    queues: [SpanQueue; CLASS_COUNT],
    sampler: Sampler,
    mosaics: Mosaics,
    tier: u8,
}

/// What a thread has.
///
/// Only the heap's thread uses it, except for `inbox`, to which anyone sends, `pool_next`, which belongs to the
/// registry's lock, and what the purger does while the thread is away (see `tenancy`). A heap in the registry's pool has no
/// thread; whoever takes it out acts as its thread.
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
    /// What the thread allocates from without a hint: each class from the tier that the strategy chose for it last.
    /// Names current spans of tier heaps only; see [`Heap::set_current`].
    strategy: View,
    /// In a hardened or recorded process: a view without spans, so that every request takes the slow path.
    closed: View,
    /// In a hardened or recorded process: the view that the thread would allocate from.
    open: AtomicPtr<View>,
    /// In a hardened process: blocks that wait before they are freed; null until there is one.
    pub quarantine: AtomicPtr<Quarantine>,
    /// In a recorded process: what is to be written.
    pub lane: Lane,
    /// Whether the thread is walking its stack, which may allocate.
    pub in_site_code: Cell<bool>,
    /// The number of the heap, for statistics and for spreading.
    number: AtomicU32,
    pool_next: AtomicPtr<Heap>,
    /// The next one of all heaps; set once.
    all_next: AtomicPtr<Heap>,
    tenancy: Tenancy,
    /// When the thread took the slow path last, milliseconds.
    awake_ms: AtomicU32,
    /// The inbox's head when the purger last looked through it.
    seen_mail: AtomicPtr<Block>,
}

/// How deep scopes with tier hints may nest; deeper ones count but have no effect of their own.
pub const HINTS_MAX: usize = 32;

// SAFETY: as for `Heap`, of which it is a part.
unsafe impl Sync for TierHeap {}

// SAFETY: the cells are used only by the heap's own thread, or by the one that took it out of the registry's pool
// under its lock; other threads reach the heap through `Span::owner` and use only the inbox, which is Sync.
unsafe impl Sync for Heap {}

/// The heap of a thread that has none: it owns no span.
pub static EMPTY_HEAP: Heap = Heap::new();

/// The heap of a thread that ends and has given its heap back.
pub static ENDED_HEAP: Heap = Heap::new();

/// A view that is always out of blocks.
pub static EMPTY_VIEW: View = View::new();

impl TierHeap {
    const fn new(tier: u8) -> Self {
        Self {
            view: View::new(),
            queues: [const { SpanQueue::new() }; CLASS_COUNT],
            sampler: Sampler::new(),
            mosaics: Mosaics::new(),
            tier,
        }
    }

    /// Whether a large block of `bytes` is a sample of the heap profile.
    pub fn samples_large(&self, bytes: usize) -> bool {
        self.sampler.takes_large(bytes)
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
            strategy: View::new(),
            closed: View::new(),
            open: AtomicPtr::new((&raw const EMPTY_VIEW).cast_mut()),
            quarantine: AtomicPtr::new(ptr::null_mut()),
            lane: Lane::new(),
            in_site_code: Cell::new(false),
            number: AtomicU32::new(0),
            pool_next: AtomicPtr::new(ptr::null_mut()),
            all_next: AtomicPtr::new(ptr::null_mut()),
            tenancy: Tenancy::new(),
            awake_ms: AtomicU32::new(0),
            seen_mail: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// This thread's part of a tier, made on first use. `None` if there is no memory for it.
    #[inline]
    pub fn tier(&self, tier: u8) -> Option<&'static TierHeap> {
        let slot = self.tiers.get(usize::from(tier))?;
        // Relaxed: only the heap's thread writes and reads it.
        // SAFETY: null or a tier heap, which live for ever.
        if let Some(there) = unsafe { slot.load(Ordering::Relaxed).as_ref() } {
            return Some(there);
        }
        Self::make_tier(slot, tier)
    }

    /// Out of line: it takes a few kilobytes of stack, of which a thread may have little.
    #[cold]
    #[inline(never)]
    fn make_tier(slot: &AtomicPtr<TierHeap>, tier: u8) -> Option<&'static TierHeap> {
        let made = crate::meta::place(TierHeap::new(tier))?;
        made.view.begin();
        slot.store(ptr::from_ref(made).cast_mut(), Ordering::Relaxed);
        Some(made)
    }

    /// The innermost tier hint.
    #[inline]
    pub fn hint(&self) -> Option<u8> {
        let depth = (self.hint_depth.get() as usize).min(HINTS_MAX);
        depth.checked_sub(1).map(|top| self.hints[top].get())
    }

    /// Asks for a tier until [`Heap::pop_hint`].
    #[inline]
    pub fn push_hint(&'static self, tier: u8) {
        let depth = self.hint_depth.get();
        if let Some(slot) = self.hints.get(depth as usize) {
            slot.set(tier);
        }
        self.hint_depth.set(depth.saturating_add(1));
        self.select();
    }

    /// Ends the innermost [`Heap::push_hint`]. False if there is none.
    #[inline]
    pub fn pop_hint(&'static self) -> bool {
        let Some(depth) = self.hint_depth.get().checked_sub(1) else { return false };
        self.hint_depth.set(depth);
        self.select();
        true
    }

    /// Makes `span` the one that a tier heap of this heap serves `class` from.
    fn set_current(&'static self, tier_heap: &'static TierHeap, class: SizeClass, span: Option<&'static Span>) {
        let before = tier_heap.view.get(class);
        tier_heap.view.set(class, span);
        // The strategy's view must not go on naming a span that sleeps, waits or has been given back.
        if ptr::eq(self.strategy.get(class), before) {
            self.strategy.set(class, span);
        }
    }

    /// Has requests of `class` without a hint go to what the thread has of `tier`, until that is used up.
    pub fn follow_strategy(&'static self, class: SizeClass, tier: u8) {
        if let Some(tier_heap) = self.tier(tier) {
            let span = tier_heap.view.get(class);
            if !ptr::eq(self.strategy.get(class), span) {
                self.strategy.set(class, Some(span));
            }
        }
    }

    /// Makes the fast path use the hinted tier's spans, or without a hint the strategy's.
    #[inline]
    fn select(&'static self) {
        // A heap on loan to a thread that ends has no say in what that thread does next.
        if ptr::eq(tls::heap(), self) {
            let hinted = self.hint().and_then(|tier| self.tier(tier));
            self.use_view(hinted.map_or(&self.strategy, |tier_heap| &tier_heap.view));
        }
    }

    /// Makes this thread allocate from `view`; in a hardened or recorded process through the slow path only.
    fn use_view(&'static self, view: &'static View) {
        // Relaxed: only the heap's thread reads and writes it.
        self.open.store(ptr::from_ref(view).cast_mut(), Ordering::Relaxed);
        tls::set_current(if harden::sees_requests() { &self.closed } else { view });
    }

    /// In a hardened or recorded process: the view to allocate from.
    #[inline(always)]
    pub fn open(&self) -> &'static View {
        // SAFETY: always a view; those live for ever.
        unsafe { &*self.open.load(Ordering::Relaxed) }
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }
}
