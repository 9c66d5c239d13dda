//! What the kernel has said about a mapped tier's memory: which places have broken.
//!
//! Some memory the kernel maps again after its one signal: an OS page of a DAX device that it has declared broken reads as
//! before at the next touch. So the signal's word is kept here, and guarded access goes by it.
//!
//! The signal handler writes, everybody reads: no locks, no allocation, only atomics. A place counts while its granule is
//! marked in the extent table; so it is forgotten when anybody repairs the granule, in whatever process.

use std::ptr::NonNull;
use std::sync::Arc;

use tiermem_sys::guarded::{Broken, Heard, on_broken_memory};
use tiermem_sys::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use tiermem_sys::{Result, map};

use super::extent_table::ExtentTable;
use crate::GRANULE;

/// How many tiers of a process can be watched at once; more are not.
const TIERS_MAX: usize = 64;
/// How many places are kept apart; with more, a whole granule counts as broken.
const PLACES_MAX: usize = 64;
/// How often is looked whether a handler has left, a millisecond each.
const LOOKS: u32 = 1000;

static WATCHED: [AtomicPtr<Watch>; TIERS_MAX] = [const { AtomicPtr::new(std::ptr::null_mut()) }; TIERS_MAX];
/// Signal handlers that are looking at what is watched.
static INSIDE: AtomicU32 = AtomicU32::new(0);

/// A tier's places, and where it is mapped. Dropping it ends the watch.
#[derive(Debug)]
pub(super) struct Watched(Arc<Watch>);

#[derive(Debug)]
struct Watch {
    table: Arc<ExtentTable>,
    /// For each granule where it is mapped, 0 if it is not.
    addresses: NonNull<AtomicUsize>,
    places: [AtomicU64; PLACES_MAX],
    /// Whether there has ever been a place.
    any: AtomicBool,
    /// There was no room for a place: marked granules are broken as a whole.
    is_overfull: AtomicBool,
    /// How often this process has set something aside.
    events: AtomicU32,
}

// SAFETY: `addresses` is memory of its own that lives as long as this and is only accessed through atomics.
unsafe impl Send for Watch {}
// SAFETY: as above.
unsafe impl Sync for Watch {}

/// A broken place in one word: its offset in lines of 64 bytes, above eight bits for its size as a power of two. 0 is none.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    offset: u64,
    size_log2: u32,
}

const LINE_LOG2: u32 = 6;

impl Place {
    fn packed(self) -> u64 {
        (self.offset >> LINE_LOG2) << 8 | u64::from(self.size_log2)
    }

    fn unpacked(word: u64) -> Option<Self> {
        let size_log2 = (word & 0xff) as u32;
        (word != 0).then_some(Self { offset: (word >> 8) << LINE_LOG2, size_log2 })
    }

    const fn end(self) -> u64 {
        self.offset + (1 << self.size_log2)
    }

    const fn granule(self) -> u32 {
        (self.offset / GRANULE.0) as u32
    }
}

impl Watched {
    /// Starts to watch.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(table: Arc<ExtentTable>) -> Result<Self> {
        let addresses = map::anonymous(size_of_addresses(&table))?.cast();
        let watch = Arc::new(Watch {
            table,
            addresses,
            places: [const { AtomicU64::new(0) }; PLACES_MAX],
            any: AtomicBool::new(false),
            is_overfull: AtomicBool::new(false),
            events: AtomicU32::new(0),
        });
        on_broken_memory(hear);
        let pointer = Arc::as_ptr(&watch).cast_mut();
        // SeqCst: see `Drop`.
        let enter = |slot: &&AtomicPtr<Watch>| {
            slot.compare_exchange(std::ptr::null_mut(), pointer, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        };
        let _ = WATCHED.iter().find(enter);
        Ok(Self(watch))
    }

    /// A run of granules is mapped from here on.
    pub(super) fn mapped(&self, first: u32, count: u32, at: NonNull<u8>) {
        for number in 0..count {
            let address = at.as_ptr().expose_provenance() + number as usize * GRANULE.0 as usize;
            self.set(first + number, address);
        }
    }

    /// A run of granules is mapped no more.
    pub(super) fn unmapped(&self, first: u32, count: u32) {
        (first..first + count).for_each(|granule| self.set(granule, 0));
    }

    fn set(&self, granule: u32, address: usize) {
        if let Some(slot) = self.0.addresses().get(granule as usize) {
            // Relaxed: the signal about memory comes after its mapping, and to whoever uses it.
            slot.store(address, Ordering::Relaxed);
        }
    }

    /// The first broken byte in this part of the tier.
    pub(super) fn first_broken(&self, offset: u64, len: u64) -> Option<u64> {
        self.0.first_broken(offset, len)
    }

    /// Marks a granule, so that it is not handed out again.
    pub(super) fn set_aside(&self, granule: u32) {
        self.0.set_aside(granule);
    }

    /// How often something was set aside in this process.
    pub(super) fn events(&self) -> u32 {
        // Relaxed: says only "look again".
        self.0.events.load(Ordering::Relaxed)
    }

    /// In the child of a fork there is this thread only, and it is in no handler.
    pub(super) fn after_fork(child: bool) {
        if child {
            INSIDE.store(0, Ordering::SeqCst);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let pointer = Arc::as_ptr(&self.0).cast_mut();
        // SeqCst, here and in `hear`: a handler that still finds the pointer has counted itself in before we look.
        for slot in &WATCHED {
            let _ = slot.compare_exchange(pointer, std::ptr::null_mut(), Ordering::SeqCst, Ordering::Relaxed);
        }
        for _ in 0..LOOKS {
            if INSIDE.load(Ordering::SeqCst) == 0 {
                return;
            }
            tiermem_sys::thread::sleep_ms(1);
        }
        // It costs less to keep it than to pull it from under somebody.
        std::mem::forget(self.0.clone());
    }
}

/// Called by the signal handler.
fn hear(broken: Broken) -> Heard {
    INSIDE.fetch_add(1, Ordering::SeqCst);
    let mut heard = Heard::Foreign;
    for slot in &WATCHED {
        // SAFETY: whoever takes a pointer out waits, before freeing what it points to, until nobody is inside.
        let Some(watch) = (unsafe { slot.load(Ordering::SeqCst).as_ref() }) else { continue };
        heard = both(heard, watch.note(broken));
    }
    INSIDE.fetch_sub(1, Ordering::SeqCst);
    heard
}

const fn both(a: Heard, b: Heard) -> Heard {
    match (a, b) {
        (Heard::New, _) | (_, Heard::New) => Heard::New,
        (Heard::Known, _) | (_, Heard::Known) => Heard::Known,
        _ => Heard::Foreign,
    }
}

fn size_of_addresses(table: &ExtentTable) -> usize {
    table.granules() as usize * size_of::<AtomicUsize>()
}

impl Watch {
    fn addresses(&self) -> &[AtomicUsize] {
        // SAFETY: as many as there are granules were mapped, zeroed, and are only accessed as atomics.
        unsafe { std::slice::from_raw_parts(self.addresses.as_ptr(), self.table.granules() as usize) }
    }

    fn note(&self, broken: Broken) -> Heard {
        let (size, granule_size) = (1_usize << broken.size_log2, GRANULE.0 as usize);
        let start = broken.address & !(size - 1);
        let mut heard = Heard::Foreign;
        for (granule, slot) in self.addresses().iter().enumerate() {
            // Relaxed: see `set`.
            let at = slot.load(Ordering::Relaxed);
            let (from, to) = (at.max(start), (at + granule_size).min(start.saturating_add(size)));
            if at != 0 && from < to {
                // Both ranges are aligned powers of two: one lies in the other.
                let size_log2 = broken.size_log2.min(granule_size.trailing_zeros());
                let offset = granule as u64 * GRANULE.0 + (from - at) as u64;
                heard = both(heard, self.enter(Place { offset, size_log2 }));
            }
        }
        heard
    }

    fn enter(&self, place: Place) -> Heard {
        // First the mark: places of granules without one are forgotten.
        self.set_aside(place.granule());
        // Relaxed: flags and numbers that say nothing about other memory.
        self.any.store(true, Ordering::Relaxed);
        for slot in &self.places {
            let entered = slot.compare_exchange(0, place.packed(), Ordering::Relaxed, Ordering::Relaxed);
            match entered {
                Ok(_) => return Heard::New,
                Err(word) if word == place.packed() => return Heard::Known,
                Err(_) => {}
            }
        }
        let was_overfull = self.is_overfull.swap(true, Ordering::Relaxed);
        if was_overfull { Heard::Known } else { Heard::New }
    }

    fn set_aside(&self, granule: u32) {
        self.table.quarantine(granule);
        // Relaxed: as in `events`.
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    fn first_broken(&self, offset: u64, len: u64) -> Option<u64> {
        // Relaxed: whoever learns of a place in another thread's signal learns it a moment later.
        if !self.any.load(Ordering::Relaxed) || len == 0 {
            return None;
        }
        let end = offset + len;
        let in_places = self.places.iter().filter_map(|slot| {
            let place = Place::unpacked(slot.load(Ordering::Relaxed))?;
            if !self.table.is_quarantined(place.granule()) {
                self.forget(slot, place);
                return None;
            }
            (place.offset < end && offset < place.end()).then(|| place.offset.max(offset))
        });
        let first = in_places.min();
        let granules = (offset / GRANULE.0) as u32..=((end - 1) / GRANULE.0) as u32;
        let whole = self.is_overfull.load(Ordering::Relaxed).then_some(granules).into_iter().flatten();
        let marked = whole.filter(|&granule| self.table.is_quarantined(granule));
        let marked = marked.map(|granule| (u64::from(granule) * GRANULE.0).max(offset)).min();
        first.into_iter().chain(marked).min()
    }

    /// Somebody has repaired it.
    #[cold]
    fn forget(&self, slot: &AtomicU64, place: Place) {
        let taken = slot.compare_exchange(place.packed(), 0, Ordering::Relaxed, Ordering::Relaxed);
        // A signal may have come between the look and this.
        if taken.is_ok() && self.table.is_quarantined(place.granule()) {
            let _ = self.enter(place);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: made in `new`; nothing refers to it any more.
        let _ = unsafe { map::unmap(self.addresses.cast(), size_of_addresses(&self.table)) };
    }
}

#[cfg(test)]
mod tests;
