//! Store buffering, load buffering, order per line, independent reads, whole lines, atomic operations.

use super::*;

// Store buffering.

#[test]
fn sb_in_the_coherent_region_as_on_x86() {
    Litmus::new(&[
        |h| {
            h.store_u64(CX, 1);
            vec![h.load_u64(CY)]
        },
        |h| {
            h.store_u64(CY, 1);
            vec![h.load_u64(CX)]
        },
    ])
    .exactly(&[&[0, 0], &[0, 1], &[1, 0], &[1, 1]]);
}

#[test]
fn sb_with_fences_is_forbidden_and_with_store_fences_allowed() {
    Litmus::new(&[
        |h| {
            h.store_u64(CX, 1);
            h.fence();
            vec![h.load_u64(CY)]
        },
        |h| {
            h.store_u64(CY, 1);
            h.fence();
            vec![h.load_u64(CX)]
        },
    ])
    .exactly(&[&[0, 1], &[1, 0], &[1, 1]]);
    Litmus::new(&[
        |h| {
            h.store_u64(CX, 1);
            h.store_fence();
            vec![h.load_u64(CY)]
        },
        |h| {
            h.store_u64(CY, 1);
            h.store_fence();
            vec![h.load_u64(CX)]
        },
    ])
    .exactly(&[&[0, 0], &[0, 1], &[1, 0], &[1, 1]]);
}

#[test]
fn sb_with_atomics_is_forbidden() {
    Litmus::new(&[
        |h| {
            h.swap(CX, 1);
            vec![h.load_u64(CY)]
        },
        |h| {
            h.swap(CY, 1);
            vec![h.load_u64(CX)]
        },
    ])
    .exactly(&[&[0, 1], &[1, 0], &[1, 1]]);
}

#[test]
fn sb_without_coherence_is_forbidden_only_with_flush_fence_and_fresh_loads() {
    Litmus::new(&[
        |h| {
            h.store_u64(X, 1);
            write_back(h, X);
            vec![fresh(h, Y)]
        },
        |h| {
            h.store_u64(Y, 1);
            write_back(h, Y);
            vec![fresh(h, X)]
        },
    ])
    .exactly(&[&[0, 1], &[1, 0], &[1, 1]]);
    Litmus::new(&[
        |h| {
            h.store_u64(X, 1);
            vec![fresh(h, Y)]
        },
        |h| {
            h.store_u64(Y, 1);
            write_back(h, Y);
            vec![fresh(h, X)]
        },
    ])
    .exactly(&[&[0, 0], &[0, 1], &[1, 0], &[1, 1]]);
}

// Load buffering, coherence, IRIW.

#[test]
fn lb_is_forbidden() {
    Litmus::new(&[
        |h| {
            let r = h.load_u64(CX);
            h.store_u64(CY, 1);
            vec![r]
        },
        |h| {
            let r = h.load_u64(CY);
            h.store_u64(CX, 1);
            vec![r]
        },
    ])
    .exactly(&[&[0, 0], &[0, 1], &[1, 0]]);
}

#[test]
fn a_host_never_goes_back_to_an_older_version_of_a_line() {
    Litmus::new(&[
        |h| {
            h.store_u64(X, 1);
            write_back(h, X);
            h.store_u64(X, 2);
            write_back(h, X);
            vec![]
        },
        |h| vec![h.load_u64(X), h.load_u64(X)],
    ])
    .exactly(&[&[0, 0], &[0, 1], &[0, 2], &[1, 1], &[1, 2], &[2, 2]]);
}

#[test]
fn a_host_sees_its_own_stores() {
    for line in [X, CX] {
        let program: Program = if line == X {
            |h| {
                h.store_u64(X, 1);
                vec![h.load_u64(X)]
            }
        } else {
            |h| {
                h.store_u64(CX, 1);
                vec![h.load_u64(CX)]
            }
        };
        Litmus::new(&[program]).exactly(&[&[1]]);
    }
}

#[test]
fn iriw_is_forbidden_in_the_coherent_region_and_allowed_with_old_copies() {
    let coherent: [Program; 4] = [
        |h| {
            h.store_u64(CX, 1);
            vec![]
        },
        |h| {
            h.store_u64(CY, 1);
            vec![]
        },
        |h| vec![h.load_u64(CX), h.load_u64(CY)],
        |h| vec![h.load_u64(CY), h.load_u64(CX)],
    ];
    let outcomes = Litmus::new(&coherent).outcomes();
    assert!(!outcomes.contains(&vec![1, 0, 1, 0]));
    assert_eq!(outcomes.len(), 15);
    let private: [Program; 4] = [
        |h| {
            h.store_u64(X, 1);
            write_back(h, X);
            vec![]
        },
        |h| {
            h.store_u64(Y, 1);
            write_back(h, Y);
            vec![]
        },
        |h| vec![h.load_u64(X), h.load_u64(Y)],
        |h| vec![h.load_u64(Y), h.load_u64(X)],
    ];
    assert_eq!(Litmus::new(&private).outcomes().len(), 16);
    let fresh_loads: [Program; 4] =
        [private[0], private[1], |h| vec![fresh(h, X), fresh(h, Y)], |h| vec![fresh(h, Y), fresh(h, X)]];
    let outcomes = Litmus::new(&fresh_loads).outcomes();
    assert!(!outcomes.contains(&vec![1, 0, 1, 0]), "written back lines are in one place, the pool");
    assert_eq!(outcomes.len(), 15);
}

// Lines as a whole.

#[test]
fn neighbours_in_a_line_overwrite_each_other() {
    let mut litmus = Litmus::new(&[
        |h| {
            h.store_u64(X, 1);
            write_back(h, X);
            vec![]
        },
        |h| {
            h.store_u64(X + 8, 1);
            write_back(h, X);
            vec![]
        },
    ]);
    litmus.last = Some(|h| vec![h.load_u64(X), h.load_u64(X + 8)]);
    litmus.exactly(&[&[0, 1], &[1, 0], &[1, 1]]);
}

#[test]
fn an_invalidated_dirty_line_may_be_lost_or_not() {
    let mut litmus = Litmus::new(&[|h| {
        h.store_u64(X, 1);
        h.invalidate(X..X + 8);
        h.fence();
        vec![h.load_u64(X)]
    }]);
    litmus.last = Some(|h| vec![h.load_u64(X)]);
    litmus.exactly(&[&[0, 0], &[1, 1]]);
}

// Atomic operations.

#[test]
fn atomics_are_atomic_in_the_coherent_region_only() {
    let programs: [Program; 2] = [|h| vec![h.fetch_add(CX, 1)], |h| vec![h.fetch_add(CX, 1)]];
    Litmus::new(&programs).exactly(&[&[0, 1], &[1, 0]]);
    let programs: [Program; 2] =
        [|h| vec![h.compare_exchange(X, 0, 1).is_ok().into()], |h| vec![h.compare_exchange(X, 0, 2).is_ok().into()]];
    let outcomes = Litmus::new(&programs).outcomes();
    assert!(outcomes.contains(&vec![1, 1]), "both win: {outcomes:?}");
    let programs: [Program; 2] =
        [|h| vec![h.compare_exchange(CX, 0, 1).is_ok().into()], |h| vec![h.compare_exchange(CX, 0, 2).is_ok().into()]];
    Litmus::new(&programs).exactly(&[&[0, 1], &[1, 0]]);
}
