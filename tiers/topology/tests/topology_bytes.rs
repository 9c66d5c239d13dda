//! Damaged topologies: every one is either refused at its place or means what it says.

use proptest::prelude::*;
use tiermem_topology::SHIPPED;

#[path = "../../../fuzz/bodies/topology.rs"]
mod body;

proptest! {
    #[test]
    fn a_damaged_topology_is_refused_or_survives(
        which in 0..SHIPPED.len(),
        cut in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "[ -~\n]{0,6}"), 0..4),
    ) {
        let mut text = SHIPPED[which].1.to_owned();
        for (at, len, new) in cut {
            let at = text.floor_char_boundary(at.index(text.len()));
            let end = text.floor_char_boundary((at + len).min(text.len()));
            text.replace_range(at..end, &new);
        }
        body::check_topology(text.as_bytes());
    }
}
