//! Buffers of handlers that interrupted this library, not taken yet.

use std::ptr::null_mut;

use tiermem_emulator::instrumented::Batch;
use tiermem_emulator::instrumented::filter::Passed;
use tiermem_sys::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::buffer::Buffer;

/// Those of one thread. Its handlers add to the list, between any two instructions of the thread, which takes it whole.
#[derive(Default)]
pub struct Deferred {
    /// The one that came last; each leads to the one before it.
    last: AtomicPtr<u8>,
    waiting: AtomicUsize,
}

/// Buffers that wait at once.
const MOST: usize = 256;

impl Deferred {
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        // Relaxed, all here: only one thread uses the list, and its handlers.
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// Has a buffer wait that a handler filled up to `end`, whose position leads elsewhere now. Whether there is room.
    pub fn add(&self, buffer: Buffer, end: usize, passed: Passed) -> bool {
        if self.waiting.load(Ordering::Relaxed) >= MOST {
            return false;
        }
        // SAFETY: the handler's own buffer.
        unsafe { buffer.fill(end, passed) };
        let before = Buffer::from_ptr(self.last.swap(buffer.as_ptr(), Ordering::Relaxed));
        // Another handler that interrupts this one here finds the list begin with this buffer, and leads to it.
        // SAFETY: it waits, and is taken only by the thread that this handler has interrupted.
        unsafe { buffer.replace_next(before) };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Gives what waits to `take`, the longest first.
    pub fn take(&self, mut take: impl FnMut(&Batch<'_>)) {
        loop {
            // A handler comes before the exchange or after it.
            let mut from = Buffer::from_ptr(self.last.swap(null_mut(), Ordering::Relaxed));
            if from.is_none() {
                return;
            }
            let mut first = None;
            while let Some(waits) = from {
                // SAFETY: in no list but this one.
                from = unsafe { waits.replace_next(first) };
                first = Some(waits);
            }
            while let Some(waits) = first {
                // SAFETY: the handler that filled it has ended.
                unsafe { waits.take(|_, batch| take(batch)) };
                // SAFETY: as above.
                first = unsafe { waits.replace_next(None) };
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                // SAFETY: nobody's position leads into it, and it waits no more.
                unsafe { waits.release() };
            }
        }
    }
}
