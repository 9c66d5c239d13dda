//! Address space for extents whose place is the provider's choice: as large as the tier, reserved at first use, with each
//! granule of the tier at its own address. So an extent's address tells nothing that its offset does not, and giving
//! it back needs no record of where it came from.

use std::ptr::NonNull;

use tiermem_sys::sync::atomic::{AtomicPtr, Ordering};
use tiermem_sys::{Errno, Result, map};

use crate::GRANULE;

#[derive(Debug)]
pub(super) struct Window {
    granules: u32,
    start: AtomicPtr<u8>,
}

impl Window {
    pub(super) const fn new(granules: u32) -> Self {
        Self { granules, start: AtomicPtr::new(std::ptr::null_mut()) }
    }

    const fn len(&self) -> usize {
        self.granules as usize * GRANULE.0 as usize
    }

    /// Where this granule is mapped if nobody says otherwise.
    pub(super) fn address(&self, granule: u32) -> Result<NonNull<u8>> {
        if granule >= self.granules {
            return Err(Errno::EINVAL);
        }
        let start = self.start()?;
        // SAFETY: the granule lies in the window (checked), which is one reservation.
        Ok(unsafe { start.add(granule as usize * GRANULE.0 as usize) })
    }

    fn start(&self) -> Result<NonNull<u8>> {
        // Relaxed: an address; the reservation itself is the kernel's.
        if let Some(start) = NonNull::new(self.start.load(Ordering::Relaxed)) {
            return Ok(start);
        }
        let fresh = map::reserve(self.len(), GRANULE.0 as usize)?;
        let won =
            self.start.compare_exchange(std::ptr::null_mut(), fresh.as_ptr(), Ordering::Relaxed, Ordering::Relaxed);
        match won {
            Ok(_) => Ok(fresh),
            Err(theirs) => {
                // SAFETY: our own reservation, which nobody has seen.
                let _ = unsafe { map::unmap(fresh, self.len()) };
                NonNull::new(theirs).ok_or(Errno::EFAULT)
            }
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if let Some(start) = NonNull::new(self.start.load(Ordering::Relaxed)) {
            // SAFETY: the provider ends, and with it every extent whose address was its choice.
            let _ = unsafe { map::unmap(start, self.len()) };
        }
    }
}
