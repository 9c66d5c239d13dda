//! Other kernels than the newest.

use crate::guests::{Guests, SUITE, Set};

/// The release's own kernel: the node and the device.
#[test]
fn the_releases_own_kernel() {
    let Some(guests) = Guests::of(Set::Full, "one-expander").and_then(|guests| guests.kernel("6.12")) else { return };
    let said = guests.holds(
        2 * SUITE,
        "uname -r
        $C $T,size=16M
        $G move-pages 0 1
        $G weighted 0=3 1=1
        $G reclaim 0 1
        tierctl qemu guest convert dax0.0 devdax
        $C d=devdax:/dev/dax0.0,size=8M",
    );
    assert!(said.text.starts_with("6.12."), "{}", said.text);
}

#[test]
fn a_pool_under_the_releases_own_kernel() {
    let Some(guests) = Guests::of(Set::Full, "pool-2").and_then(|guests| guests.kernel("6.12")) else { return };
    guests.holds(2, "$G increments ${T#*devdax:}");
}
