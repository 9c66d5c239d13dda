//! Access to blocks whose memory may have gone bad: an error and no signal.

use std::ptr::NonNull;

use tiermem_sys::guarded;
use tiermem_sys::sync::atomic::Ordering;
use tiermem_tiers::{Addressable, Error, ErrorKind, Extent};

use crate::geometry::EXTENT_SIZE;
use crate::heap::tls;
use crate::{arena, tiers};

/// Copies bytes out of blocks, like a load that survives bad memory.
///
/// If a part of them cannot be read, what comes before it has been copied, the extent is set aside (nothing new is placed in
/// it, in this process or another one), and the caller hears which place of which tier it was. The block stays the caller's.
/// Freeing it writes to its first bytes, so a block with its beginning in a bad OS page is better kept than freed.
///
/// ```
/// let block = tiermem::api::allocate(100);
/// let mut into = [0; 100];
/// // SAFETY: the block is ours and holds 100 bytes.
/// unsafe { tiermem::read_guarded(block, &mut into) }?;
/// # Ok::<(), tiermem::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Poisoned`] with the extent and the offset in it, or [`ErrorKind::Gone`] if the tier has failed or was removed.
///
/// # Safety
/// `at .. at + into.len()` lies in memory that is mapped readable, though loads may raise SIGBUS; if it is a block's, the caller
/// holds the block.
pub unsafe fn read_guarded(at: *const u8, into: &mut [u8]) -> Result<(), Error> {
    let mut done = 0;
    while done < into.len() {
        let piece = Piece::at(at.expose_provenance() + done, into.len() - done);
        let bytes = &mut into[done..done + piece.len];
        match piece.place {
            Some((provider, extent, offset)) => {
                provider.read(&extent, offset, bytes).inspect_err(|_| heed(&extent))?;
            }
            // SAFETY: passed on to the caller.
            None => unsafe { guarded::read(piece.start, bytes) }.map_err(elsewhere)?,
        }
        done += piece.len;
    }
    Ok(())
}

/// Copies bytes into blocks, like a store that survives bad memory; otherwise as [`read_guarded`].
///
/// # Errors
/// As [`read_guarded`].
///
/// # Safety
/// As [`read_guarded`], for memory that is mapped writable, which nobody else reads or writes meanwhile.
pub unsafe fn write_guarded(at: *mut u8, from: &[u8]) -> Result<(), Error> {
    let mut done = 0;
    while done < from.len() {
        let piece = Piece::at(at.expose_provenance() + done, from.len() - done);
        let bytes = &from[done..done + piece.len];
        match piece.place {
            Some((provider, extent, offset)) => {
                provider.write(&extent, offset, bytes).inspect_err(|_| heed(&extent))?;
            }
            // SAFETY: passed on to the caller.
            None => unsafe { guarded::write(piece.start, bytes) }.map_err(elsewhere)?,
        }
        done += piece.len;
    }
    Ok(())
}

/// The part of a range that lies in one extent, or in none.
struct Piece {
    start: NonNull<u8>,
    len: usize,
    /// The extent, if a provider knows it, and where in it the piece starts.
    place: Option<(&'static dyn Addressable, Extent, u64)>,
}

impl Piece {
    fn at(address: usize, len: usize) -> Self {
        let start = NonNull::new(std::ptr::with_exposed_provenance_mut(address)).unwrap_or(NonNull::dangling());
        if !arena::is_known(address) {
            return Self { start, len, place: None };
        }
        let index = arena::index_of(address);
        let offset = address - arena::address_of(index).addr();
        let len = len.min(EXTENT_SIZE - offset);
        // Relaxed: the caller holds a block in the extent, so that its record does not change.
        let tier = arena::extent(index).tier.load(Ordering::Relaxed);
        let place = tier
            .checked_sub(1)
            .map(tiers::pool)
            .and_then(|pool| Some((pool.backing().provider()?, pool.extent(index)?, offset as u64)));
        Self { start, len, place }
    }
}

/// The tier has set its part aside by itself; the pool is told, and this thread's heap.
#[cold]
fn heed(extent: &Extent) {
    let tier = extent.tier().0;
    tiers::pool(tier).heed();
    if let Some(heap) = tls::attached() {
        heap.leave_all_bad(tier);
    }
}

/// For memory that no tier knows.
fn elsewhere(fault: guarded::Fault) -> Error {
    let kind =
        if fault.hardware { ErrorKind::Poisoned { extent: 0, offset: fault.copied as u64 } } else { ErrorKind::Gone };
    Error::new(kind)
}
