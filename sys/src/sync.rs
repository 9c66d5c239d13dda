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
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

    const FREE: u32 = 0;
    const HELD: u32 = 1;
    /// Held, and somebody may sleep on it.
    const CONTENDED: u32 = 2;

    /// A mutual-exclusion lock over a futex, after the second mutex of Drepper, "Futexes Are Tricky" (2011).
    ///
    /// Unlike `std::sync::Mutex` it has no poison, can be taken in one function and released in another (around a
    /// fork) and is usable before `main`. It never allocates.
    ///
    /// While a thread holds it around a fork (between [`Lock::acquire`] and [`Lock::release`]), that thread may
    /// [`lock`](Lock::lock) it all the same: fork handlers of others that run then may call whatever the lock guards.
    #[derive(Debug, Default)]
    pub struct Lock<T> {
        state: AtomicU32,
        /// The thread that holds it around a fork; 0 for none.
        forking: AtomicUsize,
        value: UnsafeCell<T>,
    }

    // SAFETY: the lock hands out one `&mut T` at a time, so sharing it only moves `T` between threads.
    unsafe impl<T: Send> Sync for Lock<T> {}

    impl<T> Lock<T> {
        /// A free lock around `value`.
        pub const fn new(value: T) -> Self {
            Self { state: AtomicU32::new(FREE), forking: AtomicUsize::new(0), value: UnsafeCell::new(value) }
        }

        /// Waits until the lock is free and takes it.
        #[inline]
        pub fn lock(&self) -> Guard<'_, T> {
            // Acquire pairs with the Release in `let_go`.
            let taken = self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok();
            let nested = !taken && self.lock_slow();
            Guard { lock: self, nested }
        }

        /// Takes the lock if it is free.
        #[inline]
        pub fn try_lock(&self) -> Option<Guard<'_, T>> {
            // Acquire pairs with the Release in `let_go`: we see what the last holder wrote.
            self.state
                .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
                .then(|| Guard { lock: self, nested: false })
        }

        /// Takes the lock without a guard, for holding it across a fork. Pair with [`Lock::release`].
        pub fn acquire(&self) {
            // The guard is not dropped: the lock stays taken.
            std::mem::forget(self.lock());
            // Relaxed: only this thread, or its copy in the child, will find itself here.
            self.forking.store(crate::thread::current(), Ordering::Relaxed);
        }

        /// Waits for the lock and takes it; or finds that this thread has it around a fork, and returns true.
        #[cold]
        fn lock_slow(&self) -> bool {
            // Relaxed: see `acquire`.
            let forking = self.forking.load(Ordering::Relaxed);
            if forking != 0 && forking == crate::thread::current() {
                return true;
            }
            for _ in 0..100 {
                // Relaxed: only a hint; the exchange below orders.
                if self.state.load(Ordering::Relaxed) == FREE {
                    break;
                }
                std::hint::spin_loop();
            }
            // Acquire pairs with the Release in `let_go`.
            while self.state.swap(CONTENDED, Ordering::Acquire) != FREE {
                futex_wait(&self.state, CONTENDED);
            }
            false
        }

        /// Releases the lock that [`Lock::acquire`] took.
        ///
        /// # Safety
        /// This thread (or, after a fork, the thread that this one was copied from) holds the lock, and uses no
        /// reference to the value any more.
        pub unsafe fn release(&self) {
            // Relaxed: as in `acquire`; whoever takes the lock next is ordered after it by the lock itself.
            self.forking.store(0, Ordering::Relaxed);
            // SAFETY: passed on to the caller.
            unsafe { self.let_go() };
        }

        /// Frees the lock and wakes one that waits.
        ///
        /// # Safety
        /// As for [`Lock::release`].
        #[inline]
        unsafe fn let_go(&self) {
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
        /// The thread has the lock around a fork, and keeps it.
        nested: bool,
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
            if !self.nested {
                // SAFETY: this guard holds the lock and ends here.
                unsafe { self.lock.let_go() }
            }
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

        /// Fork handlers of others that ran while all locks were held, and allocated, waited for themselves.
        #[test]
        fn the_thread_that_holds_it_around_a_fork_passes_and_nobody_else() {
            let lock = Arc::new(Lock::new(1));
            lock.acquire();
            *lock.lock() += 1;
            *lock.lock() += 1;
            assert!(lock.try_lock().is_none(), "still held after a nested guard");
            let other = {
                let lock = Arc::clone(&lock);
                std::thread::spawn(move || *lock.lock())
            };
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!other.is_finished(), "another thread got a lock that is held");
            *lock.lock() += 1;
            // SAFETY: acquired above, by this thread; no reference is left.
            unsafe { lock.release() };
            assert_eq!(other.join().unwrap(), 4);
            assert!(lock.try_lock().is_some());
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
