//! Memory that is used after its time, or by two at a time.

use super::*;

#[test]
fn a_lease_that_was_revoked() {
    // The owner revokes a lease when a timer fires. Its holder must have said that it is done.
    finds(Detector::UseAfterEnd, 3, |s, program| {
        s.host("holder", |h| {
            wait_for(h, CX, 1);
            h.using(X..X + 64, 7);
            h.store_u64(X, 1);
            write_back(h, X);
            h.not_using(X..X + 64);
            h.store_u64(CY, 1);
        });
        s.host("owner", move |h| {
            h.lease_begin(X..X + 64, 7);
            h.not_using(X..X + 64);
            h.store_u64(CX, 1);
            let expired = h.choose(2) == 1;
            if program == Right || !expired {
                wait_for(h, CY, 1);
            }
            h.lease_end(X..X + 64, 7);
        });
    });
}

#[test]
fn a_generation_that_is_over() {
    const GENERATION: u64 = CX;
    finds(Detector::UseAfterEnd, 3, |s, program| {
        s.initial_u64(GENERATION, 1);
        s.host("owner", |h| {
            h.lease_begin(X..X + 64, 1);
            h.not_using(X..X + 64);
            h.store_u64(CY, 1);
            h.lease_end(X..X + 64, 1);
            h.swap(GENERATION, 2);
        });
        s.host("reader", move |h| {
            wait_for(h, CY, 1);
            let generation = h.load_u64(GENERATION);
            invalidate(h, X);
            let mut line = [0; 64];
            let glance = h.load_optimistic(X, &mut line);
            if program == Right {
                // What was read of an old generation is thrown away.
                if h.load_u64(GENERATION) == generation {
                    h.rely_on(&glance);
                }
            } else {
                h.using(X..X + 64, generation);
                h.load_u64(X);
            }
        });
    });
}

#[test]
fn a_block_handed_out_again_after_a_recovery() {
    /// One bit for each block: taken.
    const TAKEN: u64 = Y;
    const BLOCK: std::ops::Range<u64> = X..X + 64;
    finds(Detector::DoubleAllocation, 3, |s, program| {
        s.host_that_may_crash("allocator", move |h| {
            h.store_u64(TAKEN, 1);
            if program == Right {
                write_back(h, TAKEN);
            }
            h.store_u64(CX, 1);
        });
        s.host("client", |h| {
            // A client that gets no answer asks nobody: it would wait for the recovery in a longer test.
            if h.load_u64(CX) == 1 {
                h.allocated(BLOCK);
            }
        });
        s.recovery(|h| {
            invalidate(h, TAKEN);
            if h.load_u64(TAKEN) == 0 {
                h.allocated(BLOCK);
            }
        });
    });
}

#[test]
fn a_block_given_back_twice() {
    finds(Detector::DoubleAllocation, 2, |s, program| {
        let take = move |h: &Host<'_>| match program {
            Right => h.compare_exchange(CX, 1, 0).is_ok(),
            Wrong => h.load_u64(CX) == 1,
        };
        s.host("owner", move |h| {
            h.allocated(X..X + 64);
            h.store_u64(CX, 1);
            if take(h) {
                h.freed(X..X + 64);
                h.store_u64(CX, 0);
            }
        });
        s.host("collector", move |h| {
            if take(h) {
                h.freed(X..X + 64);
                h.store_u64(CX, 0);
            }
        });
    });
}

#[test]
fn a_block_reclaimed_from_somebody_who_lives() {
    finds(Detector::DoubleAllocation, 2, |s, program| {
        s.host_that_may_crash("first", |h| h.allocated(X..X + 64));
        s.host("second", |h| h.allocated(Y..Y + 64));
        s.recovery(move |h| {
            for (name, block) in [("first", X..X + 64), ("second", Y..Y + 64)] {
                if program == Wrong || h.has_crashed(name) {
                    h.reclaimed(block);
                }
            }
        });
    });
}
