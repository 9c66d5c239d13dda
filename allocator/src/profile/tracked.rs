//! The blocks whose samples are live: three tables of growing size, so that a program with few tracked blocks touches little
//! memory. They are made when first needed, in anonymous DRAM, and never given back.

use std::ptr::NonNull;

use tiermem_sys::map;
use tiermem_sys::sync::atomic::{AtomicPtr, Ordering};

use super::buckets::{self, Bucket};

pub use super::buckets::Tracked;

/// Buckets of each table: 16 KiB, 256 KiB and 4 MiB, for 512, 8192 and 131,072 blocks.
const SIZES: [usize; 3] = [64, 1024, 16384];

static TABLES: [AtomicPtr<Bucket>; SIZES.len()] = [const { AtomicPtr::new(std::ptr::null_mut()) }; SIZES.len()];

/// A table, if it was made.
fn table(level: usize) -> Option<&'static [Bucket]> {
    // Acquire pairs with the Release in `make`.
    let first = NonNull::new(TABLES[level].load(Ordering::Acquire))?;
    // SAFETY: `make` mapped that many buckets, zeroed, which is a value for atomics; they are never unmapped.
    Some(unsafe { std::slice::from_raw_parts(first.as_ptr(), SIZES[level]) })
}

/// A table, made if it was not there. `None` without memory.
fn make(level: usize) -> Option<&'static [Bucket]> {
    if let Some(there) = table(level) {
        return Some(there);
    }
    let len = SIZES[level] * size_of::<Bucket>();
    let fresh = map::anonymous(len).ok()?;
    let made = TABLES[level].compare_exchange(
        std::ptr::null_mut(),
        fresh.as_ptr().cast(),
        // Release pairs with the Acquire in `table`: who sees the table sees its zeroes.
        Ordering::AcqRel,
        Ordering::Acquire,
    );
    if made.is_err() {
        // Another thread was faster.
        // SAFETY: our own mapping, which nobody else knows of. If it stays, address space is lost and nothing else.
        let _ = unsafe { map::unmap(fresh, len) };
    }
    table(level)
}

/// Tracks a block. False if there is no room for it.
pub fn insert(block: usize, sample: Tracked) -> bool {
    // An entry that was never taken out, because its block went back to its pool unseen, must not come out instead.
    let _ = remove(block);
    (0..SIZES.len()).any(|level| make(level).is_some_and(|table| buckets::insert(table, block, sample)))
}

/// Ends the tracking of a block.
pub fn remove(block: usize) -> Option<Tracked> {
    (0..SIZES.len()).map_while(table).find_map(|table| buckets::remove(table, block))
}

/// Whether a block is tracked.
pub fn contains(block: usize) -> bool {
    (0..SIZES.len()).map_while(table).any(|table| buckets::contains(table, block))
}
