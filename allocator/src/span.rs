//! Spans: runs of units that are cut into blocks of one size, and the metadata that says so.
//!
//! Metadata is out of line: one [`Span`] per unit in a table of its own in DRAM, found from an address by arithmetic.
//! A program that overruns a block cannot reach it, and looking it up never touches a slow tier.

mod lists;

use std::ptr;

use tiermem_sys::sync::atomic::{AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::heap::Heap;
use crate::size_class::SizeClass;

pub use lists::{SpanCell, SpanQueue};

/// A free block: its first word links to the next free one.
#[repr(C)]
pub struct Block {
    next: *mut Block,
}

impl Block {
    /// Reads the link.
    ///
    /// # Safety
    /// `block` is a free block that the caller owns.
    #[inline(always)]
    pub unsafe fn next(block: *mut Self) -> *mut Self {
        // SAFETY: passed on to the caller; blocks are aligned to 16 bytes and hold at least as many.
        unsafe { (*block).next }
    }

    /// Writes the link.
    ///
    /// # Safety
    /// `block` is a free block that the caller owns.
    #[inline(always)]
    pub unsafe fn set_next(block: *mut Self, next: *mut Self) {
        // SAFETY: as for `next`.
        unsafe { (*block).next = next }
    }
}

/// What a unit's [`Span`] record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not in use (all-zero metadata): an address in such a unit was never handed out, or has been given back.
    Unused = 0,
    /// Part of a span that starts `units_back` units earlier.
    Interior = 1,
    /// A span from which its bin allocates now.
    Current = 2,
    /// A span with free blocks, waiting in its bin's queue.
    Queued = 3,
    /// A span without (enough) free blocks, in no list. Frees wake it.
    Asleep = 4,
    /// One large block.
    Large = 5,
}

impl State {
    const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Interior,
            2 => Self::Current,
            3 => Self::Queued,
            4 => Self::Asleep,
            5 => Self::Large,
            _ => Self::Unused,
        }
    }
}

/// Metadata of a span, in the record of its first unit.
///
/// ```text
///  0 free ─────────► block ► block ► …   allocate: pop, free: push (owner thread only)
///  8 owner          the heap whose thread may do so; anyone may read it while holding a block of the span
/// 16 count          blocks in use minus `bias`; a free that brings it to 0 takes the slow path
/// 20 block_size     bytes
/// 24 allocations    blocks ever handed out by this span
/// 32 bias           0, or, asleep, the number of used blocks at which the span wakes
/// 36 capacity, 40 carved (blocks that have been linked into `free` so far; the rest is untouched memory)
/// 44 units, 46 class, 47 tier, 48 state, 50 units_back
/// 56 next, 64 prev  links in the bin's queue
/// 72 start          address of the first block
/// 80 size           Large only: bytes from `start` that the program may use
/// 88 zeroed         Large only: 1 if the memory is known to be zero when handed out
/// ```
///
/// Fields are atomics so that statistics may be read by any thread; except for `owner`, only the owner's thread (or,
/// for a span in no heap, the holder of its pool's lock) writes them, so plain loads and stores (`Relaxed`) suffice:
/// nothing is published through them. A block changes threads through the program or through an inbox, and either
/// orders these writes before the next owner's reads.
#[repr(C, align(128))]
pub struct Span {
    free: AtomicPtr<Block>,
    owner: AtomicPtr<Heap>,
    count: AtomicU32,
    block_size: AtomicU32,
    allocations: AtomicU64,
    bias: AtomicU32,
    capacity: AtomicU32,
    carved: AtomicU32,
    units: AtomicU16,
    class: AtomicU8,
    tier: AtomicU8,
    state: AtomicU8,
    units_back: AtomicU32,
    next: AtomicPtr<Span>,
    prev: AtomicPtr<Span>,
    start: AtomicUsize,
    size: AtomicUsize,
    zeroed: AtomicU8,
}

const _: () = assert!(size_of::<Span>() == 128);

/// Plain load and store; see [`Span`] for why nothing stronger is needed.
const PLAIN: Ordering = Ordering::Relaxed;

/// A span that is always out of blocks: what the direct tables point to where a class has no span yet.
pub static EMPTY: Span = Span::unused();

impl Span {
    const fn unused() -> Self {
        Self {
            free: AtomicPtr::new(ptr::null_mut()),
            owner: AtomicPtr::new(ptr::null_mut()),
            count: AtomicU32::new(0),
            block_size: AtomicU32::new(0),
            allocations: AtomicU64::new(0),
            bias: AtomicU32::new(0),
            capacity: AtomicU32::new(0),
            carved: AtomicU32::new(0),
            units: AtomicU16::new(0),
            class: AtomicU8::new(0),
            tier: AtomicU8::new(0),
            state: AtomicU8::new(0),
            units_back: AtomicU32::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
            prev: AtomicPtr::new(ptr::null_mut()),
            start: AtomicUsize::new(0),
            size: AtomicUsize::new(0),
            zeroed: AtomicU8::new(0),
        }
    }

    // ---- the fast path ----

    /// Takes a block off the free list; null if there is none.
    #[inline(always)]
    pub fn pop(&self) -> *mut Block {
        let block = self.free.load(PLAIN);
        if !block.is_null() {
            // SAFETY: blocks on the free list are free, and the list is the calling owner's.
            self.free.store(unsafe { Block::next(block) }, PLAIN);
            self.count.store(self.count.load(PLAIN).wrapping_add(1), PLAIN);
            self.allocations.store(self.allocations.load(PLAIN).wrapping_add(1), PLAIN);
        }
        block
    }

    /// Puts a block back on the free list. True if the span then needs its owner's attention: see `count`.
    ///
    /// # Safety
    /// The caller owns the span, and `block` is a block of it that is in use and that nobody uses any more.
    #[inline(always)]
    #[must_use]
    pub unsafe fn push(&self, block: *mut Block) -> bool {
        // SAFETY: the block is the caller's from here on.
        unsafe { Block::set_next(block, self.free.load(PLAIN)) };
        self.free.store(block, PLAIN);
        let count = self.count.load(PLAIN).wrapping_sub(1);
        self.count.store(count, PLAIN);
        count == 0
    }

    /// The heap whose thread may allocate from and free to this span.
    #[inline(always)]
    pub fn owner(&self) -> *mut Heap {
        self.owner.load(PLAIN)
    }

    // ---- the life of a span ----

    /// Makes this the record of a span of `class` with no block carved yet.
    pub fn begin(&self, class: SizeClass, tier: u8, start: usize, owner: *mut Heap) {
        self.free.store(ptr::null_mut(), PLAIN);
        self.count.store(0, PLAIN);
        self.block_size.store(class.block_size() as u32, PLAIN);
        self.allocations.store(0, PLAIN);
        self.bias.store(0, PLAIN);
        self.capacity.store(class.span_capacity() as u32, PLAIN);
        self.carved.store(0, PLAIN);
        self.units.store(class.span_units() as u16, PLAIN);
        self.class.store(class.index() as u8, PLAIN);
        self.tier.store(tier, PLAIN);
        self.start.store(start, PLAIN);
        self.owner.store(owner, PLAIN);
        self.set_state(State::Current);
    }

    /// Makes this the record of one large block of `size` bytes at `start`.
    pub fn begin_large(&self, tier: u8, start: usize, size: usize, zeroed: bool) {
        self.owner.store(ptr::null_mut(), PLAIN);
        self.block_size.store(0, PLAIN);
        self.allocations.store(1, PLAIN);
        self.tier.store(tier, PLAIN);
        self.start.store(start, PLAIN);
        self.size.store(size, PLAIN);
        self.zeroed.store(u8::from(zeroed), PLAIN);
        self.set_state(State::Large);
    }

    /// Makes this the record of a unit inside a span that starts `units_back` units earlier.
    pub fn begin_interior(&self, units_back: usize) {
        self.owner.store(ptr::null_mut(), PLAIN);
        self.units_back.store(units_back as u32, PLAIN);
        self.set_state(State::Interior);
    }

    /// Forgets what the record said.
    pub fn end(&self) {
        self.owner.store(ptr::null_mut(), PLAIN);
        self.free.store(ptr::null_mut(), PLAIN);
        self.set_state(State::Unused);
    }

    /// Links up to `at_most` more blocks into the empty free list. False if all are carved already.
    ///
    /// The list is in address order, so that a program walks memory upwards.
    pub fn carve(&self, at_most: usize) -> bool {
        let carved = self.carved.load(PLAIN) as usize;
        let count = at_most.min(self.capacity() - carved);
        if count == 0 {
            return false;
        }
        let size = self.block_size();
        let first = self.start() + carved * size;
        for i in 0..count {
            let next = if i + 1 < count { first + (i + 1) * size } else { 0 };
            // SAFETY: an uncarved block lies inside the span's committed memory and nobody else knows of it.
            unsafe { Block::set_next(ptr::with_exposed_provenance_mut(first + i * size), block_at(next)) };
        }
        self.free.store(block_at(first), PLAIN);
        self.carved.store((carved + count) as u32, PLAIN);
        true
    }

    /// Puts the span to sleep: it has no free block. It wakes when `threshold` blocks have been freed.
    pub fn sleep(&self) {
        let used = self.count.load(PLAIN);
        // An eighth of the blocks, so that a woken span serves a run of allocations and not a single one.
        let threshold = (self.capacity() as u32 / 8).max(1);
        let wake_at = used.saturating_sub(threshold);
        self.bias.store(wake_at, PLAIN);
        self.count.store(used - wake_at, PLAIN);
        self.set_state(State::Asleep);
    }

    /// Ends the sleep: `count` counts all used blocks again.
    pub fn wake(&self) {
        self.count.store(self.used() as u32, PLAIN);
        self.bias.store(0, PLAIN);
        self.set_state(State::Queued);
    }

    // ---- what the record says ----

    /// Blocks that are not on the free list or uncarved: held by the program or on their way in an inbox or outbox.
    pub fn used(&self) -> usize {
        self.count.load(PLAIN).wrapping_add(self.bias.load(PLAIN)) as usize
    }

    /// Whether there is a block on the free list.
    pub fn has_free(&self) -> bool {
        !self.free.load(PLAIN).is_null()
    }

    /// Blocks in the span.
    pub fn capacity(&self) -> usize {
        self.capacity.load(PLAIN) as usize
    }

    /// Bytes per block; 0 for a large block.
    #[inline]
    pub fn block_size(&self) -> usize {
        self.block_size.load(PLAIN) as usize
    }

    /// Blocks handed out since the span began.
    pub fn allocations(&self) -> u64 {
        self.allocations.load(PLAIN)
    }

    /// Its size class. Meaningless for large blocks.
    pub fn class(&self) -> SizeClass {
        SizeClass::from_index(usize::from(self.class.load(PLAIN))).unwrap_or(const { SizeClass::of(0).unwrap() })
    }

    /// Its tier's number.
    #[inline]
    pub fn tier(&self) -> u8 {
        self.tier.load(PLAIN)
    }

    /// Address of the first block.
    #[inline]
    pub fn start(&self) -> usize {
        self.start.load(PLAIN)
    }

    /// Bytes of a large block.
    pub fn size(&self) -> usize {
        self.size.load(PLAIN)
    }

    /// Changes the size of a large block within what its units hold.
    pub fn set_size(&self, size: usize) {
        self.size.store(size, PLAIN);
    }

    /// Whether a large block was zero when it was handed out.
    pub fn is_zeroed(&self) -> bool {
        self.zeroed.load(PLAIN) != 0
    }

    /// Which kind of record this is.
    #[inline]
    pub fn state(&self) -> State {
        State::from_u8(self.state.load(PLAIN))
    }

    /// Changes the kind of record.
    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, PLAIN);
    }

    /// How many units before this one its span starts.
    #[inline]
    pub fn units_back(&self) -> usize {
        self.units_back.load(PLAIN) as usize
    }
}

fn block_at(address: usize) -> *mut Block {
    ptr::with_exposed_provenance_mut(address)
}
