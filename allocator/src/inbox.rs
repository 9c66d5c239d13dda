//! Remote frees: how a block gets back to the thread that owns its span.
//!
//! Each heap has one inbox, a Treiber stack of which only the owner takes, and only all of it at once: so there is
//! no ABA problem, and a push is one compare-and-swap. Senders collect blocks for the same owner in an outbox and
//! push whole chains, after the message batching of snmalloc (Liétar et al., ISMM 2019).

use tiermem_sys::sync::atomic::{AtomicPtr, Ordering};

/// Something that can be chained through one link.
pub trait Linked {
    /// Writes the link of `node`.
    ///
    /// # Safety
    /// The caller owns `node`.
    unsafe fn set_link(node: *mut Self, next: *mut Self);
}

/// Chains of nodes on their way to one receiver.
#[repr(align(64))]
pub struct Inbox<T> {
    head: AtomicPtr<T>,
}

impl<T: Linked> Default for Inbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Linked> Inbox<T> {
    /// An empty inbox.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { head: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// An empty inbox.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { head: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Sends the chain from `first` to `last`.
    ///
    /// # Safety
    /// The caller owns every node of the chain and gives them up; `last` can be reached from `first`.
    pub unsafe fn send(&self, first: *mut T, last: *mut T) {
        // Relaxed: the value is only compared; nothing is read through it.
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: the chain is the caller's until the exchange succeeds.
            unsafe { T::set_link(last, head) };
            // Release pairs with the Acquire in `take`: the receiver sees the links, and everything that the
            // program wrote to the blocks before it freed them.
            match self.head.compare_exchange_weak(head, first, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// The node that was sent last, which may be taken at any moment: to be compared only. Null if there is none.
    pub fn peek(&self) -> *mut T {
        // Relaxed: nothing is read through it.
        self.head.load(Ordering::Relaxed)
    }

    /// Takes everything that was sent: the first node of a chain, or null. The taker owns it.
    pub fn take(&self) -> *mut T {
        // Relaxed: an empty inbox may be missed and is looked at again; the swap below orders.
        if self.head.load(Ordering::Relaxed).is_null() {
            return std::ptr::null_mut();
        }
        // Acquire pairs with the Release of every sender in the chain: each exchange reads the head that the one
        // before wrote, so they form one release sequence.
        self.head.swap(std::ptr::null_mut(), Ordering::Acquire)
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
