//! A value that is set once, while others may look already.

use tiermem_sys::sync::atomic::{AtomicBool, Ordering};

#[cfg(loom)]
use loom::cell::UnsafeCell;
#[cfg(not(loom))]
use std::cell::UnsafeCell;

/// Nothing, until it is set for good.
pub struct Once<T> {
    value: UnsafeCell<Option<T>>,
    ready: AtomicBool,
}

// SAFETY: `value` is written once, before `ready` is stored (Release), and read only after `ready` was seen (Acquire);
// what is read is a copy.
unsafe impl<T: Copy + Send + Sync> Sync for Once<T> {}

impl<T: Copy> Once<T> {
    /// Nothing yet.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { value: UnsafeCell::new(None), ready: AtomicBool::new(false) }
    }

    /// Nothing yet.
    #[cfg(all(test, loom))]
    pub fn new() -> Self {
        Self { value: UnsafeCell::new(None), ready: AtomicBool::new(false) }
    }

    /// Sets the value.
    ///
    /// # Safety
    /// Called once at most, by one thread.
    pub unsafe fn set(&self, value: T) {
        // SAFETY: nobody reads the cell before `ready`, and nobody else writes it.
        unsafe { self.write(value) };
        // Release pairs with the Acquire in `get`.
        self.ready.store(true, Ordering::Release);
    }

    /// The value, if it was set.
    #[inline]
    pub fn get(&self) -> Option<T> {
        // Acquire pairs with the Release in `set`.
        if !self.ready.load(Ordering::Acquire) {
            return None;
        }
        self.read()
    }

    /// # Safety
    /// Nobody reads or writes the cell meanwhile.
    #[cfg(not(loom))]
    unsafe fn write(&self, value: T) {
        // SAFETY: passed on to the caller.
        unsafe { *self.value.get() = Some(value) };
    }

    #[cfg(not(loom))]
    fn read(&self) -> Option<T> {
        // SAFETY: called after `ready` was seen: written before, and never again.
        unsafe { *self.value.get() }
    }

    /// # Safety
    /// Nobody reads or writes the cell meanwhile; loom checks it.
    #[cfg(loom)]
    unsafe fn write(&self, value: T) {
        // SAFETY: passed on to the caller.
        self.value.with_mut(|cell| unsafe { *cell = Some(value) });
    }

    #[cfg(loom)]
    fn read(&self) -> Option<T> {
        // SAFETY: called after `ready` was seen; loom checks it.
        self.value.with(|cell| unsafe { *cell })
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    fn model(set: fn(&Once<u32>)) {
        loom::model(move || {
            let once = Arc::new(Once::new());
            let setter = {
                let once = Arc::clone(&once);
                loom::thread::spawn(move || set(&once))
            };
            let seen = [once.get(), once.get()];
            assert!(seen.iter().flatten().all(|&value| value == 7));
            assert!(seen[0].is_none() || seen[1].is_some(), "it was there and is gone");
            setter.join().unwrap();
            assert_eq!(once.get(), Some(7));
        });
    }

    #[test]
    fn what_is_seen_is_whole_and_stays() {
        // SAFETY: once, by one thread.
        model(|once| unsafe { once.set(7) });
    }

    /// Negative control: a flag that orders nothing lets a reader look at the value while it is written.
    #[test]
    #[should_panic(expected = "Causality violation")]
    fn a_weakened_flag_is_caught() {
        model(|once| {
            // SAFETY: the planted fault.
            unsafe { once.write(7) };
            once.ready.store(true, Ordering::Relaxed);
        });
    }
}
