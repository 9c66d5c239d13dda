//! Host memory that poses as a device, for machines with no accelerator. Its address never leaves this file.

use std::ptr::{self, NonNull};

use tiermem_sys::Errno;
use tiermem_sys::map::{self, Advice};

use crate::provider::device::provider::Backend;
use crate::{Bytes, Error, ErrorKind};

pub(super) const NOTICE: &str = "an emulated device: its memory is host memory and its timings say nothing about a GPU";

/// The back end. Any number of them can be open; how much each may hand out is its provider's business.
pub(super) struct Emulated;

/// Invariant: `at .. at + len` is a readable and writable anonymous mapping that only this value knows of.
pub(super) struct HostMemory {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to this value alone.
unsafe impl Send for HostMemory {}
// SAFETY: its bytes are reached by copies only, whose callers promise that none of them collide.
unsafe impl Sync for HostMemory {}

impl Backend for Emulated {
    type Memory = HostMemory;

    fn occupied(&self) -> Option<Bytes> {
        None
    }

    fn allocate(&self, len: usize) -> Result<HostMemory, Error> {
        let at = map::anonymous(len).map_err(|errno| failure("mmap", len, errno))?;
        let memory = HostMemory { at, len };
        // Like device memory, it is there when it is promised, is in no core dump, and no child of fork has it.
        match advise(&memory, Advice::PopulateWrite) {
            Ok(()) => {}
            // Before Linux 5.14: touching every OS page has the same effect.
            // SAFETY: the mapping is ours, writable and `len` bytes long.
            Err(Errno::EINVAL) => unsafe { ptr::write_bytes(at.as_ptr(), 0, len) },
            Err(errno) => {
                let _ = self.free(memory);
                return Err(failure("madvise(MADV_POPULATE_WRITE)", len, errno));
            }
        }
        // Neither is needed for the contract, so a kernel without them is no error.
        let _ = advise(&memory, Advice::DontDump);
        let _ = advise(&memory, Advice::DontFork);
        Ok(memory)
    }

    fn free(&self, memory: HostMemory) -> Result<(), Error> {
        // SAFETY: the mapping is the value's own, and the value is consumed.
        unsafe { map::unmap(memory.at, memory.len) }.map_err(|errno| failure("munmap", memory.len, errno))
    }

    unsafe fn copy_out(&self, memory: &HostMemory, offset: usize, into: &mut [u8]) -> Result<(), Error> {
        // SAFETY: the caller keeps the range within the mapping.
        let from = unsafe { memory.at.add(offset) };
        // SAFETY: as above; `into` is the caller's and cannot overlap a mapping that nobody else knows of; nobody writes
        // these bytes now.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    unsafe fn copy_in(&self, memory: &HostMemory, offset: usize, from: &[u8]) -> Result<(), Error> {
        // SAFETY: the caller keeps the range within the mapping.
        let into = unsafe { memory.at.add(offset) };
        // SAFETY: as above; the ranges cannot overlap; nobody else copies these bytes now.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), into.as_ptr(), from.len()) };
        Ok(())
    }
}

fn advise(memory: &HostMemory, advice: Advice) -> tiermem_sys::Result<()> {
    // SAFETY: the mapping is the value's own; none of the advice used here drops its contents.
    unsafe { map::advise(memory.at, memory.len, advice) }
}

fn failure(call: &'static str, len: usize, errno: Errno) -> Error {
    match errno {
        Errno::ENOMEM => Error::new(ErrorKind::Full { wanted: Bytes(len as u64) }),
        _ => Error::new(ErrorKind::System { call }).with_os_code(errno as i32),
    }
}
