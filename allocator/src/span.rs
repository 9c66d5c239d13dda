//! Spans: runs of units that are cut into blocks of one size, and the metadata that says so.
//!
//! Metadata is out of line: one [`Span`] per unit in a table of its own in DRAM, found from an address by arithmetic.
//! A program that overruns a block cannot reach it, and looking it up never touches a slow tier.

mod block;
mod hardened;
mod lists;
mod state;
mod tiles;

use std::mem::offset_of;
use std::ptr::{self, NonNull};

use tiermem_sys::sync::atomic::{
    AtomicI32, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

use crate::heap::Heap;
use crate::size_class::SizeClass;
use block::{block_at, link_to_neighbour};

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

/// Bit of `mail`: all used blocks are in the inbox.
const ALL_MAIL: u32 = 1 << 31;

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

    /// Whether it is a span of blocks of one size that belongs to this heap.
    pub fn is_of(&self, heap: &Heap) -> bool {
        self.owner().is_some_and(|owner| ptr::eq(owner, heap)) && self.state() != State::Mosaic
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

    // ---- the life of a span ----

    /// Makes this the record of a span of `class` with no block carved yet.
    pub fn begin(&self, class: SizeClass, tier: u8, owner: &'static Heap) {
        self.begin_owned(class, tier, ptr::from_ref(owner).cast_mut());
    }

    /// As [`Span::begin`], for blocks that are samples of the heap profile.
    pub fn begin_sampled(&self, class: SizeClass, tier: u8, owner: &'static Heap) {
        self.begin_owned(class, tier, ptr::from_ref(owner).cast_mut().map_addr(|at| at | SAMPLED));
    }

    fn begin_owned(&self, class: SizeClass, tier: u8, owner: *mut Heap) {
        self.free.store(ptr::null_mut(), PLAIN);
        self.allocs_left.store(0, PLAIN);
        self.frees_left.store(NEVER, PLAIN);
        self.balance.store(NEVER.wrapping_neg(), PLAIN);
        self.block_size.store(class.block_size() as u32, PLAIN);
        self.allocations.store(0, PLAIN);
        self.capacity.store(class.span_capacity() as u32, PLAIN);
        self.carved.store(0, PLAIN);
        self.units.store(class.span_units() as u16, PLAIN);
        self.class.store(class.index() as u8, PLAIN);
        self.tier.store(tier, PLAIN);
        self.owner.store(owner, PLAIN);
        self.set_state(State::Current);
    }

    /// Notes where the first block lies, before a span begins.
    pub fn lie_at(&self, start: usize) {
        self.start.store(start, PLAIN);
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

    /// Links up to `at_most` more blocks into the free list, before those that are there. Returns how many; 0 if all are
    /// carved already.
    ///
    /// They are linked in address order, so that a program walks memory upwards.
    pub fn carve(&self, at_most: usize) -> usize {
        let carved = self.carved.load(PLAIN) as usize;
        let count = at_most.min(self.capacity() - carved);
        if count == 0 {
            return 0;
        }
        let size = self.block_size();
        let first = block_at(self.start() + carved * size);
        let mut block = first;
        // By fours: a program that fills and empties spans all the time does little else here.
        for _ in 0..(count - 1) / 4 {
            for _ in 0..4 {
                // SAFETY: an uncarved block lies inside the span's committed memory and nobody else knows of it.
                block = unsafe { link_to_neighbour(block, size) };
            }
        }
        for _ in 0..(count - 1) % 4 {
            // SAFETY: as above.
            block = unsafe { link_to_neighbour(block, size) };
        }
        // SAFETY: as above.
        unsafe { Block::set_next(block, self.free.load(PLAIN)) };
        self.free.store(first, PLAIN);
        self.carved.store((carved + count) as u32, PLAIN);
        count
    }

    /// Lets `count` blocks be popped before the slow path is due again; the free list has at least as many.
    pub fn grant(&self, count: usize) {
        debug_assert!(count <= self.free_blocks());
        let count = count as i32;
        let change = count.wrapping_sub(self.allocs_left());
        self.balance.store(self.balance.load(PLAIN).wrapping_add(change as u32), PLAIN);
        self.allocations.store(self.allocations.load(PLAIN).wrapping_add(change as u64), PLAIN);
        self.allocs_left.store(count, PLAIN);
    }

    /// Makes the span a mosaic, whose tiles know of all its carved blocks. Those on its free list are to be collected next.
    pub fn become_mosaic(&self, tiles: &'static Tiles) {
        self.grant(0);
        self.attend_after(self.used() as u32);
        self.allocations.store(0, PLAIN);
        self.size.store(ptr::from_ref(tiles).expose_provenance(), PLAIN);
        // Release pairs with the Acquire in `tiles`.
        self.state.store(State::Mosaic as u8, Ordering::Release);
    }

    /// The tiles of a mosaic.
    pub fn tiles(&self) -> Option<&'static Tiles> {
        // Acquire pairs with the Release in `become_mosaic`.
        if self.state.load(Ordering::Acquire) != State::Mosaic as u8 {
            return None;
        }
        let tiles: *const Tiles = ptr::with_exposed_provenance(self.size.load(PLAIN));
        // SAFETY: set before the state; tiles live for ever.
        unsafe { tiles.as_ref() }
    }

    /// Takes all of the free list.
    pub fn take_list(&self) -> *mut Block {
        let list = self.free.load(PLAIN);
        self.free.store(ptr::null_mut(), PLAIN);
        list
    }

    /// `count` more blocks of a mosaic are in use.
    pub fn expect_frees(&self, count: u32) {
        // Not through `attend_after`, which keeps what is in use as it is.
        self.frees_left.store(self.frees_left.load(PLAIN).wrapping_add(count), PLAIN);
    }

    /// Makes this a tray with the `count` blocks of the list at `first`, none of them given out yet.
    pub fn become_tray(&self, class: SizeClass, tier: u8, first: *mut Block, count: usize) {
        self.begin_owned(class, tier, ptr::null_mut());
        self.free.store(first, PLAIN);
        self.capacity.store(count as u32, PLAIN);
        self.carved.store(count as u32, PLAIN);
        self.set_state(State::Tray);
    }

    /// Has the owner look at the span after `count` more frees.
    fn attend_after(&self, count: u32) {
        let change = count.wrapping_sub(self.frees_left.load(PLAIN));
        self.balance.store(self.balance.load(PLAIN).wrapping_sub(change), PLAIN);
        self.frees_left.store(count, PLAIN);
    }

    /// Makes the span its bin's current one; how many blocks are freed to it does not matter meanwhile.
    pub fn make_current(&self) {
        self.attend_after(NEVER);
        self.set_state(State::Current);
    }

    /// Puts the span to sleep: it has too few free blocks to be worth allocating from. It wakes when some more have been
    /// freed. Returns how many blocks it had leave to give out.
    pub fn sleep(&self) {
        self.grant(0);
        self.attend_after((self.used() as u32).min(self.worthwhile()).max(1));
        self.set_state(State::Asleep);
    }

    /// Puts the span to sleep until its last block is freed: nothing more is allocated from it.
    pub fn sleep_until_empty(&self) {
        self.grant(0);
        self.attend_after((self.used() as u32).max(1));
        self.set_state(State::Asleep);
    }

    /// Ends the sleep; the owner looks again when the last block has been freed.
    pub fn wake(&self) {
        self.attend_after(self.used() as u32);
        self.set_state(State::Queued);
    }

    /// Free blocks for which a span is worth waking: an eighth, so that it serves a run of allocations and not a single
    /// one.
    fn worthwhile(&self) -> u32 {
        (self.capacity.load(PLAIN) / 8).max(1)
    }

    /// Puts an [empty](Span::empty) span back where failed attempts have moved it from.
    #[inline]
    pub fn refresh(&self) {
        // Only now and then: [`EMPTY`] is every thread's.
        if self.allocs_left.load(PLAIN) < NOTHING - (1 << 16) {
            self.allocs_left.store(NOTHING, PLAIN);
        }
    }

    // ---- mail: blocks in the owner's inbox, counted and used by the purger alone ----

    /// One more block of the span is in the inbox.
    pub fn expect_mail(&self) {
        self.mail.store(self.mail.load(PLAIN).wrapping_add(1), PLAIN);
    }

    /// Whether all used blocks are in the inbox, or were when this was asked first.
    pub fn is_all_mail(&self) -> bool {
        let mail = self.mail.load(PLAIN);
        if mail & ALL_MAIL != 0 {
            return true;
        }
        let all = mail != 0 && mail as usize == self.used();
        if all {
            self.mail.store(mail | ALL_MAIL, PLAIN);
        }
        all
    }

    /// One of those blocks is done with. True if it was the last one.
    pub fn take_mail(&self) -> bool {
        let mail = self.mail.load(PLAIN).wrapping_sub(1);
        let last = mail == ALL_MAIL;
        self.mail.store(if last { 0 } else { mail }, PLAIN);
        last
    }

    /// The blocks stay in the inbox.
    pub fn keep_mail(&self) {
        self.mail.store(0, PLAIN);
    }

    /// Whether the free that brought `frees_left` to 0 still stands.
    pub fn is_due(&self) -> bool {
        self.frees_left.load(PLAIN) == 0
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
