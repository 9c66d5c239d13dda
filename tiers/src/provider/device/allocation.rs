//! One allocation on a device, and who may copy which part of it now.

use std::sync::{PoisonError, RwLock};

use tiermem_sys::sync::atomic::{AtomicBool, Ordering};

use crate::{Bytes, GRANULE};

/// What is behind an extent. Nothing but this stops safe callers from copying in and out of the same bytes at once.
pub(super) struct Allocation<M> {
    pub(super) len: Bytes,
    /// Copies share it, whatever their direction; `release` has it alone and leaves `None`.
    memory: RwLock<Option<M>>,
    /// One for each granule, so that copies of different parts run side by side: those that read a granule share it, one that writes
    /// it has it alone. A copy takes all that it touches, from the lowest on, and so sees every other copy of the same
    /// bytes as a whole or not at all.
    granules: Box<[RwLock<()>]>,
    /// Set aside: see [`Provider::quarantine`](crate::Provider::quarantine).
    is_bad: AtomicBool,
}

impl<M> Allocation<M> {
    pub(super) fn new(len: Bytes, memory: M) -> Self {
        let granules = (0..len.0.div_ceil(GRANULE.0)).map(|_| RwLock::new(())).collect();
        Self { len, memory: RwLock::new(Some(memory)), granules, is_bad: AtomicBool::new(false) }
    }

    /// Runs a copy out of `len` bytes from `start` while nobody writes them; `None` if the allocation was released.
    pub(super) fn reading<R>(&self, start: usize, len: usize, copy: impl FnOnce(&M) -> R) -> Option<R> {
        let memory = self.memory.read().unwrap_or_else(PoisonError::into_inner);
        let memory = memory.as_ref()?;
        // No code that can panic runs under these locks, so a poisoned one still guards sound data.
        let touched = self.touched(start, len).iter();
        let _held: Vec<_> = touched.map(|granule| granule.read().unwrap_or_else(PoisonError::into_inner)).collect();
        Some(copy(memory))
    }

    /// As [`Allocation::reading`], for a copy in, while nobody reads or writes the same bytes.
    pub(super) fn writing<R>(&self, start: usize, len: usize, copy: impl FnOnce(&M) -> R) -> Option<R> {
        let memory = self.memory.read().unwrap_or_else(PoisonError::into_inner);
        let memory = memory.as_ref()?;
        let touched = self.touched(start, len).iter();
        let _held: Vec<_> = touched.map(|granule| granule.write().unwrap_or_else(PoisonError::into_inner)).collect();
        Some(copy(memory))
    }

    /// The memory, to be given back; waits for the copies that are under way. `None` the second time.
    pub(super) fn take(&self) -> Option<M> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Marks it as set aside.
    pub(super) fn set_aside(&self) {
        // Relaxed, here and below: set and read by the extent's holder.
        self.is_bad.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_set_aside(&self) -> bool {
        self.is_bad.load(Ordering::Relaxed)
    }

    /// The locks of the granules that `start .. start + len` touches. An empty copy touches none.
    fn touched(&self, start: usize, len: usize) -> &[RwLock<()>] {
        let granule = |byte: usize| (byte as u64 / GRANULE.0) as usize;
        let range = if len == 0 { 0..0 } else { granule(start)..granule(start + len - 1) + 1 };
        &self.granules[range]
    }
}
