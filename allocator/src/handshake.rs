//! How a thread that sleeps for good and those that have work for it do not miss each other.
//!
//! The sleeper says that it sleeps and then looks for work; whoever has work notes it and then looks whether the other
//! sleeps. Both steps of each are `SeqCst`, so at least one of the two sees the other (Dekker's argument).

use tiermem_sys::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// loom takes `SeqCst` accesses for weaker ones, but knows the fence. In other builds this is nothing at all.
#[inline(always)]
fn in_one_order() {
    #[cfg(loom)]
    tiermem_sys::sync::atomic::fence(Ordering::SeqCst);
}

/// Changes the state from `awake`, any of several values, to `asleep`; but not for long if there is work. True if the
/// caller is to wait until somebody changes the state.
pub fn fall_asleep(state: &AtomicU32, awake: &[u32], asleep: u32, has_work: impl FnOnce() -> bool) -> bool {
    let sleep = |now| awake.contains(&now).then_some(asleep);
    if state.fetch_update(Ordering::SeqCst, Ordering::Relaxed, sleep).is_err() {
        return false;
    }
    in_one_order();
    // Who noted work before it could see the state would not have woken us: look again.
    if !has_work() {
        return true;
    }
    // It fails where somebody has changed the state meanwhile, which ends the sleep as well.
    let _ = state.compare_exchange(asleep, awake[0], Ordering::SeqCst, Ordering::Relaxed);
    false
}

/// The state, for one who has noted work before.
#[inline]
pub fn look(state: &AtomicU32) -> u32 {
    in_one_order();
    state.load(Ordering::SeqCst)
}

/// Ends the sleep. True if the caller is to wake the sleeper.
pub fn wake(state: &AtomicU32, asleep: u32, awake: u32) -> bool {
    // AcqRel: the sleeper sees what came before.
    state.compare_exchange(asleep, awake, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Notes work. Cheap if it is noted already.
#[inline]
pub fn note(work: &AtomicBool) {
    // Relaxed: who finds it noted leaves the rest to the one that did.
    if !work.load(Ordering::Relaxed) {
        work.store(true, Ordering::SeqCst);
    }
}

/// Whether there is work.
#[inline]
pub fn is_noted(work: &AtomicBool) -> bool {
    work.load(Ordering::SeqCst)
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    const AWAKE: u32 = 2;
    const SLEEPING: u32 = 3;

    struct Both {
        state: AtomicU32,
        work: AtomicBool,
    }

    fn sleep(both: &Both) -> bool {
        fall_asleep(&both.state, &[AWAKE], SLEEPING, || is_noted(&both.work))
    }

    fn bring_work(both: &Both) {
        note(&both.work);
        if look(&both.state) == SLEEPING {
            wake(&both.state, SLEEPING, AWAKE);
        }
    }

    /// Work comes while the other falls asleep: it never sleeps beside work.
    fn model(sleep: fn(&Both) -> bool, bring_work: fn(&Both)) {
        loom::model(move || {
            let both = Arc::new(Both { state: AtomicU32::new(AWAKE), work: AtomicBool::new(false) });
            let other = {
                let both = Arc::clone(&both);
                loom::thread::spawn(move || bring_work(&both))
            };
            let asleep = sleep(&both);
            other.join().unwrap();
            let still_asleep = asleep && both.state.load(Ordering::Acquire) == SLEEPING;
            assert!(!(still_asleep && is_noted(&both.work)), "asleep beside work");
        });
    }

    #[test]
    fn nobody_sleeps_beside_work() {
        model(sleep, bring_work);
    }

    /// Negative control: without the common order each may miss the other.
    #[test]
    #[should_panic(expected = "asleep beside work")]
    fn a_look_without_the_order_is_caught() {
        model(sleep, |both| {
            both.work.store(true, Ordering::Release);
            if both.state.load(Ordering::Acquire) == SLEEPING {
                wake(&both.state, SLEEPING, AWAKE);
            }
        });
    }

    /// Negative control: a sleeper that looks first and then says that it sleeps.
    #[test]
    #[should_panic(expected = "asleep beside work")]
    fn a_sleeper_that_looks_too_early_is_caught() {
        model(|both| !is_noted(&both.work) && fall_asleep(&both.state, &[AWAKE], SLEEPING, || false), bring_work);
    }
}
