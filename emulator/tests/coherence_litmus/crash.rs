//! Crashes of a host and losses of power.

use super::*;

// Crashes. The recovery's registers begin with u64::MAX; without a crash there are none.

const CRASHED: u64 = u64::MAX;

#[test]
fn what_is_flushed_and_fenced_outlives_its_host() {
    let mut litmus = Litmus::new(&[|h| {
        h.store_u64(X, 1);
        write_back(h, X);
        h.store_u64(Y, 1);
        write_back(h, Y);
        vec![7]
    }]);
    litmus.crash = Some((0, |h| vec![h.load_u64(X), h.load_u64(Y)]));
    // The registers of a host that crashed are lost with it, unless it had ended.
    litmus.exactly(&[&[7], &[7, CRASHED, 1, 1], &[CRASHED, 0, 0], &[CRASHED, 1, 0], &[CRASHED, 1, 1]]);
}

#[test]
fn what_is_not_flushed_is_lost_with_its_host_or_not_in_any_order() {
    let mut litmus = Litmus::new(&[|h| {
        h.store_u64(X, 1);
        h.store_u64(Y, 1);
        vec![]
    }]);
    litmus.crash = Some((0, |h| vec![h.load_u64(X), h.load_u64(Y)]));
    litmus.exactly(&[&[], &[CRASHED, 0, 0], &[CRASHED, 0, 1], &[CRASHED, 1, 0], &[CRASHED, 1, 1]]);
}

#[test]
fn a_coherent_store_is_lost_with_its_host_unless_somebody_has_seen_it() {
    let mut litmus = Litmus::new(&[|h| {
        h.swap(CX, 1);
        vec![]
    }]);
    litmus.crash = Some((0, |h| vec![h.load_u64(CX)]));
    litmus.exactly(&[&[], &[CRASHED, 0], &[CRASHED, 1]]);
    // Whoever has seen it has taken it out of the dead host's cache.
    let mut litmus = Litmus::new(&[
        |h| {
            h.swap(CX, 1);
            vec![]
        },
        |h| vec![h.load_u64(CX), h.load_u64(CX)],
    ]);
    litmus.crash = Some((0, |_| vec![]));
    let outcomes = litmus.outcomes();
    assert!(outcomes.iter().all(|outcome| outcome[..2] != [1, 0]), "{outcomes:?}");
    assert!(outcomes.contains(&vec![0, 0, CRASHED]) && outcomes.contains(&vec![1, 1, CRASHED]), "{outcomes:?}");
}

#[test]
fn a_flushed_coherent_store_outlives_its_host() {
    let mut litmus = Litmus::new(&[|h| {
        h.swap(CX, 1);
        write_back(h, CX);
        h.swap(CY, 1);
        vec![]
    }]);
    litmus.crash = Some((0, |h| vec![h.load_u64(CX), h.load_u64(CY)]));
    litmus.exactly(&[&[], &[CRASHED, 0, 0], &[CRASHED, 1, 0], &[CRASHED, 1, 1]]);
}

#[test]
fn a_line_may_be_torn_when_power_is_lost() {
    let mut litmus = Litmus::new(&[|h| {
        h.store_u64(X, 1);
        h.store_u64(X + 56, 1);
        vec![]
    }]);
    litmus.power = Some(|h| vec![h.load_u64(X), h.load_u64(X + 56)]);
    litmus.exactly(&[&[], &[CRASHED, 0, 0], &[CRASHED, 0, 1], &[CRASHED, 1, 0], &[CRASHED, 1, 1]]);
    // A crash of the host alone keeps the line whole, and its stores in order.
    let mut litmus = Litmus::new(&litmus.programs);
    litmus.crash = Some((0, |h| vec![h.load_u64(X), h.load_u64(X + 56)]));
    litmus.exactly(&[&[], &[CRASHED, 0, 0], &[CRASHED, 1, 0], &[CRASHED, 1, 1]]);
}

#[test]
fn what_is_flushed_and_fenced_outlives_the_power() {
    let mut litmus = Litmus::new(&[
        |h| {
            h.store_u64(X, 1);
            write_back(h, X);
            h.store_u64(CY, 1);
            vec![]
        },
        |h| {
            let flag = h.load_u64(CY);
            if flag == 1 {
                write_back(h, CY);
            }
            vec![]
        },
    ]);
    litmus.power = Some(|h| vec![h.load_u64(CY), h.load_u64(X)]);
    litmus.exactly(&[&[], &[CRASHED, 0, 0], &[CRASHED, 0, 1], &[CRASHED, 1, 1]]);
}

#[test]
fn a_coherent_store_may_be_lost_although_a_later_private_one_survives() {
    let mut litmus = Litmus::new(&[|h| {
        h.store_u64(CX, 1);
        write_back(h, CX);
        h.store_u64(CX, 2);
        h.store_u64(X, 1);
        vec![]
    }]);
    // On x86 the coherent store leaves the store buffer first; it is lost with the cache all the same.
    litmus.crash = Some((0, |h| vec![h.load_u64(CX), h.load_u64(X)]));
    let all: [&[u64]; 6] =
        [&[], &[CRASHED, 0, 0], &[CRASHED, 1, 0], &[CRASHED, 1, 1], &[CRASHED, 2, 0], &[CRASHED, 2, 1]];
    litmus.exactly(&all);
}
