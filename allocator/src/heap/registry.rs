//! Giving heaps to threads and taking them back.
//!
//! In a child of fork the heaps of the parent's other threads stay as they are, unused: they may have been copied in
//! the middle of a change. Blocks freed into them are lost to the child.

use std::ptr;

use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicPtr, Ordering};
use tiermem_sys::thread::ExitHook;

use super::{Heap, tls};
use crate::{fork, harden, meta, purge, recorder, tiers};

/// Heaps without a thread, linked through `pool_next`; the last one in is the first one out, because it is warm.
///
/// `last` is meaningful unless `first` is null. `count` is the length of the list.
struct Registry {
    first: *mut Heap,
    last: *mut Heap,
    count: u32,
    made: u32,
    /// Heaps of threads that a fork did not copy.
    lost: u32,
}

// SAFETY: the pointers are to heaps, which live for ever; the lock's holder has the list alone.
unsafe impl Send for Registry {}

static REGISTRY: Lock<Registry> =
    Lock::new(Registry { first: ptr::null_mut(), last: ptr::null_mut(), count: 0, made: 0, lost: 0 });

/// All heaps, linked through `all_next`.
static ALL: AtomicPtr<Heap> = AtomicPtr::new(ptr::null_mut());

/// Runs [`detach`] when a thread ends.
static EXIT_HOOK: ExitHook = ExitHook::new(on_thread_exit);

/// The thread's heap; it gets one if it has none. `None` if there is no memory for it, or the thread is ending.
#[inline]
pub fn attach() -> Option<&'static Heap> {
    tls::attached().or_else(attach_new)
}

#[cold]
fn attach_new() -> Option<&'static Heap> {
    if tls::is_ending() {
        return None;
    }
    let heap = take()?;
    // From here on allocation works in this thread, which the hook may need.
    tls::set_heap(heap);
    heap.use_view(&heap.strategy);
    if harden::sees_frees() {
        tls::close_key();
    }
    EXIT_HOOK.arm();
    fork::register();
    Some(heap)
}

/// An idle heap, or a new one.
fn take() -> Option<&'static Heap> {
    harden::begin();
    let idle = REGISTRY.lock().pop();
    let heap = match idle {
        Some(heap) => heap,
        None => {
            let made = meta::place(Heap::new())?;
            made.strategy.begin();
            made.closed.begin();
            let mut registry = REGISTRY.lock();
            registry.made += 1;
            made.number.store(registry.made, Ordering::Relaxed);
            // Relaxed: the registry's lock orders the makers.
            made.all_next.store(ALL.load(Ordering::Relaxed), Ordering::Relaxed);
            // Release pairs with the Acquire in `for_each`.
            ALL.store(ptr::from_ref(made).cast_mut(), Ordering::Release);
            made
        }
    };
    heap.hint_depth.set(0);
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
    harden::shrink(heap);
    let busy = heap.busy();
    heap.outbox.send_all();
    heap.collect();
    drop(busy);
    recorder::thread_ends(heap);
    tls::end();
    REGISTRY.lock().push(heap);
    if nobody_has_one() {
        purge::end();
        recorder::nobody_has_a_heap();
    }
}

/// Whether all heaps are without a thread. Not while [`collect_idle`] has one out, which therefore asks again.
fn nobody_has_one() -> bool {
    let registry = REGISTRY.lock();
    registry.count + registry.lost == registry.made
}

/// Does the housekeeping of heaps that have no thread: takes in what was sent to them, gives empty spans back.
pub fn collect_idle() {
    // Only one at a time is taken out: a thread that finds none makes another, which would then be one too many for ever.
    // The list turns once around. A thread that comes or ends meanwhile shifts it, and a heap waits for the next time.
    let count = REGISTRY.lock().count;
    for _ in 0..count {
        let Some(heap) = REGISTRY.lock().pop() else { return };
        let busy = heap.busy();
        harden::drain(heap);
        heap.collect();
        heap.trim();
        drop(busy);
        REGISTRY.lock().push_last(heap);
    }
    if nobody_has_one() {
        purge::end();
        recorder::nobody_has_a_heap();
    }
}

/// Heaps that were made, and how many of them no thread uses.
pub fn counts() -> (u32, u32) {
    let registry = REGISTRY.lock();
    (registry.made, registry.count)
}

/// Calls `visit` with every heap that there is.
pub fn for_each(mut visit: impl FnMut(&'static Heap)) {
    // Acquire pairs with the Release in `take`.
    // SAFETY: null or a heap, which live for ever.
    let mut next = unsafe { ALL.load(Ordering::Acquire).as_ref() };
    while let Some(heap) = next {
        visit(heap);
        // SAFETY: as above.
        next = unsafe { heap.all_next.load(Ordering::Relaxed).as_ref() };
    }
}

/// Gives back what others have freed to heaps whose threads have been away since `before`. False if some of it should be
/// looked at again.
pub fn return_mail(before: u32) -> bool {
    let mut done = true;
    for_each(|heap| done &= heap.return_mail(before));
    done
}

/// In a child of fork, which has this thread alone: the heaps of the others have nobody who would give them back.
pub fn restart_in_child() {
    let mut registry = REGISTRY.lock();
    registry.lost = registry.made - registry.count - u32::from(tls::attached().is_some());
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
        let heap: &'static Heap = unsafe { self.first.as_ref() }?;
        // Relaxed, here and below: written and read under the registry's lock only.
        self.first = heap.pool_next.load(Ordering::Relaxed);
        self.count -= 1;
        Some(heap)
    }

    fn push(&mut self, heap: &'static Heap) {
        let at = ptr::from_ref(heap).cast_mut();
        if self.first.is_null() {
            self.last = at;
        }
        heap.pool_next.store(self.first, Ordering::Relaxed);
        self.first = at;
        self.count += 1;
    }

    fn push_last(&mut self, heap: &'static Heap) {
        // SAFETY: as for `pop`; `last` is a heap of the list if there is a first one.
        let Some(last) = (unsafe { self.first.as_ref().and(self.last.as_ref()) }) else { return self.push(heap) };
        let at = ptr::from_ref(heap).cast_mut();
        heap.pool_next.store(ptr::null_mut(), Ordering::Relaxed);
        last.pool_next.store(at, Ordering::Relaxed);
        self.last = at;
        self.count += 1;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The housekeeping took all heaps out at once, and each thread that started meanwhile made another for good.
    #[test]
    fn housekeeping_beside_starting_threads_makes_no_more_heaps_than_threads() {
        const THREADS_AT_ONCE: u32 = 16;
        let busy: Vec<_> = (0..THREADS_AT_ONCE)
            .map(|_| {
                std::thread::spawn(|| {
                    attach();
                    std::thread::sleep(std::time::Duration::from_millis(50));
                })
            })
            .collect();
        busy.into_iter().for_each(|thread| thread.join().unwrap());
        let before = REGISTRY.lock().made;
        std::thread::scope(|scope| {
            let churn = scope.spawn(|| {
                for _ in 0..1000 {
                    std::thread::spawn(|| attach().is_some()).join().unwrap();
                }
            });
            while !churn.is_finished() {
                collect_idle();
            }
        });
        // Other tests of this process attach threads too, but few at a time.
        let made = REGISTRY.lock().made - before;
        assert!(made <= 8, "{made} heaps for threads that came one after the other");
    }

    #[test]
    fn the_list_turns_without_losing_a_heap() {
        let heaps: Vec<&'static Heap> = (0..3).map(|_| meta::place(Heap::new()).unwrap()).collect();
        let mut list = Registry { first: ptr::null_mut(), last: ptr::null_mut(), count: 0, made: 0, lost: 0 };
        heaps.iter().for_each(|heap| list.push(heap));
        for _ in 0..list.count {
            let heap = list.pop().unwrap();
            list.push_last(heap);
        }
        let order: Vec<_> = std::iter::from_fn(|| list.pop()).map(ptr::from_ref).collect();
        assert_eq!(order, heaps.iter().rev().map(|heap| ptr::from_ref(*heap)).collect::<Vec<_>>());
        list.push_last(heaps[0]);
        assert!(ptr::eq(list.pop().unwrap(), heaps[0]));
        assert!(list.pop().is_none() && list.count == 0);
    }
}
