//! Freed blocks of the strong mode wait here before they can be handed out again: a second free, and writes by who still
//! uses them, are seen for certain meanwhile.
//!
//! One for each heap, first in, first out, bounded in blocks and in bytes. When a thread ends, the latest ones stay with the heap.
//! Emptied when memory is purged on request, before an allocation fails, and by the housekeeping of heaps without a
//! thread.

use std::cell::Cell;

use tiermem_sys::sync::atomic::Ordering;

use super::allocate::seal_of;
use super::free::send_home;
use super::strong::{Since, check_fill};
use super::tail::{State, site};
use super::{key, large, report};
use crate::heap::{Heap, attach, tls};
use crate::span::{Span, State as SpanState};
use crate::{arena, meta};

/// Most blocks that wait.
const BLOCKS_MAX: usize = 4096;

/// Most bytes that they hold.
const BYTES_MAX: usize = 8 << 20;

/// Most bytes that they hold in a heap without a thread.
const IDLE_BYTES_MAX: usize = 512 << 10;

/// A large block whose memory has gone back to the OS counts as so much less.
const EMPTY_COUNTS: usize = 16;

/// See the module.
pub struct Quarantine {
    blocks: [Cell<(usize, usize)>; BLOCKS_MAX],
    first: Cell<usize>,
    len: Cell<usize>,
    bytes: Cell<usize>,
}

impl Quarantine {
    const fn new() -> Self {
        Self {
            blocks: [const { Cell::new((0, 0)) }; BLOCKS_MAX],
            first: Cell::new(0),
            len: Cell::new(0),
            bytes: Cell::new(0),
        }
    }

    fn push(&self, at: usize, bytes: usize) {
        while self.len.get() == BLOCKS_MAX || (self.len.get() > 0 && self.bytes.get() + bytes > BYTES_MAX) {
            self.pop();
        }
        self.blocks[(self.first.get() + self.len.get()) % BLOCKS_MAX].set((at, bytes));
        self.len.set(self.len.get() + 1);
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// Lets the block that has waited longest go. False if there is none.
    fn pop(&self) -> bool {
        if self.len.get() == 0 {
            return false;
        }
        let (at, bytes) = self.blocks[self.first.get()].get();
        self.first.set((self.first.get() + 1) % BLOCKS_MAX);
        self.len.set(self.len.get() - 1);
        self.bytes.set(self.bytes.get() - bytes);
        release(at);
        true
    }
}

/// The quarantine of a heap, made on first use.
fn of(heap: &Heap) -> Option<&'static Quarantine> {
    // Relaxed: only the heap's thread uses it.
    // SAFETY: null or a quarantine, which live for ever.
    if let Some(there) = unsafe { heap.quarantine.load(Ordering::Relaxed).as_ref() } {
        return Some(there);
    }
    let made = meta::place(Quarantine::new())?;
    heap.quarantine.store(std::ptr::from_ref(made).cast_mut(), Ordering::Relaxed);
    Some(made)
}

/// Keeps a block back, whose seal says so already.
pub fn keep(span: &'static Span, at: *mut u8) {
    match attach().and_then(of) {
        Some(quarantine) => quarantine.push(at.addr(), span.block_size()),
        None => release(at.addr()),
    }
}

/// Keeps a large block back, which is inaccessible already. `empty` if its memory has gone back to the OS.
pub fn keep_large(span: &'static Span, at: *mut u8, empty: bool) {
    let bytes = span.size() / if empty { EMPTY_COUNTS } else { 1 };
    match attach().and_then(of) {
        Some(quarantine) => quarantine.push(at.addr(), bytes),
        None => large::release(span),
    }
}

fn release(address: usize) {
    let Some(span) = arena::span_of(address) else { return };
    if span.state() == SpanState::Large {
        return large::release(span);
    }
    let at = std::ptr::with_exposed_provenance_mut::<u8>(address);
    let key = key(address);
    // SAFETY: a block of the span.
    let seal = unsafe { seal_of(at, span.block_size()) };
    let said = seal.load(Ordering::Relaxed);
    if key.open(said) != Some(State::Quarantined) {
        return report::not_free(span, at);
    }
    check_fill(span, at, Since::Quarantined);
    let own = span.owner().is_some_and(|owner| std::ptr::eq(owner, tls::heap()));
    seal.store(if own { key.free() } else { key.travelling(site(said)) }, Ordering::Relaxed);
    send_home(span, at);
}

/// Lets go what a heap without a thread should not keep; the caller is its thread still.
pub fn shrink(heap: &Heap) {
    // Relaxed: only the heap's thread uses it.
    // SAFETY: null or a quarantine, which live for ever.
    let Some(quarantine) = (unsafe { heap.quarantine.load(Ordering::Relaxed).as_ref() }) else { return };
    while quarantine.bytes.get() > IDLE_BYTES_MAX {
        quarantine.pop();
    }
}

/// Lets all blocks of a heap go; the caller is its thread.
pub fn drain(heap: &Heap) -> bool {
    // Relaxed: only the heap's thread uses it.
    // SAFETY: null or a quarantine, which live for ever.
    let Some(quarantine) = (unsafe { heap.quarantine.load(Ordering::Relaxed).as_ref() }) else { return false };
    let any = quarantine.len.get() > 0;
    while quarantine.pop() {}
    any
}

/// Lets all blocks of this thread go. False if there were none.
pub fn drain_own() -> bool {
    tls::attached().is_some_and(drain)
}
