//! Moving OS pages between NUMA nodes, between addresses, and into huge pages.

use std::ptr::{self, NonNull};

use crate::{Errno, Result};

/// Where an OS page is, or why the kernel does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// On this node.
    Node(u32),
    /// The kernel's reason: `ENOENT` not present, `EBUSY` cannot be moved now, `ENOMEM` no room, `EFAULT` no such memory.
    Unknown(Errno),
}

/// Most OS pages that one call of [`query`] or [`migrate`] takes, so that neither needs to allocate.
pub const BATCH_MAX: usize = 512;

/// Asks which node each OS page is on (move_pages(2) without targets).
///
/// # Errors
/// `EINVAL` for more than [`BATCH_MAX`] or if `into` is shorter than `pages`; otherwise as move_pages(2).
pub fn query(pages: &[NonNull<u8>], into: &mut [Whereabouts]) -> Result<()> {
    // SAFETY: without target nodes nothing is moved.
    unsafe { call(pages, None, into) }
}

/// Moves OS pages to a node. `into` says where each one is afterwards.
///
/// # Errors
/// As [`query`]; `ENODEV` if there is no such node, `EPERM`/`EACCES` if the cpuset forbids it. A positive number of
/// OS pages that were not moved is not an error: `into` tells which.
pub fn migrate(pages: &[NonNull<u8>], node: u32, into: &mut [Whereabouts]) -> Result<()> {
    let node = i32::try_from(node).map_err(|_| Errno::ENODEV)?;
    let nodes = [node; BATCH_MAX];
    // SAFETY: migration keeps contents and addresses; programs cannot observe it. `nodes` has BATCH_MAX entries.
    unsafe { call(pages, Some(&nodes), into) }
}

/// # Safety
/// None beyond what the kernel checks; `nodes`, if given, covers all of `pages`.
unsafe fn call(pages: &[NonNull<u8>], nodes: Option<&[i32; BATCH_MAX]>, into: &mut [Whereabouts]) -> Result<()> {
    /// `MPOL_MF_MOVE`: only OS pages that this process alone maps.
    const MOVE: i32 = 2;
    if pages.len() > BATCH_MAX || into.len() < pages.len() {
        return Err(Errno::EINVAL);
    }
    let mut status = [0i32; BATCH_MAX];
    let nodes = nodes.map_or(ptr::null(), |nodes| nodes.as_ptr());
    // SAFETY: `pages` holds `pages.len()` pointers, `nodes` is null or as long, `status` is long enough. The kernel
    // only looks the addresses up.
    let rc = unsafe {
        libc::syscall(libc::SYS_move_pages, 0, pages.len(), pages.as_ptr(), nodes, status.as_mut_ptr(), MOVE)
    };
    Errno::result(rc)?;
    for (slot, status) in into.iter_mut().zip(status).take(pages.len()) {
        *slot = match u32::try_from(status) {
            Ok(node) => Whereabouts::Node(node),
            Err(_) => Whereabouts::Unknown(Errno::from_raw(-status)),
        };
    }
    Ok(())
}

/// Moves the OS pages of anonymous or shared memory to a new address, leaving the old range mapped and empty
/// (`MREMAP_DONTUNMAP`, Linux 5.7).
///
/// # Errors
/// As mremap(2); `EINVAL` where the kernel cannot.
///
/// # Safety
/// The caller owns `from .. from + len`, and nothing relies on what is in it.
pub unsafe fn take_pages(from: NonNull<u8>, len: usize) -> Result<NonNull<u8>> {
    const FLAGS: i32 = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;
    // SAFETY: passed on to the caller; the kernel picks an unused place for the new range.
    let got = unsafe { libc::mremap(from.as_ptr().cast(), len, len, FLAGS, ptr::null_mut::<libc::c_void>()) };
    if got == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    NonNull::new(got.cast()).ok_or(Errno::EFAULT)
}
