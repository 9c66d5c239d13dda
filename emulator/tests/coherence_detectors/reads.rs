//! Readers that get something old, something too early, or a mixture.

use super::*;

#[test]
fn a_stale_line() {
    finds(Detector::StaleRead, 1, |s, program| {
        s.host("writer", |h| {
            h.store_u64(X, 1);
            write_back(h, X);
            h.store_u64(CX, 1);
        });
        s.host("reader", move |h| {
            wait_for(h, CX, 1);
            if program == Right {
                invalidate(h, X);
            }
            h.load_u64(X);
        });
    });
}

#[test]
fn a_flag_before_the_payload() {
    // No annotation: what the reader must have heard of is known from the flag.
    finds(Detector::PublishBeforeFlush, 1, |s, program| {
        s.host("writer", move |h| {
            h.store_u64(X, 1);
            h.clean(X..X + 8);
            if program == Right {
                h.fence();
            }
            h.store_u64(CX, 1);
        });
        s.host("reader", |h| {
            wait_for(h, CX, 1);
            invalidate(h, X);
            h.load_u64(X);
        });
    });
}

#[test]
fn a_publication_before_the_flush() {
    // With the annotation nobody needs to read: one run tells.
    finds(Detector::PublishBeforeFlush, 0, |s, program| {
        s.host("writer", move |h| {
            h.store(X, &[1; 128]);
            let end = if program == Right { X + 128 } else { X + 64 };
            h.clean(X..end);
            h.fence();
            h.publish(X..X + 128);
        });
    });
}

#[test]
fn a_torn_object() {
    const SEQUENCE: u64 = CX;
    finds(Detector::TornPublish, 3, |s, program| {
        s.host("writer", |h| {
            for version in 1..=2 {
                h.store_u64(SEQUENCE, 2 * version - 1);
                h.store_fence();
                h.store(X, &[u8::try_from(version).unwrap_or(0); 128]);
                h.clean(X..X + 128);
                h.fence();
                h.publish(X..X + 128);
                h.store_u64(SEQUENCE, 2 * version);
            }
        });
        s.host("reader", move |h| {
            let mut object = [0; 128];
            loop {
                let before = h.load_u64(SEQUENCE);
                h.flush(X..X + 128);
                h.fence();
                let glance = h.load_optimistic(X, &mut object);
                let after = h.load_u64(SEQUENCE);
                let whole = before == after && before.is_multiple_of(2);
                if whole || program == Wrong {
                    h.rely_on(&glance);
                    return;
                }
                h.pause();
            }
        });
    });
}
