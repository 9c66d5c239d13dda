//! Claiming a place in a table without a lock: each key gets one place, whoever comes first.

use tiermem_sys::sync::atomic::{AtomicU64, Ordering};

/// The first of `places` that is free or `key`'s already; the key, which is not 0, is in it from then on. `None` if others
/// have them all. The position among `places`.
pub fn claim<'a>(mut places: impl Iterator<Item = &'a AtomicU64>, key: u64) -> Option<usize> {
    places.position(|place| {
        // AcqRel, and Acquire on failure: who finds the key sees what its claimer had done before.
        let claimed = place.compare_exchange(0, key, Ordering::AcqRel, Ordering::Acquire);
        claimed.is_ok() || claimed == Err(key)
    })
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    type Table = [AtomicU64; 2];

    fn model(claim: fn(&Table, u64) -> Option<usize>) {
        loom::model(move || {
            let table: Arc<Table> = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
            let threads = [5, 9].map(|key| {
                let table = Arc::clone(&table);
                loom::thread::spawn(move || (key, claim(&table, key)))
            });
            let mine = claim(&table, 5);
            let theirs = threads.map(|thread| thread.join().unwrap());
            assert_eq!(Some(mine), theirs.iter().find(|got| got.0 == 5).map(|got| got.1), "one key has two places");
            for (key, place) in theirs {
                assert_eq!(place.map(|at| table[at].load(Ordering::Relaxed)), Some(key), "a place was taken twice");
            }
        });
    }

    #[test]
    fn each_key_has_one_place() {
        model(|table, key| claim(table.iter(), key));
    }

    /// Negative control: looking and then taking is not one step.
    #[test]
    #[should_panic(expected = "place")]
    fn a_claim_in_two_steps_is_caught() {
        model(|table, key| {
            table.iter().position(|place| {
                let there = place.load(Ordering::Acquire);
                if there == 0 {
                    place.store(key, Ordering::Release);
                }
                there == 0 || there == key
            })
        });
    }
}
