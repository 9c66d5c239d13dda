//! More than two hosts with one memory.

use crate::guests::{Guests, Set};

#[test]
fn three_guests_with_one_pool() {
    let Some(guests) = Guests::of(Set::Full, "pool-3") else { return };
    guests.holds(3, "$G increments ${T#*devdax:}");
}

/// Copies of a topology with one host share its devices.
#[test]
fn copies_share_their_devices() {
    let Some(guests) = Guests::of(Set::Full, "one-expander-devdax") else { return };
    guests.option("--hosts", "2").holds(2, "$G increments ${T#*devdax:}");
}
