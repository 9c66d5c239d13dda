//! With the signal that the kernel would send, sent to ourselves.

use std::ptr::NonNull;

use tiermem_sys::guarded::{Broken, pretend_broken};
use tiermem_sys::process::{self, Ended};

use super::{PLACES_MAX, Place};
use crate::{Bytes, ErrorKind, Extent, GRANULE, Health, Provenance, Provider, TierId, provider};

const OS_PAGE: u64 = 4096;
const SIGBUS: i32 = 7;

fn tier() -> Box<dyn Provider> {
    provider::open(&"w=dax-file:memfd,size=16M".parse().unwrap(), TierId(0)).unwrap()
}

fn extent(tier: &dyn Provider) -> Extent {
    let extent = tier.reserve(Bytes::mib(4), Provenance::Tool).unwrap();
    // The first guarded access puts the handler in place.
    tier.write(&extent, 0, &[7; 3 * OS_PAGE as usize]).unwrap();
    extent
}

fn address(extent: &Extent, offset: u64) -> usize {
    extent.address().unwrap().as_ptr().expose_provenance() + offset as usize
}

fn breaks(extent: &Extent, offset: u64, size_log2: u32) {
    pretend_broken(Broken { address: address(extent, offset), size_log2 }).unwrap();
}

fn poisoned(extent: &Extent, offset: u64) -> ErrorKind {
    ErrorKind::Poisoned { extent: extent.offset(), offset }
}

/// The OS page reads as before, and nobody reads it: that is what a DAX device does after its one signal.
#[test]
fn what_the_kernel_said_once_counts_until_it_is_repaired() {
    let tier = tier();
    let (bad, good) = (extent(tier.as_ref()), extent(tier.as_ref()));
    let events = tier.addressable().unwrap().quarantine_events();
    breaks(&bad, OS_PAGE + 100, 12);
    breaks(&bad, OS_PAGE + 200, 12);
    for _ in 0..2 {
        let mut into = [0; 3 * OS_PAGE as usize];
        assert_eq!(tier.read(&bad, 10, &mut into).unwrap_err().kind(), poisoned(&bad, OS_PAGE));
        assert!(into[..OS_PAGE as usize - 10].iter().all(|&byte| byte == 7), "what comes before is copied");
        assert!(into[OS_PAGE as usize - 10..].iter().all(|&byte| byte == 0), "what is broken is not");
    }
    assert_eq!(tier.write(&bad, 0, &[1; 8192]).unwrap_err().kind(), poisoned(&bad, OS_PAGE));
    tier.read(&bad, 2 * OS_PAGE, &mut [0; 100]).unwrap();
    tier.read(&good, 0, &mut [0; 8192]).unwrap();
    // SAFETY: mapped, and not really broken: the control. Without the word that was kept, nobody would know.
    assert_eq!(unsafe { bad.address().unwrap().add(OS_PAGE as usize).read_volatile() }, 7);

    assert!(tier.health() == Health::Degraded && tier.quarantined() == GRANULE);
    let addressable = tier.addressable().unwrap();
    assert!(addressable.is_quarantined(&bad) && !addressable.is_quarantined(&good));
    assert_ne!(addressable.quarantine_events(), events, "an allocator hears of it without asking for each extent");
    let place = bad.offset();
    tier.release(bad).unwrap();
    assert_eq!(tier.repair().unwrap(), GRANULE);
    let again = extent(tier.as_ref());
    assert_eq!(again.offset(), place, "it is handed out again");
    tier.read(&again, 0, &mut [0; 8192]).unwrap();
    tier.release(again).unwrap();
    tier.release(good).unwrap();
}

/// A huge page that breaks is all of its granule, and one that is larger than granules is all of those.
#[test]
fn sizes_are_as_the_kernel_says() {
    let tier = tier();
    let extent = extent(tier.as_ref());
    breaks(&extent, GRANULE.0 + OS_PAGE, 21);
    tier.read(&extent, 0, &mut [0; 100]).unwrap();
    let mut into = vec![0; 100];
    assert_eq!(tier.read(&extent, GRANULE.0 - 10, &mut into).unwrap_err().kind(), poisoned(&extent, GRANULE.0));
    assert_eq!(tier.quarantined(), GRANULE);
    breaks(&extent, 0, 47);
    assert_eq!(tier.read(&extent, 5, &mut into).unwrap_err().kind(), poisoned(&extent, 5));
    assert_eq!(tier.quarantined(), Bytes::mib(4), "what is not mapped here is not told to us");
    tier.release(extent).unwrap();
}

#[test]
fn more_places_than_are_kept_apart_make_whole_granules() {
    let tier = tier();
    let extent = extent(tier.as_ref());
    (0..PLACES_MAX as u64).for_each(|number| breaks(&extent, number * 2 * OS_PAGE, 12));
    tier.read(&extent, OS_PAGE, &mut [0; 100]).unwrap();
    breaks(&extent, (PLACES_MAX as u64 + 3) * 2 * OS_PAGE, 12);
    assert_eq!(tier.read(&extent, OS_PAGE, &mut [0; 100]).unwrap_err().kind(), poisoned(&extent, OS_PAGE));
    tier.read(&extent, GRANULE.0, &mut [0; 100]).unwrap();
    tier.release(extent).unwrap();
}

/// Memory of nobody who listens, and of a tier that has let go of it: the program ends as it would without us.
#[test]
fn what_is_not_the_tiers_ends_the_program() {
    let tier = tier();
    let extent = extent(tier.as_ref());
    let own = Broken { address: address(&extent, 0), size_log2: 12 };
    assert_eq!(child(own), Ended::Exited(0), "the control: the tier deals with what is its own");
    let local = 0_u8;
    let foreign = NonNull::from(&local).as_ptr().expose_provenance();
    assert_eq!(child(Broken { address: foreign, size_log2: 12 }), Ended::Killed(SIGBUS));
    tier.release(extent).unwrap();
    assert_eq!(child(own), Ended::Killed(SIGBUS));
}

/// A child in which this breaks. Twice: the handler before ours (the Rust runtime's) lets the first one pass and steps back.
fn child(broken: Broken) -> Ended {
    // SAFETY: the child sends itself a signal and ends; neither needs what other threads may hold.
    match unsafe { process::fork() }.unwrap() {
        Some(pid) => process::wait(pid).unwrap(),
        None => process::exit_now((pretend_broken(broken).and(pretend_broken(broken)).is_err()).into()),
    }
}

#[test]
fn a_place_is_one_word() {
    for (offset, size_log2) in [(0, 6), (4096, 12), (64, 6), (1 << 50, 21)] {
        let place = Place { offset, size_log2 };
        assert!(Place::unpacked(place.packed()) == Some(place));
    }
    assert!(Place::unpacked(0).is_none());
}
