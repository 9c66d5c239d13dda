//! The inbox and the hand-over of heaps between threads, in every order that loom finds.

use super::*;
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex};

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

// ---- the hand-over of a heap ----

/// A heap as far as the hand-over goes: what it keeps belongs to the thread that has it, and has no lock.
struct Heap {
    inbox: Inbox<Node>,
    /// Stands for the spans: blocks that came home.
    home: UnsafeCell<Vec<u32>>,
}

impl Heap {
    /// As `heap::Heap::collect`.
    fn collect(&self) {
        let arrived = consume(self.inbox.take());
        // SAFETY: the caller has the heap; loom checks it.
        self.home.with_mut(|home| unsafe { (*home).extend(arrived) });
    }
}

/// The registry of heaps without a thread.
type Idle = Mutex<Vec<Arc<Heap>>>;

/// As `heap::registry::detach`: tidies up, then gives the heap away.
fn detach(heap: Arc<Heap>, idle: &Idle) {
    heap.collect();
    idle.lock().unwrap().push(heap);
}

/// The planted fault: gives the heap away, then tidies up.
fn detach_too_early(heap: Arc<Heap>, idle: &Idle) {
    idle.lock().unwrap().push(Arc::clone(&heap));
    heap.collect();
}

/// A thread ends and gives its heap away, another one begins and takes it if it is there already, and a third one sends
/// blocks home meanwhile: none is lost, and nobody uses the heap beside its thread.
fn hand_over(detach: fn(Arc<Heap>, &Idle)) {
    loom::model(move || {
        let heap = Arc::new(Heap { inbox: Inbox::new(), home: UnsafeCell::new(Vec::new()) });
        let idle = Arc::new(Idle::new(Vec::new()));
        let sender = {
            let heap = Arc::clone(&heap);
            loom::thread::spawn(move || {
                for payload in [1, 2] {
                    let sent = std::ptr::with_exposed_provenance_mut(node(payload));
                    // SAFETY: a chain of one, ours.
                    unsafe { heap.inbox.send(sent, sent) };
                }
            })
        };
        let ending = {
            let idle = Arc::clone(&idle);
            loom::thread::spawn(move || detach(heap, &idle))
        };
        // As `heap::registry::attach_new` and `collect_idle`. The lock is let go before the heap is used.
        let taken = idle.lock().unwrap().pop();
        if let Some(heap) = taken {
            heap.collect();
            idle.lock().unwrap().push(heap);
        }
        ending.join().unwrap();
        sender.join().unwrap();
        let heap = idle.lock().unwrap().pop().unwrap();
        heap.collect();
        let mut home = heap.home.with(|home| unsafe { (*home).clone() });
        home.sort_unstable();
        assert_eq!(home, [1, 2]);
    });
}

#[test]
fn a_heap_changes_threads_while_blocks_are_sent_to_it() {
    hand_over(detach);
}

/// Negative control: a heap that is used after it was given away is caught.
#[test]
#[should_panic(expected = "Causality violation")]
fn a_heap_given_away_too_early_is_caught() {
    hand_over(detach_too_early);
}
