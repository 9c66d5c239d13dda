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
mod loom_tests {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    struct Node {
        next: UnsafeCell<*mut Node>,
        payload: UnsafeCell<u32>,
    }

    impl Linked for Node {
        unsafe fn set_link(node: *mut Self, next: *mut Self) {
            // SAFETY: the caller owns the node; loom checks it.
            unsafe { (*node).next.with_mut(|link| *link = next) }
        }
    }

    fn node(payload: u32) -> usize {
        Box::into_raw(Box::new(Node { next: UnsafeCell::new(std::ptr::null_mut()), payload: UnsafeCell::new(payload) }))
            .expose_provenance()
    }

    /// Reads a taken chain as its owner would, and frees it.
    fn consume(mut at: *mut Node) -> Vec<u32> {
        let mut seen = Vec::new();
        while !at.is_null() {
            // SAFETY: taken from the inbox: ours. loom fails the test if a sender's write is not ordered before.
            let node = unsafe { Box::from_raw(at) };
            seen.push(node.payload.with(|value| unsafe { *value }));
            at = node.next.with(|link| unsafe { *link });
        }
        seen
    }

    /// Two senders, one of them with a chain of two, and a receiver that takes meanwhile: every block arrives once,
    /// with its contents.
    #[test]
    fn every_block_arrives_once() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::<Node>::new());
            let senders: Vec<_> = [vec![1], vec![2, 3]]
                .into_iter()
                .map(|payloads| {
                    let inbox = Arc::clone(&inbox);
                    loom::thread::spawn(move || {
                        let nodes: Vec<*mut Node> =
                            payloads.iter().map(|&p| std::ptr::with_exposed_provenance_mut(node(p))).collect();
                        for pair in nodes.windows(2) {
                            // SAFETY: both are ours.
                            unsafe { Node::set_link(pair[0], pair[1]) };
                        }
                        // SAFETY: the chain is ours and linked.
                        unsafe { inbox.send(nodes[0], nodes[nodes.len() - 1]) };
                    })
                })
                .collect();
            let mut seen = consume(inbox.take());
            for sender in senders {
                sender.join().unwrap();
            }
            seen.extend(consume(inbox.take()));
            seen.sort_unstable();
            assert_eq!(seen, [1, 2, 3]);
        });
    }

    /// The same with the exchange's Release weakened: loom must see the race, or the test above proves nothing.
    #[test]
    #[should_panic(expected = "Causality violation")]
    fn a_weakened_exchange_is_caught() {
        loom::model(|| {
            let head = Arc::new(AtomicPtr::<Node>::new(std::ptr::null_mut()));
            let sender = {
                let head = Arc::clone(&head);
                loom::thread::spawn(move || {
                    head.store(std::ptr::with_exposed_provenance_mut(node(7)), Ordering::Relaxed);
                })
            };
            let taken = head.swap(std::ptr::null_mut(), Ordering::Acquire);
            consume(taken);
            sender.join().unwrap();
            consume(head.swap(std::ptr::null_mut(), Ordering::Acquire));
        });
    }
}
