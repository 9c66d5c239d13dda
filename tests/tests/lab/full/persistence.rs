//! What a device holds outlives the guest.

use crate::guests::{Guests, SUITE, Set};

/// Writes in one guest, looks in the next, and as a control in one with a new device.
fn is_kept(topology: &str, place: &str, suite: &str) {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let guests = || Guests::of(Set::Full, topology);
    let Some(first) = guests() else { return };
    first.option("--state", &state).holds(1, &format!("$G keep {place}"));
    let second = guests().unwrap().option("--state", &state);
    second.holds(SUITE + 1, &format!("$G kept {place}\n{suite}"));
    drop(second);
    let said = guests().unwrap().run(&format!("$G kept {place}"));
    assert!(said.code == Some(1) && said.text.contains("not ok kept"), "a new device holds nothing: {}", said.text);
}

#[test]
fn a_device_keeps_its_contents() {
    is_kept("persistent-devdax", "${T#*devdax:}", "$C $T,size=8M");
}

/// ext4 with `dax=always`: a file is the memory itself.
#[test]
fn a_file_system_keeps_its_files() {
    let suite = "grep -q 'pmem0 /mnt/pmem0 ext4 .*dax=always' /proc/mounts\n$C $T,size=16M";
    is_kept("persistent", "/mnt/pmem0/file", suite);
}
