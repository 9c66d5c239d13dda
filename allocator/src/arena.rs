//! The arena: one range of address space in which all extents lie, and the two tables that describe it.
//!
//! ```text
//! extent records (64 B each) | span records (128 B per unit) |        extents        …
//! ^ tables                                                   ^ base, aligned to an extent
//! ```
//!
//! Looking up an address is arithmetic: `records[(address - base) / UNIT_SIZE]`. The range is reserved once
//! (`PROT_NONE`, no memory, no commit charge) and extents are committed into it, so an address keeps its meaning
//! while the tier behind it changes. Under a limit on address space (`ulimit -v`) a reservation would itself use the
//! limit up; the range is then only *chosen*, and each extent claims its part with `MAP_FIXED_NOREPLACE`.

use std::ptr::NonNull;

use tiermem_sys::map::{self, Advice, Placement};
use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::geometry::{EXTENT_SHIFT, EXTENT_SIZE, UNIT_SHIFT, UNIT_SIZE, UNITS_PER_EXTENT};
use crate::span::{Span, State};

/// Address space asked for first; halved until the system agrees.
const RANGE_MAX: usize = 4 << 40;
const RANGE_MIN: usize = 64 << 20;
/// Range chosen under a limit on address space, however small the limit: it costs nothing until used.
const RANGE_UNRESERVED: usize = 64 << 30;
/// The tables are made accessible in steps of this many extents (1 GiB of arena, 4 MiB of span records).
const TABLE_STEP: usize = 512;

/// What the arena knows of one extent-sized place. Written under the lock of the pool that holds the extent.
#[repr(C, align(64))]
pub struct ExtentRecord {
    /// Bit per unit: free.
    pub free: AtomicU32,
    /// Bit per unit: free units that may hold old data, and resident memory.
    pub dirty: AtomicU32,
    /// Links in the pool's list, as extent index + 1; 0 for none.
    pub next: AtomicU32,
    /// See `next`.
    pub prev: AtomicU32,
    /// Where the extent lies in its tier.
    pub offset: AtomicU64,
    /// When a unit was last freed, in the purger's ticks.
    pub freed_at: AtomicU32,
    /// During a fork: both processes would share the extent, so the child copies it.
    pub copied_in_child: AtomicBool,
    /// Tier number + 1; 0 while no pool holds the extent.
    pub tier: AtomicU8,
    /// What is known of a huge OS page behind the extent; see [`Backed`](crate::pool::huge::Backed).
    pub huge: AtomicU8,
    /// The pool's list that it is in: its longest run of free units; 0 for none.
    pub run: AtomicU8,
    /// Bit per unit: free, and not to be used again, because a part of the extent is bad.
    pub withheld: AtomicU32,
    /// A part of the extent is bad: what is freed is withheld, and when all is, the tier gets the extent back.
    pub is_bad: AtomicBool,
}

const _: () = assert!(size_of::<ExtentRecord>() == 64);

/// Where the arena lies. In one place, so that the fast path finds all of it through one address.
#[repr(C)]
pub struct Position {
    base: AtomicUsize,
    len: AtomicUsize,
    spans: AtomicUsize,
    extents: AtomicUsize,
}

const _: () = assert!(std::mem::offset_of!(Position, len) == 8 && std::mem::offset_of!(Position, spans) == 16);

/// All zero (nothing is inside) until the arena is made; then never changed.
pub static POSITION: Position = Position {
    base: AtomicUsize::new(0),
    len: AtomicUsize::new(0),
    spans: AtomicUsize::new(0),
    extents: AtomicUsize::new(0),
};

/// Extents whose records are accessible.
static TABLES_END: AtomicUsize = AtomicUsize::new(0);

/// Everything that changes is under this lock; held only for bit operations, and for a call to mmap when the tables
/// grow.
pub static SPACE: Lock<Space> = Lock::new(Space::new());

/// Which extent-sized places of the arena are taken.
pub struct Space {
    /// Bit per extent: taken. Lives before the tables.
    taken: Option<NonNull<u64>>,
    /// Extents in the range.
    count: usize,
    /// All places below are taken.
    first_free: usize,
    reserved: bool,
}

// SAFETY: `taken` points to memory that only the holder of the lock uses and that is never unmapped.
unsafe impl Send for Space {}

/// Which placement a mapping into the arena must use.
#[derive(Clone, Copy)]
pub struct Claim {
    /// First address.
    pub at: NonNull<u8>,
    /// True if the range was not reserved: map with `MAP_FIXED_NOREPLACE`.
    pub exclusive: bool,
}

impl Space {
    const fn new() -> Self {
        Self { taken: None, count: 0, first_free: 0, reserved: false }
    }

    /// Makes the arena. Called again, does nothing.
    fn begin(&mut self) -> Option<()> {
        if self.taken.is_some() {
            return Some(());
        }
        let (range, reserved) = match map::address_space_limit() {
            None => (reserve_range()?, true),
            Some(_) => (choose_range()?, false),
        };
        let (start, len) = range;
        // Of each extent's share of the range: 2 MiB itself, 32 span records, one extent record, one bit.
        let per_extent = EXTENT_SIZE + UNITS_PER_EXTENT * size_of::<Span>() + size_of::<ExtentRecord>();
        let count = (len - 2 * EXTENT_SIZE) / (per_extent + 1);
        let count = count - count % TABLE_STEP.min(count / 2).max(1);
        let records = (count * size_of::<ExtentRecord>()).next_multiple_of(UNIT_SIZE);
        let spans = (count * UNITS_PER_EXTENT * size_of::<Span>()).next_multiple_of(UNIT_SIZE);
        let base = (start + records + spans).next_multiple_of(EXTENT_SIZE);
        self.reserved = reserved;
        let bitmap = map::anonymous(count.div_ceil(64) * 8).ok()?;
        self.count = count;
        POSITION.extents.store(base - spans - records, Ordering::Relaxed);
        POSITION.spans.store(base - spans, Ordering::Relaxed);
        POSITION.base.store(base, Ordering::Relaxed);
        self.grow_tables(0)?;
        self.taken = Some(bitmap.cast());
        // Release pairs with nothing on the fast path: a thread only looks up addresses that it was given by the
        // program, after this store. It is Release so that the other statics are seen by whoever sees the length.
        POSITION.len.store(count * EXTENT_SIZE, Ordering::Release);
        Some(())
    }

    /// Makes the tables accessible for the extent at `index`.
    fn grow_tables(&mut self, index: usize) -> Option<()> {
        // Relaxed: written under this lock only.
        while index >= TABLES_END.load(Ordering::Relaxed) {
            let from = TABLES_END.load(Ordering::Relaxed);
            let to = (from + TABLE_STEP).min(self.count);
            for (table, size) in [
                (POSITION.extents.load(Ordering::Relaxed), size_of::<ExtentRecord>()),
                (POSITION.spans.load(Ordering::Relaxed), UNITS_PER_EXTENT * size_of::<Span>()),
            ] {
                let os_page = map::os_page_size();
                let start = (table + from * size).next_multiple_of(os_page);
                let end = (table + to * size).next_multiple_of(os_page);
                let at = NonNull::new(std::ptr::with_exposed_provenance_mut(start))?;
                let placement = if self.reserved { Placement::Replace } else { Placement::Exclusive };
                // SAFETY: this part of the tables is ours and still inaccessible.
                unsafe { map::anonymous_at(at, end - start, placement) }.ok()?;
                // SAFETY: as above. Leaving it out of core dumps is not needed for anything else to work.
                let _ = unsafe { map::advise(at, end - start, Advice::NoHugePage) };
            }
            // Release pairs with the Acquire in `extent_if_known`: the records are mapped.
            TABLES_END.store(to, Ordering::Release);
        }
        Some(())
    }

    /// Takes `count` neighbouring places, the first at a multiple of `align` bytes.
    pub fn take(&mut self, count: usize, align: usize) -> Option<usize> {
        self.begin()?;
        let base = POSITION.base.load(Ordering::Relaxed);
        let step = (align / EXTENT_SIZE).max(1);
        let mut at = self.first_free;
        if step > 1 {
            let address = base.checked_add(at << EXTENT_SHIFT)?.checked_next_multiple_of(align)?;
            at = (address - base) >> EXTENT_SHIFT;
        }
        while at.checked_add(count)? <= self.count {
            match (at..at + count).rev().find(|&i| self.is_taken(i)) {
                None => {
                    self.grow_tables(at + count - 1)?;
                    self.mark(at, count, true);
                    if at <= self.first_free {
                        self.first_free = at + count;
                    }
                    return Some(at);
                }
                Some(obstacle) => at = (obstacle + 1).next_multiple_of_from(at, step),
            }
        }
        None
    }

    /// Takes the `count` places from `index` on, if they are all free.
    pub fn take_at(&mut self, index: usize, count: usize) -> bool {
        let Some(end) = index.checked_add(count).filter(|&end| end <= self.count) else { return false };
        if (index..end).any(|i| self.is_taken(i)) || self.grow_tables(end - 1).is_none() {
            return false;
        }
        self.mark(index, count, true);
        if index <= self.first_free {
            self.first_free = end;
        }
        true
    }

    /// Gives places back, in which nothing is mapped any more but an inaccessible reservation.
    pub fn give_back(&mut self, index: usize, count: usize) {
        if !self.reserved {
            // The next claim of this place is exclusive, and an inaccessible mapping would count towards the limit.
            let at = NonNull::new(address_of(index));
            // SAFETY: the caller gives the places up.
            let unmapped = at.is_some_and(|at| unsafe { map::unmap(at, count << EXTENT_SHIFT) }.is_ok());
            if !unmapped {
                return;
            }
        }
        self.mark(index, count, false);
        self.first_free = self.first_free.min(index);
    }

    fn words(&self) -> &[u64] {
        let len = self.count.div_ceil(64);
        // SAFETY: the bitmap has this many words, and only the holder of the lock uses it.
        self.taken.map_or(&[], |words| unsafe { std::slice::from_raw_parts(words.as_ptr(), len) })
    }

    fn words_mut(&mut self) -> &mut [u64] {
        let len = self.count.div_ceil(64);
        // SAFETY: as for `words`, borrowed mutably.
        self.taken.map_or(&mut [], |words| unsafe { std::slice::from_raw_parts_mut(words.as_ptr(), len) })
    }

    fn is_taken(&self, index: usize) -> bool {
        self.words().get(index / 64).is_none_or(|word| word >> (index % 64) & 1 == 1)
    }

    fn mark(&mut self, index: usize, count: usize, taken: bool) {
        let words = self.words_mut();
        for i in index..index + count {
            let bit = 1 << (i % 64);
            if taken {
                words[i / 64] |= bit;
            } else {
                words[i / 64] &= !bit;
            }
        }
    }

    /// How to map into the place at `index`.
    pub fn claim(&self, index: usize) -> Option<Claim> {
        Some(Claim { at: NonNull::new(address_of(index))?, exclusive: !self.reserved })
    }
}

trait NextMultipleFrom {
    fn next_multiple_of_from(self, origin: usize, step: usize) -> usize;
}

impl NextMultipleFrom for usize {
    /// The next value at or above `self` that is `origin` plus a multiple of `step`.
    fn next_multiple_of_from(self, origin: usize, step: usize) -> usize {
        origin + (self - origin).next_multiple_of(step)
    }
}

fn reserve_range() -> Option<(usize, usize)> {
    let mut len = RANGE_MAX;
    while len >= RANGE_MIN {
        if let Ok(start) = map::reserve(len, EXTENT_SIZE) {
            // SAFETY: the reservation is ours; core dumps would otherwise walk terabytes of nothing.
            let _ = unsafe { map::advise(start, len, Advice::DontDump) };
            return Some((start.as_ptr().expose_provenance(), len));
        }
        len /= 2;
    }
    None
}

/// A range that is empty now, far from where the kernel puts mappings of its own choice (it works downwards from the
/// top of the address space).
fn choose_range() -> Option<(usize, usize)> {
    const LOWEST: usize = 0x1000_0000_0000;
    const STEP: usize = 1 << 40;
    (0..32).map(|i| LOWEST + i * STEP).find_map(|at| {
        let probe = NonNull::new(std::ptr::with_exposed_provenance_mut(at))?;
        // SAFETY: exclusive: fails where something is mapped.
        unsafe { map::anonymous_at(probe, EXTENT_SIZE, Placement::Exclusive) }.ok()?;
        // SAFETY: mapped by the line above, and unused.
        unsafe { map::unmap(probe, EXTENT_SIZE) }.ok()?;
        Some((at, RANGE_UNRESERVED))
    })
}

/// The record of the unit that holds `address`, `None` if it is outside the arena.
#[inline(always)]
pub fn record_of(address: usize) -> Option<&'static Span> {
    // Relaxed: see `Space::begin`.
    let offset = address.wrapping_sub(POSITION.base.load(Ordering::Relaxed));
    if offset >= POSITION.len.load(Ordering::Relaxed) {
        return None;
    }
    let record = POSITION.spans.load(Ordering::Relaxed) + (offset >> UNIT_SHIFT) * size_of::<Span>();
    // SAFETY: the table does not lie at address zero.
    let record = unsafe { NonNull::new_unchecked(std::ptr::with_exposed_provenance_mut::<Span>(record)) };
    // SAFETY: records of handed-out addresses are accessible, zeroed or initialised, and live for ever. (An address
    // that was never handed out may lie beyond the accessible part: using one is the program's error.)
    Some(unsafe { record.as_ref() })
}

/// The record of the span that holds `address`: that of its first unit. `None` if no span does.
#[inline]
pub fn span_of(address: usize) -> Option<&'static Span> {
    let record = record_of(address)?;
    match record.state() {
        State::Unused => None,
        State::Interior => record_of(address - record.units_back() * UNIT_SIZE),
        _ => Some(record),
    }
}

/// The record of the extent at `index`, which was taken.
pub fn extent(index: usize) -> &'static ExtentRecord {
    let record = POSITION.extents.load(Ordering::Relaxed) + index * size_of::<ExtentRecord>();
    // SAFETY: `Space::take` made the tables accessible up to `index`; records live for ever.
    unsafe { &*std::ptr::with_exposed_provenance(record) }
}

/// The record of the place at `index`, which may never have been taken; `None` if its part of the table does not exist.
pub fn extent_if_known(index: usize) -> Option<&'static ExtentRecord> {
    // Acquire pairs with the Release in `Space::grow_tables`.
    (index < TABLES_END.load(Ordering::Acquire)).then(|| extent(index))
}

/// Whether the records of `address` can be looked at: it is in the arena, and of an extent that was taken at some time.
pub fn is_known(address: usize) -> bool {
    contains(address) && extent_if_known(index_of(address)).is_some()
}

/// Whether an address is in the arena.
pub fn contains(address: usize) -> bool {
    address.wrapping_sub(POSITION.base.load(Ordering::Relaxed)) < POSITION.len.load(Ordering::Relaxed)
}

/// The extent that holds `address`, which is in the arena.
pub fn index_of(address: usize) -> usize {
    (address - POSITION.base.load(Ordering::Relaxed)) >> EXTENT_SHIFT
}

/// Calls `visit` with the index of each extent that a pool holds, as far as that can be told without the pools' locks.
pub fn each_held(visit: impl FnMut(usize)) {
    // Acquire pairs with the Release in `Space::grow_tables`. Relaxed: an extent that comes or goes meanwhile may be told or not.
    let known = 0..TABLES_END.load(Ordering::Acquire);
    known.filter(|&index| extent(index).tier.load(Ordering::Relaxed) != 0).for_each(visit);
}

/// Where the extent at `index` starts.
pub fn address_of(index: usize) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(POSITION.base.load(Ordering::Relaxed) + (index << EXTENT_SHIFT))
}

/// The records of all units of the extent at `index`.
pub fn units_of(index: usize) -> impl Iterator<Item = &'static Span> {
    let start = address_of(index).expose_provenance();
    (0..UNITS_PER_EXTENT).filter_map(move |unit| record_of(start + unit * UNIT_SIZE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_aligned_given_again_and_refused_when_there_are_none() {
        let mut space = SPACE.lock();
        assert_eq!(space.take(1 << 40, EXTENT_SIZE), None, "more than the arena");
        assert_eq!(space.take(usize::MAX, EXTENT_SIZE), None);
        assert_eq!(space.take(1, 1 << 62), None, "no such address");
        let aligned = space.take(3, 1 << 30).unwrap();
        assert!(address_of(aligned).addr().is_multiple_of(1 << 30));
        let one = space.take(1, EXTENT_SIZE).unwrap();
        assert!(one < aligned, "the gap before is used");
        space.give_back(one, 1);
        assert_eq!(space.take(1, EXTENT_SIZE), Some(one), "the first free place");
        space.give_back(aligned + 1, 1);
        let two = space.take(2, 1 << 30).unwrap();
        assert!(two > aligned + 2, "a hole of one holds no two");
        for (first, count) in [(one, 1), (aligned, 1), (aligned + 2, 1), (two, 2)] {
            space.give_back(first, count);
        }
        assert!(extent_if_known(usize::MAX).is_none());
    }
}
