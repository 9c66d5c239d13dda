use super::*;
use crate::{Addressable, Bytes, Health, Provenance, TierId, provider};
use tiermem_sys::guarded;

fn faulty(spec: &str, script: &str) -> Faulty {
    let inner = provider::open(&spec.parse().unwrap(), TierId(2)).unwrap();
    Faulty::new(inner, &script.parse().unwrap(), Clock::Virtual).unwrap()
}

const MEMFD: &str = "slow=dax-file:memfd,size=16M";

fn one(tier: &Faulty) -> Extent {
    tier.reserve(GRANULE, Provenance::Tool).unwrap()
}

/// Loads a byte as a program would, and says whether a signal came.
fn loads(extent: &Extent, offset: usize) -> bool {
    let at = extent.address().unwrap();
    // SAFETY: the byte lies in the extent, which is mapped.
    let at = unsafe { at.add(offset) };
    let mut byte = [0];
    // SAFETY: as above.
    unsafe { guarded::read(at, &mut byte) }.is_ok()
}

#[test]
fn a_poisoned_line_is_an_error_and_its_neighbours_are_not() {
    let tier = faulty(MEMFD, "poison at-op=3 extent=0 offset=4160 grain=line");
    let extent = one(&tier);
    tier.write(&extent, 4096, &[7; 256]).unwrap();
    let mut into = [0; 256];
    let error = tier.read(&extent, 4096, &mut into).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned { extent: extent.offset(), offset: 4160 });
    assert_eq!((&into[..64], &into[64..]), ([7; 64].as_slice(), [0; 192].as_slice()), "what comes before was copied");
    tier.read(&extent, 4224, &mut into[..128]).unwrap();
    assert_eq!(into[..128], [7; 128], "the next line");
    assert!(loads(&extent, 4160), "only the provider sees a line");
    assert_eq!(tier.health(), Health::Degraded);
}

#[test]
fn a_poisoned_os_page_is_a_signal_for_loads_and_is_not_handed_out_again() {
    let tier = faulty(MEMFD, "poison at-op=2 extent=0 offset=8200");
    let extent = one(&tier);
    tier.write(&extent, 0, &[1]).unwrap();
    let os_page = tiermem_sys::map::os_page_size();
    let bad = 8200 / os_page * os_page;
    assert!(!loads(&extent, bad) && !loads(&extent, bad + os_page - 1));
    assert!(loads(&extent, bad + os_page) && (bad == 0 || loads(&extent, bad - 1)));
    assert!(tier.is_quarantined(&extent) && tier.quarantine_events() > 0);
    let bad_offset = extent.offset();
    tier.release(extent).unwrap();
    let all: Vec<Extent> = (0..7).map(|_| one(&tier)).collect();
    assert!(all.iter().all(|extent| extent.offset() != bad_offset), "handed out again");
    assert!(matches!(tier.reserve(GRANULE, Provenance::Tool).unwrap_err().kind(), ErrorKind::Full { .. }));
    assert_eq!((tier.quarantined(), tier.repair().unwrap(), tier.quarantined()), (GRANULE, GRANULE, Bytes::ZERO));
    let repaired = one(&tier);
    assert_eq!(repaired.offset(), bad_offset);
    assert!(loads(&repaired, bad));
    all.into_iter().chain([repaired]).for_each(|extent| tier.release(extent).unwrap());
}

#[test]
fn a_removed_device_returns_empty() {
    let tier = faulty(MEMFD, "remove at-op=3 for-ops=2");
    let before = one(&tier);
    tier.write(&before, 0, b"before").unwrap();
    assert_eq!(tier.read(&before, 0, &mut [0; 6]).unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(tier.health(), Health::Failed);
    assert_eq!(tier.reserve(GRANULE, Provenance::Tool).unwrap_err().kind(), ErrorKind::Gone);
    let after = one(&tier);
    assert_eq!(tier.health(), Health::Good, "it is there again");
    let mut into = [1; 6];
    tier.read(&after, 0, &mut into).unwrap();
    assert_eq!(into, [0; 6]);
    assert_eq!(tier.read(&before, 0, &mut into).unwrap_err().kind(), ErrorKind::Gone, "what it held is lost");
    assert!(!loads(&before, 0) && loads(&after, 0));
    tier.release(before).unwrap();
    tier.release(after).unwrap();
    assert_eq!(tier.usage().reserved, Bytes::ZERO);
}

#[test]
fn a_link_that_is_up_again_has_lost_nothing() {
    let tier = faulty(MEMFD, "link-down at-ns=10 for-ns=5");
    let extent = one(&tier);
    tier.write(&extent, 9, b"kept").unwrap();
    tier.advance_to(10);
    assert_eq!(
        (tier.health(), tier.read(&extent, 9, &mut [0; 4]).unwrap_err().kind()),
        (Health::Failed, ErrorKind::Gone)
    );
    tier.advance_to(15);
    let mut into = [0; 4];
    tier.read(&extent, 9, &mut into).unwrap();
    assert_eq!((&into, tier.health()), (b"kept", Health::Good));
    assert!(loads(&extent, 9));
}

#[test]
fn room_errors_and_factors_come_and_go() {
    let script =
        "shrink at-op=2 to=2097152 for-ops=2;io-error at-op=5 on=write for-ops=1;slow at-ns=5 for-ns=5 factor=3";
    let tier = faulty(MEMFD, script);
    let extent = one(&tier);
    let refused = |kind| matches!(kind, ErrorKind::Full { wanted: GRANULE });
    assert!(refused(tier.reserve(GRANULE, Provenance::Tool).unwrap_err().kind()), "shrunk");
    assert_eq!(tier.usage().capacity, GRANULE);
    tier.read(&extent, 0, &mut [0]).unwrap();
    tier.release(one(&tier)).unwrap();
    // The release was the fifth operation, and the error over with it.
    tier.write(&extent, 0, &[1]).unwrap();
    assert_eq!(tier.usage().capacity, Bytes::mib(16));
    let factors = [4, 5, 9, 10].map(|ns| {
        tier.advance_to(ns);
        tier.slowdown()
    });
    assert_eq!(factors, [1.0, 3.0, 3.0, 1.0]);
    let tier = faulty(MEMFD, "io-error at-op=2 on=write");
    let extent = one(&tier);
    let error = tier.write(&extent, 0, &[1]).unwrap_err();
    assert_eq!((error.kind(), error.os_code()), (ErrorKind::System { call: "write" }, Some(Errno::EIO as i32)));
    tier.read(&extent, 0, &mut [0]).unwrap();
}

#[test]
fn a_reset_device_has_lost_its_contexts_and_is_empty() {
    let tier = faulty("gpu=device:emulated,size=8M", "reset at-op=3");
    let before = one(&tier);
    tier.write(&before, 0, &[1; 8]).unwrap();
    assert_eq!(tier.read(&before, 0, &mut [0; 8]).unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(tier.health(), Health::Good);
    let after = one(&tier);
    let mut into = [1; 8];
    tier.read(&after, 0, &mut into).unwrap();
    assert_eq!(into, [0; 8]);
    tier.release(before).unwrap();
    tier.release(after).unwrap();
    assert_eq!(tier.usage().reserved, Bytes::ZERO);
}

fn history(seed: u64) -> Vec<Happened> {
    let tier = faulty(MEMFD, &format!("seed={seed};poison probability=0.1 grain=line;full probability=0.05 for-ops=1"));
    let mut held = Vec::new();
    for turn in 0..200 {
        match tier.reserve(GRANULE, Provenance::Tool) {
            Ok(extent) if turn % 3 > 0 => held.push(extent),
            Ok(extent) => tier.release(extent).unwrap(),
            Err(_) => held.drain(..).for_each(|extent| tier.release(extent).unwrap()),
        }
        let _ = tier.repair().unwrap();
    }
    // Offsets are the tier's, so they compare between runs.
    tier.happened()
}

#[test]
fn the_same_seed_brings_the_same_faults() {
    let first = history(5);
    assert!(first.len() > 20, "{}", first.len());
    assert_eq!(first, history(5));
    assert_ne!(first, history(6));
}

#[test]
fn a_fault_waits_for_its_extent_and_misses_what_is_gone() {
    let tier = faulty(MEMFD, "poison at-op=1 extent=1 grain=line;poison at-op=3 extent=0 grain=line");
    tier.release(one(&tier)).unwrap();
    assert_eq!((tier.happened().len(), tier.missed()), (0, 0));
    let extent = one(&tier);
    assert_eq!(tier.missed(), 1, "extent 0 was released");
    tier.poll();
    assert!(tier.is_quarantined(&extent));
    assert!(!tier.poll(), "nothing waits for time");
}

#[test]
fn a_nearby_tier_in_the_script_is_left_alone() {
    let tier = faulty(MEMFD, "full at-op=1 tier=other");
    tier.release(one(&tier)).unwrap();
    assert!(tier.happened().is_empty());
}

#[test]
fn parts_of_an_extent_are_released_one_by_one() {
    let tier = faulty(MEMFD, "poison at-op=2 extent=0 offset=2097152 grain=line");
    let extent = tier.reserve(Bytes::mib(4), Provenance::Tool).unwrap();
    assert_eq!(tier.read(&extent, 0, &mut [0; 4096]), Ok(()));
    assert!(matches!(
        tier.read(&extent, GRANULE.0 - 64, &mut [0; 128]).unwrap_err().kind(),
        ErrorKind::Poisoned { .. }
    ));
    let at = extent.address().unwrap();
    // SAFETY: the second granule of the extent.
    let second = unsafe { at.add(GRANULE.0 as usize) };
    for (offset, at) in [(extent.offset(), at), (extent.offset() + GRANULE.0, second)] {
        tier.release(Extent::from_parts(TierId(2), offset, GRANULE, Some(at), Provenance::Tool)).unwrap();
    }
    assert_eq!((tier.usage().reserved, tier.quarantined()), (GRANULE, GRANULE));
}

/// Somebody has heard from the device: it does not matter who holds the place, or whether anybody does.
#[test]
fn a_place_is_set_aside_whoever_holds_it() {
    let tier = faulty(MEMFD, "full at-op=1000");
    let held = one(&tier);
    let free = held.offset() + 3 * GRANULE.0;
    tier.quarantine_place(held.offset() + 5).unwrap();
    tier.quarantine_place(free).unwrap();
    assert_eq!((tier.health(), tier.quarantined()), (Health::Degraded, Bytes::mib(4)));
    assert!(tier.is_quarantined(&held));
    let places = [held.offset(), free];
    tier.release(held).unwrap();
    let all: Vec<Extent> = (0..6).map(|_| one(&tier)).collect();
    assert!(all.iter().all(|extent| !places.contains(&extent.offset())), "handed out again");
    assert!(matches!(tier.reserve(GRANULE, Provenance::Tool).unwrap_err().kind(), ErrorKind::Full { .. }));
    assert_eq!(tier.quarantine_place(Bytes::mib(16).0).unwrap_err().kind(), ErrorKind::OutOfRange);
    let dram = provider::open(&"d=dram,size=16M".parse().unwrap(), TierId(0)).unwrap();
    assert!(matches!(dram.quarantine_place(0).unwrap_err().kind(), ErrorKind::Unsupported { .. }));
    all.into_iter().for_each(|extent| tier.release(extent).unwrap());
}
