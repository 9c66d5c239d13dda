//! What every run of the tests looks at.

use crate::guests::{Guests, SUITE, Set};

/// CXL memory as a node without CPUs: the provider, the kernel's ways to move memory, its interleaving.
#[test]
fn one_expander_as_a_node() {
    let Some(guests) = Guests::of(Set::Short, "one-expander") else { return };
    guests.holds(
        SUITE + 7,
        "test $T = cxl0=cxl-node:1
        $C $T,size=32M
        $G lies-on 1
        $G move-pages 0 1
        $G mbind 0 1
        $G lost-updates-are-seen
        $G weighted 0 1
        $G weighted 0=3 1=1
        $G weighted 0=1 1=4",
    );
}

/// The same memory as a device that programs map.
#[test]
fn one_expander_as_a_device() {
    let Some(guests) = Guests::of(Set::Short, "one-expander-devdax") else { return };
    // The guest has a file system of its own there.
    let file = tempfile::Builder::new().tempfile_in("/tmp").unwrap();
    std::fs::write(&file, "of the host").unwrap();
    let guests = guests.option("--copy", file.path());
    let there = format!("grep -qx 'of the host' {}", file.path().display());
    guests.holds(SUITE + 2, &format!("{there}\ntest $T = cxl0=devdax:/dev/dax0.0\n$C $T,size=16M"));
}

/// Two kernels increment one number in the memory that they share.
#[test]
fn two_guests_with_one_pool() {
    let Some(guests) = Guests::of(Set::Short, "pool-2") else { return };
    guests.holds(2, "$G increments ${T#*devdax:}");
}
