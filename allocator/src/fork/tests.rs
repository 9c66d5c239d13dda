//! A tier that can only be mapped shared, like a DAX device: the child must get copies of its own.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use tiermem_sys::file;
use tiermem_sys::map::{self, Placement, Sharing};
use tiermem_sys::sync::atomic::{AtomicU32, Ordering};
use tiermem_tiers::{
    Access, Addressable, Attributes, Bytes, Error, ErrorKind, Extent, ForkPlan, Health, Provenance, Provider, Tier,
    TierId, TierKind, TierName, Usage,
};

use crate::geometry::{EXTENT_SIZE, UNIT_SIZE, UNITS_PER_EXTENT};
use crate::tiers;

const TIER: TierId = TierId(7);

unsafe extern "C" {
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn _exit(code: i32) -> !;
}

struct AlwaysShared {
    tier: Tier,
    file: OwnedFd,
}

impl Provider for AlwaysShared {
    fn tier(&self) -> &Tier {
        &self.tier
    }

    fn access(&self) -> Access {
        Access::Load
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn health(&self) -> Health {
        Health::Good
    }

    fn reserve(&self, len: Bytes, _: Provenance) -> Result<Extent, Error> {
        Err(Error::new(ErrorKind::Full { wanted: len }))
    }

    fn release(&self, _: Extent) -> Result<(), Error> {
        Err(Error::new(ErrorKind::OutOfRange))
    }

    fn read(&self, _: &Extent, _: u64, _: &mut [u8]) -> Result<(), Error> {
        Err(Error::new(ErrorKind::OutOfRange))
    }

    fn write(&self, _: &Extent, _: u64, _: &[u8]) -> Result<(), Error> {
        Err(Error::new(ErrorKind::OutOfRange))
    }
}

impl Addressable for AlwaysShared {
    unsafe fn reserve_at(&self, at: NonNull<u8>, len: Bytes, _: bool, why: Provenance) -> Result<Extent, Error> {
        let len_bytes = len.0 as usize;
        // SAFETY: passed on to the caller.
        unsafe { map::file_at(at, len_bytes, self.file.as_fd(), 0, Sharing::Shared, Placement::Replace) }.expect("map");
        Ok(Extent::from_parts(TIER, 0, len, Some(at), why))
    }

    fn can_purge(&self) -> bool {
        false
    }

    fn fork_plan(&self) -> ForkPlan {
        ForkPlan::CopyInChild
    }
}

/// Such an extent stayed shared after a fork, and each process overwrote the other's memory.
#[test]
fn what_can_only_be_mapped_shared_is_copied_in_the_child() {
    crate::heap::attach().expect("a heap, and with it the handlers");
    let file = file::memory_file(c"tiermem-test").unwrap();
    file::set_size(file.as_fd(), EXTENT_SIZE as u64).unwrap();
    let name = TierName::new("shared").unwrap();
    let tier = Tier { id: TIER, name, kind: TierKind::Devdax, attributes: Attributes::default() };
    let provider: &'static AlwaysShared = Box::leak(Box::new(AlwaysShared { tier, file }));
    // SAFETY: no other test adds this tier.
    unsafe { tiers::add(TIER, name, TierKind::Devdax, Some(provider)) };
    let run = tiers::pool(TIER.0)
        .take(UNITS_PER_EXTENT, UNIT_SIZE, true, crate::pool::Fit::Tight, Provenance::Tool)
        .expect("an extent");
    let word = std::ptr::with_exposed_provenance::<AtomicU32>(run.start);
    // SAFETY: the run is ours, mapped and zeroed.
    let word = unsafe { &*word };
    word.store(1, Ordering::SeqCst);

    // SAFETY: the child only uses this memory and ends.
    let child = unsafe { fork() };
    if child == 0 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let unseen = word.load(Ordering::SeqCst) == 1;
        word.store(3, Ordering::SeqCst);
        // SAFETY: ends the child without the test's exit handlers.
        unsafe { _exit(i32::from(!unseen)) };
    }
    word.store(2, Ordering::SeqCst);
    let mut status = 0;
    // SAFETY: our own child.
    unsafe { waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0, "the child saw what the parent wrote after the fork");
    assert_eq!(word.load(Ordering::SeqCst), 2, "the parent sees what the child wrote");
}
