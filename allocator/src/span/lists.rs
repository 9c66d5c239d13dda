//! Records in lists and tables: the queues of the bins, and the pointers of the fast path's tables.

use std::ptr;

use tiermem_sys::sync::atomic::{AtomicPtr, Ordering};

use super::{EMPTY, Span};

/// Lists belong to one heap's thread; see [`Span`] for why nothing stronger is needed.
const PLAIN: Ordering = Ordering::Relaxed;

/// A queue of spans, linked through their records.
#[repr(C)]
pub struct SpanQueue {
    head: AtomicPtr<Span>,
    tail: AtomicPtr<Span>,
}

impl SpanQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()), tail: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Appends a span that is in no queue.
    pub fn push_back(&self, span: &'static Span) {
        let tail = self.tail.load(PLAIN);
        span.prev.store(tail, PLAIN);
        span.next.store(ptr::null_mut(), PLAIN);
        match record(tail) {
            Some(last) => last.next.store(as_ptr(span), PLAIN),
            None => self.head.store(as_ptr(span), PLAIN),
        }
        self.tail.store(as_ptr(span), PLAIN);
    }

    /// Puts a span that is in no queue first.
    pub fn push_front(&self, span: &'static Span) {
        let head = self.head.load(PLAIN);
        span.next.store(head, PLAIN);
        span.prev.store(ptr::null_mut(), PLAIN);
        match record(head) {
            Some(first) => first.prev.store(as_ptr(span), PLAIN),
            None => self.tail.store(as_ptr(span), PLAIN),
        }
        self.head.store(as_ptr(span), PLAIN);
    }

    /// The first span, which stays.
    pub fn first(&self) -> Option<&'static Span> {
        record(self.head.load(PLAIN))
    }

    /// Takes the first span.
    pub fn pop_front(&self) -> Option<&'static Span> {
        let first = record(self.head.load(PLAIN))?;
        self.remove(first);
        Some(first)
    }

    /// Takes out a span that is in this queue.
    pub fn remove(&self, span: &'static Span) {
        let (next, prev) = (span.next.load(PLAIN), span.prev.load(PLAIN));
        match record(prev) {
            Some(before) => before.next.store(next, PLAIN),
            None => self.head.store(next, PLAIN),
        }
        match record(next) {
            Some(after) => after.prev.store(prev, PLAIN),
            None => self.tail.store(prev, PLAIN),
        }
        span.next.store(ptr::null_mut(), PLAIN);
        span.prev.store(ptr::null_mut(), PLAIN);
    }
}

fn record(at: *mut Span) -> Option<&'static Span> {
    // SAFETY: links and table entries hold null or records of the metadata table (or `EMPTY`), which live for ever.
    unsafe { at.as_ref() }
}

fn as_ptr(span: &'static Span) -> *mut Span {
    ptr::from_ref(span).cast_mut()
}

/// A pointer to a record, for the tables of the fast path.
#[repr(transparent)]
pub struct SpanCell(AtomicPtr<Span>);

impl SpanCell {
    /// A pointer to [`EMPTY`].
    pub const fn empty() -> Self {
        Self(AtomicPtr::new((&raw const EMPTY).cast_mut()))
    }

    /// The record.
    #[inline(always)]
    pub fn get(&self) -> &'static Span {
        // SAFETY: the cell is never null and holds a record that lives for ever.
        unsafe { &*self.0.load(PLAIN) }
    }

    /// Points to another record.
    pub fn set(&self, span: &'static Span) {
        self.0.store(as_ptr(span), PLAIN);
    }
}
