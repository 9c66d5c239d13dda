//! Blocks of other heaps on their way home, collected by receiver so that one exchange sends many.

use std::cell::Cell;
use std::ptr;

use super::Heap;
use crate::span::Block;

/// Receivers collected for at a time.
const SLOTS: usize = 8;

/// A slot is sent when it holds this many bytes, so that a thread keeps little of others' memory.
const BYTES_MAX: usize = 16 << 10;

struct Slot {
    receiver: Cell<*const Heap>,
    first: Cell<*mut Block>,
    last: Cell<*mut Block>,
    bytes: Cell<usize>,
}

/// See the module.
pub struct Outbox {
    slots: [Slot; SLOTS],
    any: Cell<bool>,
}

impl Outbox {
    pub(super) const fn new() -> Self {
        Self { slots: [const { Slot::new() }; SLOTS], any: Cell::new(false) }
    }

    /// Takes a block of `bytes` bytes for `receiver`.
    ///
    /// # Safety
    /// `block` is in use, in a span of `receiver`, and the caller gives it up. The caller is this outbox's thread.
    pub unsafe fn put(&self, receiver: &'static Heap, block: *mut Block, bytes: usize) {
        let slot = &self.slots[receiver.number() as usize % SLOTS];
        if !ptr::eq(slot.receiver.get(), receiver) {
            slot.send();
            slot.receiver.set(receiver);
        }
        // SAFETY: the block is ours now.
        unsafe { Block::set_next(block, slot.first.get()) };
        if slot.first.get().is_null() {
            slot.last.set(block);
        }
        slot.first.set(block);
        slot.bytes.set(slot.bytes.get() + bytes);
        self.any.set(true);
        if slot.bytes.get() >= BYTES_MAX {
            slot.send();
        }
    }

    /// Sends everything.
    pub fn send_all(&self) {
        if self.any.replace(false) {
            self.slots.iter().for_each(Slot::send);
        }
    }
}

impl Slot {
    const fn new() -> Self {
        Self {
            receiver: Cell::new(ptr::null()),
            first: Cell::new(ptr::null_mut()),
            last: Cell::new(ptr::null_mut()),
            bytes: Cell::new(0),
        }
    }

    fn send(&self) {
        let first = self.first.replace(ptr::null_mut());
        if first.is_null() {
            return;
        }
        self.bytes.set(0);
        // SAFETY: `put` stored a receiver, which lives for ever, and a chain of its blocks, which are ours.
        unsafe { (*self.receiver.get()).send(first, self.last.get()) };
    }
}
