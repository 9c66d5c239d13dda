//! Blocks that are put in and taken out at the same time, in every order that loom finds.

use super::*;
use loom::sync::Arc;

fn value(n: u64) -> Tracked {
    Tracked { objects_256ths: n, bytes: n + 1, generation: 2, site: 3, tier: 4 }
}

/// One bucket, so that all share their places.
fn table() -> Arc<Vec<Bucket>> {
    Arc::new(vec![Bucket::default()])
}

/// A thread that frees what another one has allocated gets its sample whole, although the address came to it without any
/// order; and the place that it leaves is used again without mixing two samples.
#[test]
fn loom_samples_come_out_whole() {
    loom::model(|| {
        let table = table();
        let handed_over = Arc::new(AtomicU64::new(0));
        let other = {
            let (table, handed_over) = (Arc::clone(&table), Arc::clone(&handed_over));
            loom::thread::spawn(move || {
                assert!(insert(&table, 16, value(10)));
                handed_over.store(16, Ordering::Relaxed);
            })
        };
        let block = handed_over.load(Ordering::Relaxed) as usize;
        let early = (block != 0).then(|| remove(&table, block)).flatten();
        assert!(insert(&table, 32, value(20)));
        other.join().unwrap();
        assert_eq!(early.or_else(|| remove(&table, 16)), Some(value(10)));
        assert_eq!(remove(&table, 32), Some(value(20)));
    });
}

/// Of two that free the same block, which only a broken program does, one gets the sample.
#[test]
fn loom_a_sample_comes_out_once() {
    loom::model(|| {
        let table = table();
        assert!(insert(&table, 16, value(1)));
        let other = {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || remove(&table, 16).is_some())
        };
        let mine = remove(&table, 16).is_some();
        assert!(mine ^ other.join().unwrap());
    });
}

/// Negative control: with the key stored in no order to the value, as `insert` must not do, loom finds a sample that came
/// out in pieces.
#[test]
#[should_panic(expected = "in pieces")]
fn loom_a_missing_release_is_caught() {
    loom::model(|| {
        let table = table();
        let other = {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || {
                let bucket = &table[0];
                for (word, value) in bucket.values[0].iter().zip(value(10).words()) {
                    word.store(value, Ordering::Relaxed);
                }
                bucket.keys[0].store(16, Ordering::Relaxed);
            })
        };
        let got = remove(&table, 16);
        assert!(got.is_none_or(|got| got == value(10)), "in pieces");
        other.join().unwrap();
    });
}
