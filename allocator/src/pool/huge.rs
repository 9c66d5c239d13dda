//! Huge OS pages: which extents ask for one, and when one is given up.
//!
//! An extent is as large as a huge OS page on the common platforms, so one can back it whole. That saves page faults and
//! TLB entries, and costs memory where the extent is not used whole. So, unless told otherwise, extents for spans get
//! one from the moment that the process holds so much that the last, half-filled extent no longer counts; extents for
//! large blocks do not, because a program may touch little of a large block.
//!
//! When part of a huge page is given back, the kernel splits it, and its daemon would put it together again, with memory
//! that nobody uses. So the advice is withdrawn with the first part that goes, and parts go only when they are many or
//! have been free for long.

use std::ptr::NonNull;

use tiermem_sys::map::{self, Advice};
use tiermem_sys::sync::atomic::{AtomicU8, Ordering};
use tiermem_tiers::Provenance;

use crate::arena::{self, ExtentRecord};
use crate::geometry::EXTENT_SIZE;

/// When anonymous extents are backed by huge OS pages. The environment variable `TIERMEM_HUGE` chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum HugePages {
    /// Extents for spans, once the process holds 32 MiB of the tier.
    #[default]
    Auto = 0,
    /// No extent is advised; the kernel's own setting holds.
    Never = 1,
    /// Every extent, also those for large blocks.
    Always = 2,
    /// Every extent comes from the kernel's reserve of huge pages (`hugetlb`) as long as that has some.
    Reserved = 3,
}

impl HugePages {
    /// Reads the value of `TIERMEM_HUGE`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "never" => Some(Self::Never),
            "always" => Some(Self::Always),
            "hugetlb" => Some(Self::Reserved),
            _ => None,
        }
    }
}

/// With less, a half-filled huge page would count: this is what a sixteenth of it is a huge page of.
const HELD_BYTES_MIN: u64 = 32 << 20;

/// Dirty units for which a huge page is split at once: a quarter of it.
const MANY: u32 = 8;

/// Fewer wait for this many times the usual decay.
pub const PATIENCE: u32 = 4;

static MODE: AtomicU8 = AtomicU8::new(HugePages::Auto as u8);

/// Sets when extents are backed by huge pages; holds for those that are taken from now on.
pub fn set_mode(mode: HugePages) {
    MODE.store(mode as u8, Ordering::Relaxed);
}

/// The mode in force.
pub fn mode() -> HugePages {
    match MODE.load(Ordering::Relaxed) {
        1 => HugePages::Never,
        2 => HugePages::Always,
        3 => HugePages::Reserved,
        _ => HugePages::Auto,
    }
}

/// Whether a new anonymous extent should be backed by a huge page; `held` is what the pool has, bytes.
pub fn wanted(held: u64, why: Provenance) -> bool {
    match mode() {
        HugePages::Auto => held >= HELD_BYTES_MIN && why == Provenance::Spans,
        HugePages::Always => true,
        HugePages::Never | HugePages::Reserved => false,
    }
}

/// What is behind an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Backed {
    /// Ordinary OS pages.
    Ordinary = 0,
    /// Perhaps a huge page; one was asked for.
    Asked = 1,
    /// A huge page of the kernel's reserve, which cannot be given back in parts.
    Reserved = 2,
}

/// What is behind the extent of this record.
pub fn backed(record: &ExtentRecord) -> Backed {
    // Relaxed, here and below: written under the lock of the extent's pool, or by the purger alone.
    match record.huge.load(Ordering::Relaxed) {
        1 => Backed::Asked,
        2 => Backed::Reserved,
        _ => Backed::Ordinary,
    }
}

/// Notes that the extent at `index` is of the kernel's reserve.
pub fn note_reserved(index: usize) {
    arena::extent(index).huge.store(Backed::Reserved as u8, Ordering::Relaxed);
}

/// Asks for a huge page behind the extent at `index`. Where the system has none, nothing changes.
pub fn ask(index: usize) {
    if let Some(at) = NonNull::new(arena::address_of(index)) {
        // SAFETY: the extent is the pool's; the advice changes nothing that a program can see.
        let advised = unsafe { map::advise(at, EXTENT_SIZE, Advice::HugePage) }.is_ok();
        let backed = if advised { Backed::Asked } else { Backed::Ordinary };
        arena::extent(index).huge.store(backed as u8, Ordering::Relaxed);
    }
}

/// Gives up the huge page that was asked for behind the extent at `index`: its parts can be given back one by one.
pub fn give_up(index: usize) {
    let record = arena::extent(index);
    if backed(record) == Backed::Asked
        && let Some(at) = NonNull::new(arena::address_of(index))
    {
        record.huge.store(Backed::Ordinary as u8, Ordering::Relaxed);
        // SAFETY: as for `ask`. If it fails, the kernel may make a huge page again: more memory, nothing else.
        let _ = unsafe { map::advise(at, EXTENT_SIZE, Advice::NoHugePage) };
    }
}

/// Whether an extent's dirty units must stay: they are too few, and not free for long enough, to split a huge page for, or
/// the page cannot be split.
pub fn keeps_parts(record: &ExtentRecord, patient: u32) -> bool {
    match backed(record) {
        Backed::Ordinary => false,
        Backed::Asked => {
            record.dirty.load(Ordering::Relaxed).count_ones() < MANY
                && record.freed_at.load(Ordering::Relaxed) >= patient
        }
        Backed::Reserved => true,
    }
}

/// Whether the kernel's reserve has a huge page now.
pub fn reserve_has_some() -> bool {
    let Ok(probe) = map::reserve(EXTENT_SIZE, EXTENT_SIZE) else { return false };
    // SAFETY: the range was reserved by the line above, and nothing is in it.
    let had = unsafe { map::reserved_huge_at(probe, EXTENT_SIZE, map::Placement::Replace) }.is_ok();
    // SAFETY: as above.
    let _ = unsafe { map::unmap(probe, EXTENT_SIZE) };
    had
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_is_read_by_its_name() {
        let modes = [HugePages::Auto, HugePages::Never, HugePages::Always, HugePages::Reserved];
        assert_eq!(["auto", "never", "always", "hugetlb"].map(HugePages::parse), modes.map(Some));
        assert_eq!(HugePages::parse("yes"), None);
    }
}
