//! A flag that says that there is something to collect, so that nobody looks through what is empty.

use tiermem_sys::sync::atomic::{AtomicBool, Ordering};

/// See the module.
pub struct Flag {
    up: AtomicBool,
}

impl Flag {
    /// A flag that is down.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { up: AtomicBool::new(false) }
    }

    /// A flag that is down.
    #[cfg(all(test, loom))]
    pub fn new() -> Self {
        Self { up: AtomicBool::new(false) }
    }

    /// Raises it, after something was put where the collector finds it.
    #[inline]
    pub fn raise(&self) {
        // Release pairs with the Acquire in `lower`: who takes the flag down finds what was put there. An exchange and no
        // store: a store would hide the one before, whose putter the collector would then not be ordered after.
        self.up.swap(true, Ordering::Release);
    }

    /// Whether it is up. A hint.
    #[inline]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Takes it down, before collecting: what is put there later raises it again.
    #[inline]
    pub fn lower(&self) {
        // Acquire: see `raise`. An exchange, so that it reads what it overwrites.
        self.up.swap(false, Ordering::Acquire);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use tiermem_sys::sync::atomic::AtomicU64;

    struct Counter {
        count: AtomicU64,
        flag: Flag,
    }

    fn put(counter: &Counter) {
        counter.count.fetch_add(1, Ordering::Relaxed);
        counter.flag.raise();
    }

    fn collect(counter: &Counter) -> u64 {
        if !counter.flag.is_up() {
            return 0;
        }
        counter.flag.lower();
        counter.count.swap(0, Ordering::Relaxed)
    }

    /// Two threads count while a third one collects: nothing is counted twice, and nothing is left behind a flag that is
    /// down.
    fn model(put: fn(&Counter), collect: fn(&Counter) -> u64) {
        loom::model(move || {
            let counter = Arc::new(Counter { count: AtomicU64::new(0), flag: Flag::new() });
            let threads = [(); 2].map(|()| {
                let counter = Arc::clone(&counter);
                loom::thread::spawn(move || put(&counter))
            });
            let mut collected = collect(&counter);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            collected += collect(&counter);
            assert_eq!(collected, 2, "counted");
        });
    }

    #[test]
    fn all_is_collected_once() {
        model(put, collect);
    }

    /// Negative control: a raise that hides the one before.
    #[test]
    #[should_panic(expected = "counted")]
    fn a_flag_that_is_raised_by_a_store_is_caught() {
        model(
            |counter| {
                counter.count.fetch_add(1, Ordering::Relaxed);
                counter.flag.up.store(true, Ordering::Release);
            },
            collect,
        );
    }

    /// Negative control: a flag that is raised before there is anything.
    #[test]
    #[should_panic(expected = "counted")]
    fn a_flag_that_is_raised_too_early_is_caught() {
        model(
            |counter| {
                counter.flag.raise();
                counter.count.fetch_add(1, Ordering::Relaxed);
            },
            collect,
        );
    }

    /// Negative control: a flag that is taken down after collecting.
    #[test]
    #[should_panic(expected = "counted")]
    fn a_flag_that_is_lowered_too_late_is_caught() {
        model(put, |counter| {
            if !counter.flag.is_up() {
                return 0;
            }
            let collected = counter.count.swap(0, Ordering::Relaxed);
            counter.flag.lower();
            collected
        });
    }
}
