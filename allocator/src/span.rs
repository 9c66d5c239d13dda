//! Spans: runs of units that are cut into blocks of one size, and the metadata that says so.
//!
//! Metadata is out of line: one [`Span`] per unit in a table of its own in DRAM, found from an address by arithmetic.
//! A program that overruns a block cannot reach it, and looking it up never touches a slow tier.

mod block;
mod hardened;
mod life;
mod lists;
mod mail;
mod state;
mod tiles;

use std::mem::offset_of;
use std::ptr::{self, NonNull};

use tiermem_sys::sync::atomic::{
    AtomicI32, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

use crate::heap::Heap;
use crate::size_class::SizeClass;

pub use block::Block;
pub use hardened::Nothing;
pub use lists::{SpanCell, SpanQueue};
pub use state::State;
pub use tiles::{TILE, Tiles};

/// Metadata of a span, in the record of its first unit.
///
/// ```text
///  0 free ─────────► block ► block ► …   allocate: pop, free: push (owner thread only)
///  8 owner           the heap whose thread may do so, perhaps with the tag `SAMPLED`; anyone may read it while holding a
///                    block of the span. Large: null, or the tag alone
/// 16 allocs_left     allocations until the slow path is due; `free` holds at least as many blocks. A pop that finds 0
///                    makes it negative and takes nothing
/// 20 frees_left      frees until the owner must look at the span; the free that brings it to 0 takes the slow path
/// 24 balance         blocks in use = balance + frees_left - max(allocs_left, 0), all modulo 2³²
/// 28 block_size      bytes
/// 32 allocations     blocks ever handed out = allocations - max(allocs_left, 0), modulo 2⁶⁴
/// 40 capacity, 44 carved (blocks that have been linked into `free` so far; the rest is untouched memory)
/// 48 units, 50 class, 51 tier, 52 state, 56 units_back
/// 64 next, 72 prev   links in the bin's queue
/// 80 start           address of the first block
/// 88 size            Large: bytes from `start` that the program may use. Mosaic: address of its tiles
/// 96 zeroed          Large only: 1 if the memory is known to be zero when handed out
/// 97 fronted         Large and hardened only: 1 if an inaccessible OS page comes first, and then the block
/// 100 mail           blocks in the owner's inbox, while the purger counts; else 0
/// 104 asked          Large and hardened only: bytes asked for, plus 1; 0 once it was freed
/// 112 site, 120 freed_by   Large and hardened only: who allocated and who freed it
/// ```
///
/// The two countdowns are all that the fast paths count. What they say together is exact at any moment; see
/// [`Span::used`]. As `allocs_left` bounds what may be popped, the fast path needs no check for the end of the list.
///
/// Fields are atomics so that statistics may be read by any thread; except for `owner`, only the owner's thread (or,
/// for a span in no heap, the holder of its pool's lock) writes them, so plain loads and stores (`Relaxed`) suffice:
/// nothing is published through them. A block changes threads through the program or through an inbox, and either
/// orders these writes before the next owner's reads.
#[repr(C, align(128))]
pub struct Span {
    free: AtomicPtr<Block>,
    owner: AtomicPtr<Heap>,
    allocs_left: AtomicI32,
    frees_left: AtomicU32,
    balance: AtomicU32,
    block_size: AtomicU32,
    allocations: AtomicU64,
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
    fronted: AtomicU8,
    mail: AtomicU32,
    asked: AtomicUsize,
    site: AtomicUsize,
    freed_by: AtomicUsize,
}

const _: () = assert!(size_of::<Span>() == 128);

/// Plain load and store; see [`Span`] for why nothing stronger is needed.
const PLAIN: Ordering = Ordering::Relaxed;

/// Bit of `owner`: the blocks are samples of the heap profile. It makes the owner's own frees take the slow path.
const SAMPLED: usize = 1;

const _: () = assert!(align_of::<Heap>() > SAMPLED);

/// `frees_left` of a span that need not be looked at however many of its blocks are freed.
const NEVER: u32 = u32::MAX;

/// What an [empty](Span::empty) span has to give: so far below zero that no number of threads brings it round to something.
const NOTHING: i32 = i32::MIN / 2;

/// The empty span of tables that have none of their own yet.
pub static EMPTY: Span = Span::empty();

impl Span {
    /// What the fast paths in [`fast`](crate::fast) have as numbers.
    pub const ASSERT_LAYOUT: () = {
        assert!(offset_of!(Span, free) == 0 && offset_of!(Span, owner) == 8);
        assert!(offset_of!(Span, allocs_left) == 16 && offset_of!(Span, frees_left) == 20);
        assert!(Block::LINK_OFFSET == 0);
    };

    /// A span that is always out of blocks: where tables lead that have no span for a class. Each attempt to pop from it
    /// counts it further down; [`Span::refresh`] puts it back.
    pub const fn empty() -> Self {
        Self { allocs_left: AtomicI32::new(NOTHING), ..Self::unused() }
    }

    const fn unused() -> Self {
        Self {
            free: AtomicPtr::new(ptr::null_mut()),
            owner: AtomicPtr::new(ptr::null_mut()),
            allocs_left: AtomicI32::new(0),
            frees_left: AtomicU32::new(0),
            balance: AtomicU32::new(0),
            block_size: AtomicU32::new(0),
            allocations: AtomicU64::new(0),
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
            mail: AtomicU32::new(0),
            fronted: AtomicU8::new(0),
            asked: AtomicUsize::new(0),
            site: AtomicUsize::new(0),
            freed_by: AtomicUsize::new(0),
        }
    }

    // ---- the fast path ----

    /// Takes a block off the free list; `None` when the slow path is due.
    #[inline(always)]
    pub fn pop(&self) -> Option<NonNull<Block>> {
        let left = self.allocs_left.load(PLAIN).wrapping_sub(1);
        self.allocs_left.store(left, PLAIN);
        if left < 0 {
            return None;
        }
        // SAFETY: the list holds at least `allocs_left` blocks, and that was not 0.
        let block = unsafe { NonNull::new_unchecked(self.free.load(PLAIN)) };
        // SAFETY: blocks on the free list are free, and the list is the calling owner's.
        self.free.store(unsafe { Block::next(block.as_ptr()) }, PLAIN);
        Some(block)
    }

    /// Puts a block back on the free list. True if the span then needs its owner's attention: see `frees_left`.
    ///
    /// # Safety
    /// The caller owns the span, and `block` is a block of it that is in use and that nobody uses any more.
    #[inline(always)]
    #[must_use]
    pub unsafe fn push(&self, block: *mut Block) -> bool {
        // SAFETY: the block is the caller's from here on.
        unsafe { Block::set_next(block, self.free.load(PLAIN)) };
        self.free.store(block, PLAIN);
        let left = self.frees_left.load(PLAIN).wrapping_sub(1);
        self.frees_left.store(left, PLAIN);
        left == 0
    }

    /// What a thread's [key](crate::heap::tls::key) is compared with: the owner's address, except where a free is to take the
    /// slow path.
    #[inline(always)]
    pub fn lock(&self) -> *mut Heap {
        self.owner.load(PLAIN)
    }

    /// The heap whose thread may allocate from and free to this span.
    #[inline]
    pub fn owner(&self) -> Option<&'static Heap> {
        // SAFETY: null or a heap, with or without the tag; heaps live for ever.
        unsafe { self.owner.load(PLAIN).map_addr(|at| at & !SAMPLED).as_ref() }
    }

    /// Whether this heap owns the span.
    pub fn is_of(&self, heap: &Heap) -> bool {
        self.owner().is_some_and(|owner| ptr::eq(owner, heap))
    }

    /// Blocks that have been on the free list so far.
    pub fn carved(&self) -> usize {
        self.carved.load(PLAIN) as usize
    }

    /// Whether its blocks are samples of the heap profile.
    pub fn is_sampled(&self) -> bool {
        self.owner.load(PLAIN).addr() & SAMPLED != 0
    }

    /// Notes that a large block is a sample of the heap profile.
    pub fn mark_sampled(&self) {
        self.owner.store(ptr::without_provenance_mut(SAMPLED), PLAIN);
    }

    // ---- what the record says ----

    fn allocs_left(&self) -> i32 {
        self.allocs_left.load(PLAIN).max(0)
    }

    /// Blocks that are not on the free list or uncarved: held by the program or on their way in an inbox or outbox.
    pub fn used(&self) -> usize {
        let frees_left = self.frees_left.load(PLAIN);
        self.balance.load(PLAIN).wrapping_add(frees_left).wrapping_sub(self.allocs_left() as u32) as usize
    }

    /// Blocks on the free list.
    pub fn free_blocks(&self) -> usize {
        (self.carved.load(PLAIN) as usize).saturating_sub(self.used())
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
        self.allocations.load(PLAIN).wrapping_sub(self.allocs_left() as u64)
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
