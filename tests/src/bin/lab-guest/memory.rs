//! Memory that the checks map for themselves.

use std::fs::File;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use tiermem_sys::map;
use tiermem_sys::mempolicy::{self, Nodes, Policy};
use tiermem_sys::page_move::{self, BATCH_MAX, Whereabouts};

use crate::failed;

/// A mapping of this process, gone with it.
#[derive(Clone, Copy)]
pub struct Memory {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: plain memory that is never unmapped; what is in it is reached through atomics and guarded copies only.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Anonymous memory, not touched yet, in small OS pages.
    pub fn anonymous(len: usize) -> Result<Self, String> {
        let at = map::anonymous(len).map_err(failed("mmap"))?;
        // SAFETY: our own new mapping.
        unsafe { map::advise(at, len, map::Advice::NoHugePage) }.map_err(failed("madvise"))?;
        Ok(Self { at, len })
    }

    /// Anonymous memory on one node, all of it present.
    pub fn on_node(node: u32, len: usize) -> Result<Self, String> {
        let memory = Self::anonymous(len)?;
        memory.policy(Policy::Bind(only(node)?), false)?;
        memory.touch()?;
        Ok(memory)
    }

    /// The beginning of a file or device, shared.
    pub fn of_file(path: &str, len: usize) -> Result<Self, String> {
        let file = File::options().read(true).write(true).open(path).map_err(failed(path))?;
        let at = map::file_shared(len, file.as_fd(), 0).map_err(failed("mmap"))?;
        Ok(Self { at, len })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn address(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.len, "{offset} of {}", self.len);
        // SAFETY: inside the mapping.
        unsafe { self.at.add(offset) }
    }

    /// A word of it; `offset` is a multiple of 8.
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len, "{offset} of {}", self.len);
        // SAFETY: inside the mapping, aligned, and every bit pattern is a number. Mappings are never removed.
        unsafe { self.at.add(offset).cast::<AtomicU64>().as_ref() }
    }

    /// Makes all of it present.
    pub fn touch(&self) -> Result<(), String> {
        // SAFETY: our own mapping; its contents stay.
        unsafe { map::advise(self.at, self.len, map::Advice::PopulateWrite) }.map_err(failed("MADV_POPULATE_WRITE"))
    }

    pub fn policy(&self, policy: Policy, move_existing: bool) -> Result<(), String> {
        mempolicy::bind(self.at, self.len, policy, move_existing).map_err(failed("mbind"))
    }

    /// The node of each OS page.
    pub fn nodes(&self) -> Result<Vec<Whereabouts>, String> {
        self.in_batches(page_move::query)
    }

    /// Moves it all to a node; where each OS page is afterwards.
    pub fn move_to(&self, node: u32) -> Result<Vec<Whereabouts>, String> {
        self.in_batches(|pages, into| page_move::migrate(pages, node, into))
    }

    /// How many OS pages lie on a node.
    pub fn on(&self, node: u32) -> Result<usize, String> {
        Ok(self.nodes()?.into_iter().filter(|&place| place == Whereabouts::Node(node)).count())
    }

    pub fn os_pages(&self) -> usize {
        self.len / map::os_page_size()
    }

    fn in_batches(
        &self,
        ask: impl Fn(&[NonNull<u8>], &mut [Whereabouts]) -> tiermem_sys::Result<()>,
    ) -> Result<Vec<Whereabouts>, String> {
        let pages: Vec<_> = (0..self.len).step_by(map::os_page_size()).map(|offset| self.address(offset)).collect();
        let mut found = vec![Whereabouts::Node(u32::MAX); pages.len()];
        for (pages, found) in pages.chunks(BATCH_MAX).zip(found.chunks_mut(BATCH_MAX)) {
            ask(pages, found).map_err(failed("move_pages"))?;
        }
        Ok(found)
    }
}

/// The set of one node.
pub fn only(node: u32) -> Result<Nodes, String> {
    Nodes::one(node).ok_or_else(|| format!("there can be no node {node}"))
}
