//! Writers that take away what others have written.

use super::*;

#[test]
fn a_dirty_line_over_a_newer_owners() {
    finds(Detector::WriteBackOverNewer, 2, |s, program| {
        s.host("old owner", move |h| {
            h.store_u64(X, 1);
            if program == Right {
                write_back(h, X);
            }
            h.store_u64(CX, 1);
        });
        s.host("new owner", |h| {
            wait_for(h, CX, 1);
            // A whole line: it needs nothing of what was there.
            h.store(X, &[2; 64]);
            write_back(h, X);
        });
    });
}

#[test]
fn neighbours_in_a_line() {
    finds(Detector::WriteBackOverNewer, 2, |s, program| {
        let second = if program == Right { Y } else { X + 8 };
        for (name, mine) in [("first", X), ("second", second)] {
            s.host(name, move |h| {
                h.store_u64(mine, 1);
                write_back(h, mine);
            });
        }
    });
}

#[test]
fn a_lock_outside_the_coherent_region() {
    finds(Detector::CasOutsideCoherentRegion, 1, |s, program| {
        let lock = if program == Right { CX } else { X };
        for name in ["one", "two"] {
            s.host(name, move |h| {
                while h.compare_exchange(lock, 0, 1).is_err() {
                    h.pause();
                }
                h.store_u64(lock, 0);
            });
        }
    });
}
