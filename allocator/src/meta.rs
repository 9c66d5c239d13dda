//! Memory for the allocator's own records: always anonymous DRAM, never given back.

use std::ptr::NonNull;

use tiermem_sys::map;
use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicU64, Ordering};

const STEP: usize = 256 << 10;

struct Bump {
    at: usize,
    end: usize,
}

static BUMP: Lock<Bump> = Lock::new(Bump { at: 0, end: 0 });

/// Bytes of OS memory behind all records, in steps.
static BYTES: AtomicU64 = AtomicU64::new(0);

/// Bytes of memory taken for the records that [`place`] has placed.
pub fn bytes() -> u64 {
    // Relaxed: a statistic.
    BYTES.load(Ordering::Relaxed)
}

/// Puts `value` where it lives for ever. `None` if there is no memory.
pub fn place<T>(value: T) -> Option<&'static T> {
    const { assert!(size_of::<T>() <= STEP && align_of::<T>() <= 4096) };
    let mut bump = BUMP.lock();
    let mut at = bump.at.next_multiple_of(align_of::<T>());
    if at + size_of::<T>() > bump.end {
        let fresh = map::anonymous(STEP).ok()?;
        at = fresh.as_ptr().expose_provenance();
        bump.end = at + STEP;
        BYTES.fetch_add(STEP as u64, Ordering::Relaxed);
    }
    bump.at = at + size_of::<T>();
    drop(bump);
    let place = NonNull::<T>::new(std::ptr::with_exposed_provenance_mut(at))?;
    // SAFETY: fresh, aligned memory that nobody else knows of.
    unsafe { place.write(value) };
    // SAFETY: initialised by the line above, and never unmapped.
    Some(unsafe { place.as_ref() })
}

/// Takes the lock, to hold it across a fork.
pub fn lock_for_fork() {
    BUMP.acquire();
}

/// Lets it go, in the parent or the child.
///
/// # Safety
/// [`lock_for_fork`] came before, in this thread or in the one it was copied from.
pub unsafe fn unlock_after_fork() {
    // SAFETY: passed on to the caller.
    unsafe { BUMP.release() };
}
