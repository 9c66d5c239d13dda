//! Giving heaps to threads and taking them back.
//!
//! In a child of fork the heaps of the parent's other threads stay as they are, unused: they may have been copied in
//! the middle of a change. Blocks freed into them are lost to the child.

use std::ptr;

use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::Ordering;
use tiermem_sys::thread::ExitHook;

use super::{Heap, tls};
use crate::{meta, tiers};

/// Heaps without a thread, linked through `pool_next`; the last one in is the first one out, because it is warm.
struct Registry {
    idle: *mut Heap,
    made: u32,
}

// SAFETY: the pointers are to heaps, which live for ever; the lock's holder has the list alone.
unsafe impl Send for Registry {}

static REGISTRY: Lock<Registry> = Lock::new(Registry { idle: ptr::null_mut(), made: 0 });

/// Runs [`detach`] when a thread ends.
static EXIT_HOOK: ExitHook = ExitHook::new(on_thread_exit);

/// The thread's heap; it gets one if it has none. `None` if there is no memory for it, or the thread is ending.
pub fn attach() -> Option<&'static Heap> {
    tls::attached().or_else(attach_new)
}

#[cold]
fn attach_new() -> Option<&'static Heap> {
    if tls::is_ending() {
        return None;
    }
    let heap = take()?;
    let current = heap.tier(0)?;
    // From here on allocation works in this thread, which the hook may need.
    tls::set_heap(heap);
    tls::set_current(current);
    EXIT_HOOK.arm();
    Some(heap)
}

/// An idle heap, or a new one.
fn take() -> Option<&'static Heap> {
    let idle = REGISTRY.lock().pop();
    let heap = match idle {
        Some(heap) => heap,
        None => {
            let made = meta::place(Heap::new())?;
            let mut registry = REGISTRY.lock();
            registry.made += 1;
            made.number.store(registry.made, Ordering::Relaxed);
            made
        }
    };
    heap.hint_depth.set(0);
    heap.strategy_tier.set(0);
    Some(heap)
}

/// A heap for one operation: the thread's own, or, if the thread is ending, a borrowed one.
///
/// Destructors that run after [`detach`] may still allocate. They could have a heap for the rest of the thread's life
/// and the exit hook again, but the C library runs destructors in four rounds only: a heap taken in the last one
/// would never come back.
pub struct Lease {
    heap: &'static Heap,
    borrowed: bool,
}

/// See [`Lease`]. `None` if there is no memory for a heap.
pub fn lease() -> Option<Lease> {
    match attach() {
        Some(heap) => Some(Lease { heap, borrowed: false }),
        None if tls::is_ending() => Some(Lease { heap: take()?, borrowed: true }),
        None => None,
    }
}

impl Lease {
    /// The heap.
    pub const fn heap(&self) -> &'static Heap {
        self.heap
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.borrowed {
            REGISTRY.lock().push(self.heap);
        }
    }
}

extern "C" fn on_thread_exit() {
    detach();
}

/// Takes the thread's heap away and keeps it for the next thread. See [`Lease`] for what the thread does after that.
fn detach() {
    let Some(heap) = tls::attached() else { return };
    heap.outbox.send_all();
    heap.collect();
    tls::end();
    REGISTRY.lock().push(heap);
}

/// Does the housekeeping of heaps that have no thread: takes in what was sent to them, gives empty spans back.
pub fn collect_idle() {
    // Taken out one by one, so that a new thread never waits long; the ones done wait in a list of their own.
    let mut done = Registry { idle: ptr::null_mut(), made: 0 };
    loop {
        let Some(heap) = REGISTRY.lock().pop() else { break };
        heap.collect();
        heap.trim();
        done.push(heap);
    }
    while let Some(heap) = done.pop() {
        REGISTRY.lock().push(heap);
    }
}

/// Takes the registry's lock, to hold it across a fork.
pub fn lock_for_fork() {
    EXIT_HOOK.lock_for_fork();
    REGISTRY.acquire();
}

/// Lets it go, in the parent or the child.
///
/// # Safety
/// [`lock_for_fork`] came before, in this thread or in the one it was copied from.
pub unsafe fn unlock_after_fork() {
    // SAFETY: passed on to the caller.
    unsafe { REGISTRY.release() };
    // SAFETY: passed on to the caller.
    unsafe { EXIT_HOOK.unlock_after_fork() };
}

impl Registry {
    fn pop(&mut self) -> Option<&'static Heap> {
        // SAFETY: null or a heap, which live for ever.
        let heap: &'static Heap = unsafe { self.idle.as_ref() }?;
        self.idle = heap.pool_next.load(Ordering::Relaxed);
        Some(heap)
    }

    fn push(&mut self, heap: &'static Heap) {
        heap.pool_next.store(self.idle, Ordering::Relaxed);
        self.idle = ptr::from_ref(heap).cast_mut();
    }
}

impl Heap {
    /// The thread's part of a tier, if it has used it.
    pub(super) fn tier_if_used(&self, tier: usize) -> Option<&'static super::TierHeap> {
        // SAFETY: null or a tier heap, which live for ever.
        unsafe { self.tiers.get(tier)?.load(Ordering::Relaxed).as_ref() }
    }

    /// Blocks of other heaps that this thread has freed.
    pub const fn outbox(&self) -> &super::Outbox {
        &self.outbox
    }
}

const _: () = assert!(tiers::TIERS_MAX == tiermem_tiers::TierId::COUNT_MAX);
