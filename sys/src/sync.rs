//! Atomics and locks. Every atomic of this project comes from here, so that loom replaces all of them at once
//! (`RUSTFLAGS="--cfg loom"`).

#[cfg(not(loom))]
pub use std::sync::atomic;

#[cfg(loom)]
pub use loom::sync::atomic;

pub use lock::{Guard, Lock, futex_wait, futex_wake_all};

/// A waiting hint inside a spin loop.
#[inline]
pub fn spin_hint() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

// Not replaced by loom: the models need no lock, and a futex is not theirs to schedule.
mod lock {
    use std::cell::UnsafeCell;
    use std::ops::{Deref, DerefMut};
    use std::sync::atomic::{AtomicU32, Ordering};

    const FREE: u32 = 0;
    const HELD: u32 = 1;
    /// Held, and somebody may sleep on it.
    const CONTENDED: u32 = 2;

    /// A mutual-exclusion lock over a futex, after the second mutex of Drepper, "Futexes Are Tricky" (2011).
    ///
    /// Unlike `std::sync::Mutex` it has no poison, can be taken in one function and released in another (around a
    /// fork) and is usable before `main`. It never allocates.
    #[derive(Debug, Default)]
    pub struct Lock<T> {
        state: AtomicU32,
        value: UnsafeCell<T>,
    }

    // SAFETY: the lock hands out one `&mut T` at a time, so sharing it only moves `T` between threads.
    unsafe impl<T: Send> Sync for Lock<T> {}

    impl<T> Lock<T> {
        /// A free lock around `value`.
        pub const fn new(value: T) -> Self {
            Self { state: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
        }

        /// Waits until the lock is free and takes it.
        #[inline]
        pub fn lock(&self) -> Guard<'_, T> {
            self.acquire();
            Guard { lock: self }
        }

        /// Takes the lock if it is free.
        #[inline]
        pub fn try_lock(&self) -> Option<Guard<'_, T>> {
            // Acquire pairs with the Release in `release`: we see what the last holder wrote.
            self.state
                .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
                .then(|| Guard { lock: self })
        }

        /// Takes the lock without a guard, for holding it across a fork. Pair with [`Lock::release`].
        #[inline]
        pub fn acquire(&self) {
            // Acquire pairs with the Release in `release`.
            if self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
                self.acquire_slow();
            }
        }

        #[cold]
        fn acquire_slow(&self) {
            for _ in 0..100 {
                // Relaxed: only a hint; the exchange below orders.
                if self.state.load(Ordering::Relaxed) == FREE {
                    break;
                }
                std::hint::spin_loop();
            }
            // Acquire pairs with the Release in `release`.
            while self.state.swap(CONTENDED, Ordering::Acquire) != FREE {
                futex_wait(&self.state, CONTENDED);
            }
        }

        /// Releases the lock that [`Lock::acquire`] took.
        ///
        /// # Safety
        /// This thread (or, after a fork, the thread that this one was copied from) holds the lock, and uses no
        /// reference to the value any more.
        #[inline]
        pub unsafe fn release(&self) {
            // Release pairs with the Acquire of whoever takes the lock next.
            if self.state.swap(FREE, Ordering::Release) == CONTENDED {
                futex_wake_one(&self.state);
            }
        }

        /// The value, without the lock.
        pub const fn as_ptr(&self) -> *mut T {
            self.value.get()
        }
    }

    /// Holds the lock until dropped.
    #[must_use]
    #[derive(Debug)]
    pub struct Guard<'a, T> {
        lock: &'a Lock<T>,
    }

    impl<T> Deref for Guard<'_, T> {
        type Target = T;
        #[inline]
        fn deref(&self) -> &T {
            // SAFETY: this guard holds the lock.
            unsafe { &*self.lock.value.get() }
        }
    }

    impl<T> DerefMut for Guard<'_, T> {
        #[inline]
        fn deref_mut(&mut self) -> &mut T {
            // SAFETY: this guard holds the lock and is borrowed mutably.
            unsafe { &mut *self.lock.value.get() }
        }
    }

    impl<T> Drop for Guard<'_, T> {
        #[inline]
        fn drop(&mut self) {
            // SAFETY: this guard holds the lock and ends here.
            unsafe { self.lock.release() }
        }
    }

    /// Sleeps while `word` holds `expected`, until woken. May return without reason.
    pub fn futex_wait(word: &AtomicU32, expected: u32) {
        // SAFETY: `word` outlives the call; a spurious or failed wait is handled by the caller's loop.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                expected,
                std::ptr::null::<libc::timespec>(),
            );
        }
    }

    /// Wakes all that sleep on `word`.
    pub fn futex_wake_all(word: &AtomicU32) {
        // SAFETY: `word` outlives the call.
        unsafe {
            libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, i32::MAX);
        }
    }

    fn futex_wake_one(word: &AtomicU32) {
        // SAFETY: `word` outlives the call.
        unsafe {
            libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::Lock;
        use std::sync::Arc;

        #[test]
        fn counts_are_not_lost_under_contention() {
            const THREADS: u64 = 8;
            const STEPS: u64 = 20_000;
            let lock = Arc::new(Lock::new(0u64));
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let lock = Arc::clone(&lock);
                    std::thread::spawn(move || (0..STEPS).for_each(|_| *lock.lock() += 1))
                })
                .collect();
            threads.into_iter().for_each(|t| t.join().unwrap());
            assert_eq!(*lock.lock(), THREADS * STEPS);
        }

        #[test]
        fn a_held_lock_is_not_given_twice() {
            let lock = Lock::new(());
            let guard = lock.lock();
            assert!(lock.try_lock().is_none());
            drop(guard);
            assert!(lock.try_lock().is_some());
        }
    }
}
