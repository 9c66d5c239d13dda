//! Message passing: a payload, and a flag that says that it is there.

use super::*;

#[test]
fn mp_without_flush_the_payload_may_be_old() {
    Litmus::new(&[
        |h| {
            h.store_u64(X, 1);
            h.store_u64(CY, 1);
            vec![]
        },
        |h| vec![h.load_u64(CY), fresh(h, X)],
    ])
    .exactly(&[&[0, 0], &[0, 1], &[1, 0], &[1, 1]]);
}

#[test]
fn mp_with_flush_and_no_fence_the_payload_may_be_old() {
    Litmus::new(&[
        |h| {
            h.store_u64(X, 1);
            h.flush(X..X + 8);
            h.store_u64(CY, 1);
            vec![]
        },
        |h| vec![h.load_u64(CY), fresh(h, X)],
    ])
    .exactly(&[&[0, 0], &[0, 1], &[1, 0], &[1, 1]]);
}

#[test]
fn mp_with_flush_and_fence_is_safe() {
    Litmus::new(&[
        |h| {
            h.store_u64(X, 1);
            write_back(h, X);
            h.store_u64(CY, 1);
            vec![]
        },
        |h| vec![h.load_u64(CY), fresh(h, X)],
    ])
    .exactly(&[&[0, 0], &[0, 1], &[1, 1]]);
}

#[test]
fn mp_with_store_fence_is_safe_on_the_writers_side() {
    Litmus::new(&[
        |h| {
            h.store_u64(X, 1);
            h.clean(X..X + 8);
            h.store_fence();
            h.store_u64(CY, 1);
            vec![]
        },
        |h| vec![h.load_u64(CY), fresh(h, X)],
    ])
    .exactly(&[&[0, 0], &[0, 1], &[1, 1]]);
}

#[test]
fn mp_with_store_fence_is_not_safe_on_the_readers_side() {
    Litmus::new(&[
        |h| {
            h.store_u64(X, 1);
            write_back(h, X);
            h.store_u64(CY, 1);
            vec![]
        },
        |h| {
            let flag = h.load_u64(CY);
            h.flush(X..X + 8);
            h.store_fence();
            vec![flag, h.load_u64(X)]
        },
    ])
    .exactly(&[&[0, 0], &[0, 1], &[1, 0], &[1, 1]]);
}

#[test]
fn mp_without_invalidation_the_reader_may_have_an_old_copy() {
    Litmus::new(&[
        |h| {
            h.store_u64(X, 1);
            write_back(h, X);
            h.store_u64(CY, 1);
            vec![]
        },
        |h| vec![h.load_u64(CY), h.load_u64(X)],
    ])
    .exactly(&[&[0, 0], &[0, 1], &[1, 0], &[1, 1]]);
}

#[test]
fn mp_invalidation_before_the_flag_is_read_is_too_early() {
    Litmus::new(&[
        |h| {
            h.store_u64(X, 1);
            write_back(h, X);
            h.store_u64(CY, 1);
            vec![]
        },
        |h| {
            write_back(h, X);
            vec![h.load_u64(CY), h.load_u64(X)]
        },
    ])
    .exactly(&[&[0, 0], &[0, 1], &[1, 0], &[1, 1]]);
}

#[test]
fn mp_atomics_wait_for_flushes_on_x86_only() {
    let programs: [Program; 2] = [
        |h| {
            h.store_u64(X, 1);
            h.flush(X..X + 8);
            h.swap(CY, 1);
            vec![]
        },
        |h| vec![h.load_u64(CY), fresh(h, X)],
    ];
    Litmus::new(&programs).exactly(&[&[0, 0], &[0, 1], &[1, 1]]);
    Litmus::new(&programs).weak().exactly(&[&[0, 0], &[0, 1], &[1, 0], &[1, 1]]);
}

#[test]
fn mp_in_the_coherent_region_needs_no_flush_and_on_weak_hosts_a_fence() {
    let programs: [Program; 2] = [
        |h| {
            h.store_u64(CX, 1);
            h.store_u64(CY, 1);
            vec![]
        },
        |h| vec![h.load_u64(CY), h.load_u64(CX)],
    ];
    Litmus::new(&programs).exactly(&[&[0, 0], &[0, 1], &[1, 1]]);
    Litmus::new(&programs).weak().exactly(&[&[0, 0], &[0, 1], &[1, 0], &[1, 1]]);
    let fenced: [Program; 2] = [
        |h| {
            h.store_u64(CX, 1);
            h.store_fence();
            h.store_u64(CY, 1);
            vec![]
        },
        programs[1],
    ];
    Litmus::new(&fenced).weak().exactly(&[&[0, 0], &[0, 1], &[1, 1]]);
}

#[test]
fn mp_flag_without_coherence_works_with_flushes_on_both_sides() {
    Litmus::new(&[
        |h| {
            h.store_u64(X, 1);
            write_back(h, X);
            h.store_u64(Y, 1);
            write_back(h, Y);
            vec![]
        },
        |h| vec![fresh(h, Y), fresh(h, X)],
    ])
    .exactly(&[&[0, 0], &[0, 1], &[1, 1]]);
}

#[test]
fn mp_within_a_line_keeps_the_order_of_stores() {
    Litmus::new(&[
        |h| {
            h.store_u64(X, 1);
            h.store_u64(X + 8, 1);
            vec![]
        },
        |h| {
            let mut both = [0; 16];
            h.load(X, &mut both);
            vec![u64::from(both[0]), u64::from(both[8])]
        },
    ])
    .exactly(&[&[0, 0], &[1, 0], &[1, 1]]);
}

#[test]
fn a_coherent_store_is_visible_before_a_later_private_one_on_x86() {
    let programs: [Program; 2] = [
        |h| {
            h.store_u64(CX, 1);
            h.store_u64(Y, 1);
            vec![]
        },
        |h| vec![fresh(h, Y), h.load_u64(CX)],
    ];
    Litmus::new(&programs).exactly(&[&[0, 0], &[0, 1], &[1, 1]]);
    Litmus::new(&programs).weak().exactly(&[&[0, 0], &[0, 1], &[1, 0], &[1, 1]]);
}
