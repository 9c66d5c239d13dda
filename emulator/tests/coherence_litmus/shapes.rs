//! The classical shapes, by the one outcome that tells (names after Alglave, Maranget and Tautschnig, "Herding cats",
//! TOPLAS 2014): where it is allowed it is seen, where it is forbidden it never is.

use super::*;

impl Litmus {
    #[track_caller]
    fn allows(&self, outcome: &[u64]) {
        let all = self.outcomes();
        assert!(all.contains(outcome), "{outcome:?} is not among {all:?}");
    }

    #[track_caller]
    fn forbids(&self, outcome: &[u64]) {
        let all = self.outcomes();
        assert!(!all.contains(outcome), "{outcome:?} is among {all:?}");
        assert!(all.len() > 1, "nothing else happens either");
    }

    fn last(mut self, last: Program) -> Self {
        self.last = Some(last);
        self
    }
}

// Coherence: the order of accesses to one place.

#[test]
fn corr_never_goes_back() {
    let mut litmus = Litmus::new(&[
        |h| {
            h.store_u64(CX, 1);
            h.store_u64(CX, 2);
            vec![]
        },
        |h| vec![h.load_u64(CX), h.load_u64(CX)],
    ]);
    let forwards: [&[u64]; 6] = [&[0, 0], &[0, 1], &[0, 2], &[1, 1], &[1, 2], &[2, 2]];
    litmus.exactly(&forwards);
    litmus = litmus.weak();
    litmus.exactly(&forwards);
}

#[test]
fn coww_keeps_the_last_store() {
    for last in [(|h| vec![h.load_u64(X)]) as Program, |h| vec![h.load_u64(CX)]] {
        let program: Program = |h| {
            for line in [X, CX] {
                h.store_u64(line, 1);
                h.store_u64(line, 2);
            }
            vec![]
        };
        Litmus::new(&[program]).last(last).exactly(&[&[2]]);
        Litmus::new(&[program]).weak().last(last).exactly(&[&[2]]);
    }
}

#[test]
fn cowr_sees_the_own_store_or_a_later_one() {
    let programs: [Program; 2] = [
        |h| {
            h.store_u64(CX, 1);
            vec![h.load_u64(CX)]
        },
        |h| {
            h.store_u64(CX, 2);
            vec![]
        },
    ];
    let litmus = Litmus::new(&programs).last(|h| vec![h.load_u64(CX)]);
    litmus.exactly(&[&[1, 1], &[1, 2], &[2, 2]]);
}

#[test]
fn corw_comes_after_what_was_read() {
    let programs: [Program; 2] = [
        |h| {
            let r = h.load_u64(CX);
            h.store_u64(CX, 1);
            vec![r]
        },
        |h| {
            h.store_u64(CX, 2);
            vec![]
        },
    ];
    Litmus::new(&programs).last(|h| vec![h.load_u64(CX)]).exactly(&[&[0, 1], &[0, 2], &[2, 1]]);
}

// 2+2W, R and S: stores of two hosts to two places.

const BOTH_COHERENT: Program = |h| vec![h.load_u64(CX), h.load_u64(CY)];
const BOTH_PRIVATE: Program = |h| vec![h.load_u64(X), h.load_u64(Y)];

#[test]
fn two_plus_two_w_in_the_coherent_region() {
    let programs: [Program; 2] = [
        |h| {
            h.store_u64(CX, 1);
            h.store_u64(CY, 2);
            vec![]
        },
        |h| {
            h.store_u64(CY, 1);
            h.store_u64(CX, 2);
            vec![]
        },
    ];
    Litmus::new(&programs).last(BOTH_COHERENT).forbids(&[1, 1]);
    Litmus::new(&programs).weak().last(BOTH_COHERENT).allows(&[1, 1]);
    let fenced: [Program; 2] = [
        |h| {
            h.store_u64(CX, 1);
            h.store_fence();
            h.store_u64(CY, 2);
            vec![]
        },
        |h| {
            h.store_u64(CY, 1);
            h.store_fence();
            h.store_u64(CX, 2);
            vec![]
        },
    ];
    Litmus::new(&fenced).weak().last(BOTH_COHERENT).forbids(&[1, 1]);
}

#[test]
fn two_plus_two_w_without_coherence_needs_flush_and_fence() {
    let bare: [Program; 2] = [
        |h| {
            h.store_u64(X, 1);
            h.store_u64(Y, 2);
            vec![]
        },
        |h| {
            h.store_u64(Y, 1);
            h.store_u64(X, 2);
            vec![]
        },
    ];
    Litmus::new(&bare).last(BOTH_PRIVATE).allows(&[1, 1]);
    let flushed: [Program; 2] = [
        |h| {
            h.store_u64(X, 1);
            h.clean(X..X + 8);
            h.store_u64(Y, 2);
            h.clean(Y..Y + 8);
            h.fence();
            vec![]
        },
        |h| {
            h.store_u64(Y, 1);
            h.clean(Y..Y + 8);
            h.store_u64(X, 2);
            h.clean(X..X + 8);
            h.fence();
            vec![]
        },
    ];
    Litmus::new(&flushed).last(BOTH_PRIVATE).allows(&[1, 1]);
    let fenced: [Program; 2] = [
        |h| {
            h.store_u64(X, 1);
            write_back(h, X);
            h.store_u64(Y, 2);
            write_back(h, Y);
            vec![]
        },
        |h| {
            h.store_u64(Y, 1);
            write_back(h, Y);
            h.store_u64(X, 2);
            write_back(h, X);
            vec![]
        },
    ];
    Litmus::new(&fenced).last(BOTH_PRIVATE).forbids(&[1, 1]);
}

#[test]
fn r_is_allowed_until_the_reader_fences() {
    let writer: Program = |h| {
        h.store_u64(CX, 1);
        h.store_u64(CY, 1);
        vec![]
    };
    let reader: Program = |h| {
        h.store_u64(CY, 2);
        vec![h.load_u64(CX)]
    };
    let fenced: Program = |h| {
        h.store_u64(CY, 2);
        h.fence();
        vec![h.load_u64(CX)]
    };
    Litmus::new(&[writer, reader]).last(|h| vec![h.load_u64(CY)]).allows(&[0, 2]);
    Litmus::new(&[writer, fenced]).last(|h| vec![h.load_u64(CY)]).forbids(&[0, 2]);
}

#[test]
fn s_is_forbidden_where_stores_keep_their_order() {
    let programs: [Program; 2] = [
        |h| {
            h.store_u64(CX, 2);
            h.store_u64(CY, 1);
            vec![]
        },
        |h| {
            let r = h.load_u64(CY);
            h.store_u64(CX, 1);
            vec![r]
        },
    ];
    Litmus::new(&programs).last(|h| vec![h.load_u64(CX)]).forbids(&[1, 2]);
    Litmus::new(&programs).weak().last(|h| vec![h.load_u64(CX)]).allows(&[1, 2]);
}

// Load buffering and causality over three hosts.

#[test]
fn lb_without_coherence_is_forbidden_too() {
    Litmus::new(&[
        |h| {
            let r = fresh(h, X);
            h.store_u64(Y, 1);
            write_back(h, Y);
            vec![r]
        },
        |h| {
            let r = fresh(h, Y);
            h.store_u64(X, 1);
            write_back(h, X);
            vec![r]
        },
    ])
    .forbids(&[1, 1]);
}

#[test]
fn wrc_holds_in_the_coherent_region_and_with_fresh_loads() {
    let coherent: [Program; 3] = [
        |h| {
            h.store_u64(CX, 1);
            vec![]
        },
        |h| {
            let r = h.load_u64(CX);
            h.store_u64(CY, r);
            vec![]
        },
        |h| vec![h.load_u64(CY), h.load_u64(CX)],
    ];
    Litmus::new(&coherent).forbids(&[1, 0]);
    Litmus::new(&coherent).weak().forbids(&[1, 0]);
    let told: [Program; 3] = [
        |h| {
            h.store_u64(X, 1);
            write_back(h, X);
            vec![]
        },
        |h| {
            let r = h.load_u64(X);
            h.store_u64(CY, r);
            vec![]
        },
        |h| vec![h.load_u64(CY), fresh(h, X)],
    ];
    Litmus::new(&told).forbids(&[1, 0]);
    let stale: [Program; 3] = [told[0], told[1], |h| vec![h.load_u64(CY), h.load_u64(X)]];
    Litmus::new(&stale).allows(&[1, 0]);
}

// Store fences.

#[test]
fn sb_passes_a_store_fence_although_a_line_is_written_back() {
    let other: Program = |h| {
        h.swap(CY, 1);
        vec![fresh(h, X)]
    };
    let store_fence: Program = |h| {
        h.store_u64(X, 1);
        h.clean(X..X + 8);
        h.store_fence();
        vec![h.load_u64(CY)]
    };
    let fence: Program = |h| {
        h.store_u64(X, 1);
        write_back(h, X);
        vec![h.load_u64(CY)]
    };
    Litmus::new(&[store_fence, other]).allows(&[0, 0]);
    Litmus::new(&[fence, other]).forbids(&[0, 0]);
}

#[test]
fn a_store_fence_orders_what_survives_a_crash() {
    for fenced in [true, false] {
        let program: Program = match fenced {
            true => |h| {
                h.store_u64(X, 1);
                h.clean(X..X + 8);
                h.store_fence();
                h.store_u64(Y, 1);
                vec![]
            },
            false => |h| {
                h.store_u64(X, 1);
                h.clean(X..X + 8);
                h.store_u64(Y, 1);
                vec![]
            },
        };
        let later_alone = [u64::MAX, 0, 1];
        let mut crash = Litmus::new(&[program]);
        crash.crash = Some((0, BOTH_PRIVATE));
        let mut power = Litmus::new(&[program]);
        power.power = Some(BOTH_PRIVATE);
        for litmus in [crash, power] {
            match fenced {
                true => litmus.forbids(&later_alone),
                false => litmus.allows(&later_alone),
            }
        }
    }
}
