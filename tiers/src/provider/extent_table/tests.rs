//! Tests of the table by itself: what is hard to reach through a provider.

use std::os::fd::AsFd;
use std::sync::Mutex;

use tiermem_sys::sync::atomic::Ordering;
use tiermem_sys::{file, process};

use super::format::{Entry, MEMBERS, Phase, Seat, State};
use super::{ExtentTable, Past, Sidecar, Thoroughness};

const GRANULES: u32 = 8;
const NOTHING: super::Erase<'static> = &|_, _| Ok(());

fn table() -> ExtentTable {
    let about = file::memory_file(c"about").unwrap();
    Sidecar::anonymous().unwrap().into_table(about.as_fd(), GRANULES, Past::Unknown, true).unwrap()
}

/// Puts a member into a seat that is no living process.
fn seat_a_ghost(table: &ExtentTable, seat: Seat) {
    let record = table.record(seat);
    record.pid.store(i32::MAX as u32, Ordering::Relaxed);
    record.pid_namespace.store(process::pid_namespace().unwrap(), Ordering::Relaxed);
    record.state.store(State(5 << 32).with(Phase::Live).0, Ordering::Release);
    table.live().groups_used.fetch_max(u32::from(seat.group) + 1, Ordering::AcqRel);
}

#[test]
fn claims_are_runs_and_come_back() {
    let table = table();
    let runs: Vec<_> = [3, 2, 3].map(|count| table.claim(count).unwrap().unwrap()).into();
    assert_eq!(runs, [0, 3, 5]);
    assert_eq!((table.used(), table.claim(1)), (8, Ok(None)));
    table.release(3, 2, NOTHING).unwrap();
    assert_eq!(table.claim(3), Ok(None));
    assert_eq!(table.claim(2), Ok(Some(3)));
}

#[test]
fn what_is_erased_is_exactly_what_nobody_holds() {
    let table = table();
    table.claim(4).unwrap();
    let ghost = Seat { group: table.seat().unwrap().group, index: 1 };
    seat_a_ghost(&table, ghost);
    table.entries()[1].fetch_or(1 << ghost.index, Ordering::Relaxed);
    let erased = Mutex::new(Vec::new());
    let erase = |first, count| {
        erased.lock().unwrap().push((first, count));
        Ok(())
    };
    table.release(0, 4, &erase).unwrap();
    assert_eq!(*erased.lock().unwrap(), [(0, 1), (2, 2)]);
    assert_eq!(table.used(), 1);
    // The ghost is dead: its granule comes back with the next sweep, and its seat with it.
    erased.lock().unwrap().clear();
    assert!(table.sweep(Thoroughness::Quick, &erase));
    assert_eq!(*erased.lock().unwrap(), [(1, 1)]);
    assert_eq!((table.used(), super::member::state(table.record(ghost)).phase()), (0, Phase::Free));
    assert!(!table.sweep(Thoroughness::Full, &erase), "there is nothing left to find");
}

#[test]
fn what_cannot_be_erased_is_not_handed_out() {
    let table = table();
    table.claim(2).unwrap();
    assert!(table.release(0, 2, &|_, _| Err(tiermem_sys::Errno::EIO)).is_err());
    assert_eq!(table.used(), 2);
    table.release(0, 2, NOTHING).unwrap();
    assert_eq!(table.used(), 0);
}

#[test]
fn a_dead_sweeper_is_replaced() {
    let table = table();
    let ghost = Seat { group: 9, index: 3 };
    seat_a_ghost(&table, ghost);
    table.entries()[7].store(Entry::of(ghost).0, Ordering::Relaxed);
    table.live().sweeper.store(1 << 63 | 5 << 32 | u64::from(Seat::pack(Some(ghost))), Ordering::Relaxed);
    assert!(table.sweep(Thoroughness::Quick, NOTHING));
    assert_eq!((table.used(), table.live().sweeper.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn a_member_of_another_pid_namespace_is_left_alone() {
    let table = table();
    let ghost = Seat { group: 2, index: 0 };
    seat_a_ghost(&table, ghost);
    table.record(ghost).pid_namespace.fetch_add(1, Ordering::Relaxed);
    table.entries()[0].store(Entry::of(ghost).0, Ordering::Relaxed);
    assert!(!table.sweep(Thoroughness::Full, NOTHING));
    assert_eq!(table.used(), 1);
}

#[test]
fn a_child_without_a_seat_keeps_its_granules() {
    let table = table();
    table.claim(1).unwrap();
    let group = table.seat().unwrap().group;
    for index in 1..MEMBERS as u8 {
        let seat = Seat { group, index };
        seat_a_ghost(&table, seat);
        // Living, as far as anybody here can tell.
        table.record(seat).pid_namespace.fetch_add(1, Ordering::Relaxed);
    }
    table.share((0, 1), |_, _| Ok(()), NOTHING).unwrap();
    table.after_fork(false);
    assert!(table.load(0).has(Entry::UNCOUNTED) && table.load(0).has(Entry::SNAPSHOT));
    table.release(0, 1, &|_, _| panic!("a child may still read it")).unwrap();
    table.sweep(Thoroughness::Full, NOTHING);
    assert_eq!(table.used(), 1);
}

#[test]
fn only_the_first_fork_makes_mappings_private() {
    let table = table();
    table.claim(3).unwrap();
    let fresh = Mutex::new(Vec::new());
    for _ in 0..2 {
        let note = |first, count| {
            fresh.lock().unwrap().push((first, count));
            Ok(())
        };
        table.share((0, 3), note, NOTHING).unwrap();
        table.after_fork(false);
    }
    assert_eq!(*fresh.lock().unwrap(), [(0, 3)]);
    // No child came of either: a sweep finds both seats empty.
    assert!(table.sweep(Thoroughness::Quick, NOTHING));
    assert_eq!(table.load(0).holders(), 1);
}

#[test]
fn poison_is_never_handed_out_again() {
    let table = table();
    table.claim(GRANULES).unwrap();
    table.quarantine(4);
    table.release(0, GRANULES, NOTHING).unwrap();
    assert_eq!((table.used(), table.claim(5)), (1, Ok(None)));
    assert_eq!(table.claim(4), Ok(Some(0)));
}

#[test]
fn a_mapping_that_could_not_be_made_private_is_tried_again() {
    let table = table();
    table.claim(2).unwrap();
    assert!(table.share((0, 2), |_, _| Err(tiermem_sys::Errno::ENOMEM), NOTHING).is_err());
    table.after_fork(false);
    let tried = Mutex::new(0);
    let again = |_, count| {
        *tried.lock().unwrap() += count;
        Ok(())
    };
    table.share((0, 2), again, NOTHING).unwrap();
    table.after_fork(false);
    assert_eq!(*tried.lock().unwrap(), 2);
}
