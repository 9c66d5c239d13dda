//! Single containers on a tier of their own.

use std::alloc::Layout;
use std::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator};
use tiermem_tiers::TierId;

use crate::{api, scope};

/// Allocates from one tier, whatever the policy says; when the tier has no room, along the policy's chain.
///
/// ```
/// use allocator_api2::vec::Vec;
/// let slow = tiermem::tier("dram").unwrap();
/// let mut table = Vec::new_in(tiermem::InTier(slow));
/// table.extend(0..1000u32);
/// assert_eq!(tiermem::tier_of(table.as_ptr()), Some(slow));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InTier(pub TierId);

impl InTier {
    fn serve(self, layout: Layout, allocate: fn(usize, usize) -> *mut u8) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            let dangling = NonNull::new(ptr::without_provenance_mut(layout.align())).ok_or(AllocError)?;
            return Ok(NonNull::slice_from_raw_parts(dangling, 0));
        }
        let at = NonNull::new(scope(self.0, || allocate(layout.size(), layout.align()))).ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(at, layout.size()))
    }
}

// SAFETY: blocks hold the size and alignment asked for and stay until freed; copies of an `InTier` are the same
// allocator, because freeing does not depend on the tier.
unsafe impl Allocator for InTier {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.serve(layout, api::allocate_aligned)
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.serve(layout, api::allocate_zeroed)
    }

    unsafe fn deallocate(&self, at: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: passed on to the caller; nothing was allocated for a size of zero.
            unsafe { api::free(at.as_ptr()) }
        }
    }
}
