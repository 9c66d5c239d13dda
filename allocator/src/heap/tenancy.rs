//! Who works on a heap's lists: its thread, in the slow path, or the purger.
//!
//! Blocks that other threads have freed wait in a heap's inbox until its thread comes by. A thread that sleeps for hours does
//! not, and what was freed would stay. So the purger looks through the inboxes of heaps whose thread has not taken the
//! slow path for a while, and gives back the spans all of whose used blocks lie in the inbox.
//!
//! The fast paths take no lock, and need none: the purger touches no span that is current, so no `malloc` meets it there;
//! and of a span all of whose used blocks were freed by others the thread has no block, so no `free` does. What is left is
//! the slow path, for which the two exclude each other here.

use std::cell::Cell;
use std::ptr;

use tiermem_sys::sync::atomic::{AtomicU32, Ordering};
use tiermem_sys::sync::{futex_wait, futex_wake_all};

use super::Heap;
use super::free::release;
use crate::arena;
use crate::span::{Block, Span, State};

const NOBODY: u32 = 0;
const OWNER: u32 = 1;
const PURGER: u32 = 2;

/// A lock that its thread may take again while it has it: a slow path may lead into another one.
pub struct Tenancy {
    tenant: AtomicU32,
    /// How often the thread has taken it.
    depth: Cell<u32>,
}

impl Tenancy {
    pub(super) const fn new() -> Self {
        Self { tenant: AtomicU32::new(NOBODY), depth: Cell::new(0) }
    }

    fn enter(&self) {
        if self.depth.get() == 0 {
            // Acquire pairs with the Release in `leave` and `hand_back`: we see the lists as the other one left them.
            while self.tenant.compare_exchange(NOBODY, OWNER, Ordering::Acquire, Ordering::Relaxed).is_err() {
                futex_wait(&self.tenant, PURGER);
            }
        }
        self.depth.set(self.depth.get() + 1);
    }

    fn leave(&self) {
        let depth = self.depth.get() - 1;
        self.depth.set(depth);
        if depth == 0 {
            self.tenant.store(NOBODY, Ordering::Release);
        }
    }

    fn seize(&self) -> bool {
        // Acquire: as in `enter`.
        self.tenant.compare_exchange(NOBODY, PURGER, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn hand_back(&self) {
        self.tenant.store(NOBODY, Ordering::Release);
        futex_wake_all(&self.tenant);
    }
}

/// The slow path is the thread's until this is dropped.
pub struct Busy<'a>(&'a Tenancy);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Heap {
    /// Keeps the purger out.
    #[inline]
    pub fn busy(&self) -> Busy<'_> {
        self.tenancy.enter();
        Busy(&self.tenancy)
    }

    /// Notes that the thread took the slow path at `now`, milliseconds of the allocator's clock.
    #[inline]
    pub fn note_awake(&self, now: u32) {
        // Relaxed: a hint for the purger.
        self.awake_ms.store(now, Ordering::Relaxed);
    }

    /// If the heap's thread has not taken the slow path since `before`: gives the spans back of which all used blocks lie in
    /// the inbox. False if the heap was left alone and has mail, so that it should be looked at again.
    pub(super) fn return_mail(&'static self, before: u32) -> bool {
        // The thread's last free counts down after it has linked the block, and we rely on seeing both if we see the one. The
        // fast path orders its stores on this processor only.
        if !cfg!(target_arch = "x86_64") {
            return true;
        }
        let head = self.inbox.peek();
        if head.is_null() || ptr::eq(head, self.seen_mail.load(Ordering::Relaxed)) {
            return true;
        }
        if self.awake_ms.load(Ordering::Relaxed) >= before || !self.tenancy.seize() {
            return false;
        }
        let mail = self.inbox.take();
        each(mail, |span, _| span.expect_mail());
        let (mut first, mut last): (*mut Block, *mut Block) = (ptr::null_mut(), ptr::null_mut());
        each(mail, |span, block| {
            if self.owns_idle(span) && span.is_all_mail() {
                if span.take_mail() {
                    self.forget_span(span);
                }
                return;
            }
            span.keep_mail();
            // SAFETY: the block is the heap's, whose lists are ours for now.
            unsafe { Block::set_next(block, first) };
            last = if last.is_null() { block } else { last };
            first = block;
        });
        if !first.is_null() {
            // SAFETY: a chain of what was taken from the inbox.
            unsafe { self.inbox.send(first, last) };
        }
        // What is left is looked at again when something is added.
        self.seen_mail.store(first, Ordering::Relaxed);
        self.tenancy.hand_back();
        true
    }

    /// Whether the span is this heap's, and no fast path allocates from it.
    fn owns_idle(&self, span: &Span) -> bool {
        matches!(span.state(), State::Asleep | State::Queued) && span.is_of(self)
    }

    fn forget_span(&self, span: &'static Span) {
        if span.state() == State::Queued
            && let Some(queue) = self.queue_of(span)
        {
            queue.remove(span);
        }
        release(span);
    }
}

/// Calls `visit` with each block of a chain and its span. It may relink the block.
fn each(mut at: *mut Block, mut visit: impl FnMut(&'static Span, *mut Block)) {
    while !at.is_null() {
        // SAFETY: the chain is the caller's.
        let next = unsafe { Block::next(at) };
        if let Some(span) = arena::span_of(at.expose_provenance()) {
            visit(span, at);
        }
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_comes_in_again_and_the_purger_does_not() {
        let tenancy = Tenancy::new();
        tenancy.enter();
        tenancy.enter();
        assert!(!tenancy.seize());
        tenancy.leave();
        assert!(!tenancy.seize(), "still in once");
        tenancy.leave();
        assert!(tenancy.seize() && !tenancy.seize());
        tenancy.hand_back();
        tenancy.enter();
        tenancy.leave();
    }
}
