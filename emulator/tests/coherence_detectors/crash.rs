//! A log whose records outlive crashes: each step between the store and the promise is needed.

use super::*;

const RECORD: u64 = X;
const COUNT: u64 = Y;

/// What a host does to append a record. After any of these it may crash.
const STEPS: [fn(&Host<'_>); 5] = [
    |h| h.store_u64(RECORD, 7),
    |h| h.clean(RECORD..RECORD + 8),
    |h| h.fence(),
    |h| h.store_u64(COUNT, 1),
    |h| write_back(h, COUNT),
];

fn append(host: &Host<'_>, left_out: Option<usize>) {
    for (_, step) in STEPS.iter().enumerate().filter(|(index, _)| Some(*index) != left_out) {
        step(host);
    }
    host.promise_durable(COUNT..COUNT + 8);
    host.promise_durable(RECORD..RECORD + 8);
}

/// What has been counted is there.
fn check(host: &Host<'_>) {
    if host.load_u64(COUNT) == 1 {
        host.load_u64(RECORD);
    }
}

#[test]
fn a_promise_broken_by_a_crash_or_a_loss_of_power() {
    for power in [false, true] {
        // Without the clean, without the fence between record and count, without the count's own.
        for left_out in [1, 2, 4] {
            finds(Detector::LostAtCrash, 2, move |s, program| {
                let left_out = (program == Wrong).then_some(left_out);
                if power {
                    s.power_may_fail().host("writer", move |h| append(h, left_out));
                } else {
                    s.host_that_may_crash("writer", move |h| append(h, left_out));
                }
                s.recovery(check);
            });
        }
    }
}

#[test]
fn a_crash_comes_at_every_persist_point() {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::rc::Rc;
    let seen: Rc<RefCell<BTreeSet<usize>>> = Rc::default();
    let report = Explorer::new().strategies(&[Strategy::Exhaustive]).check(|s| {
        let steps = Rc::new(RefCell::new(0));
        let (mine, seen) = (Rc::clone(&steps), Rc::clone(&seen));
        s.host_that_may_crash("writer", move |h| {
            for step in STEPS {
                step(h);
                *mine.borrow_mut() += 1;
            }
        });
        s.recovery(move |_| {
            seen.borrow_mut().insert(*steps.borrow());
        });
    });
    report.assert_clean();
    // A crash right before the clean would be no other than one right after it: the store is in the cache in both.
    assert_eq!(*seen.borrow(), [0, 2, 3, 4, 5].into());
}

#[test]
fn what_others_know_of_is_lost_with_its_writer() {
    finds(Detector::LostAtCrash, 3, |s, program| {
        s.host_that_may_crash("writer", move |h| {
            h.store_u64(X, 1);
            if program == Right {
                write_back(h, X);
            }
            h.swap(CX, 1);
            write_back(h, CX);
        });
        s.recovery(|h| {
            if h.load_u64(CX) == 1 {
                h.load_u64(X);
            }
        });
    });
}
