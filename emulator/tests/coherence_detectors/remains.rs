//! What should be gone, and what should not be touched.

use super::*;

#[test]
fn an_erasure_that_stays_in_the_cache() {
    finds(Detector::PlaintextAfterErase, 0, |s, program| {
        s.host("tenant", move |h| {
            h.store(X, &[0x5e; 64]);
            write_back(h, X);
            h.secret(X..X + 64);
            h.store(X, &[0; 64]);
            if program == Right {
                write_back(h, X);
            }
            h.erased(X..X + 64);
        });
    });
}

#[test]
fn a_secret_that_comes_back_from_another_cache() {
    finds(Detector::PlaintextAfterErase, 2, |s, program| {
        s.host("tenant", move |h| {
            h.store(X, &[0x5e; 64]);
            h.secret(X..X + 64);
            if program == Right {
                write_back(h, X);
            }
            h.swap(CX, 1);
        });
        s.host("eraser", |h| {
            wait_for(h, CX, 1);
            h.store(X, &[0; 64]);
            write_back(h, X);
            h.erased(X..X + 64);
        });
    });
}

#[test]
fn poison_that_nobody_quarantines() {
    finds(Detector::PoisonNotQuarantined, 1, |s, program| {
        s.may_poison(X..X + 64);
        s.host("reader", move |h| {
            if h.try_load(X, &mut [0; 8]).is_err() && program == Right {
                h.quarantined(X..X + 64);
            }
        });
    });
}

#[test]
fn poison_that_is_used_again() {
    finds(Detector::PoisonNotQuarantined, 1, |s, program| {
        s.may_poison(X..X + 64);
        s.host("reader", move |h| {
            for _ in 0..2 {
                if h.try_load(X, &mut [0; 8]).is_err() {
                    h.quarantined(X..X + 64);
                    if program == Right {
                        return;
                    }
                    // Tries again, as if it were a glitch.
                }
            }
        });
    });
}

#[test]
fn poison_that_is_handed_out() {
    finds(Detector::PoisonNotQuarantined, 2, |s, program| {
        s.may_poison(X..X + 64);
        s.host("user", |h| {
            if h.try_load(X, &mut [0; 8]).is_err() {
                h.quarantined(X..X + 64);
                h.swap(CX, 1);
            }
            h.swap(CY, 1);
        });
        s.host("allocator", move |h| {
            wait_for(h, CY, 1);
            if h.load_u64(CX) == 0 || program == Wrong {
                h.allocated(X..X + 64);
            }
        });
    });
}
