//! Damaged profiles: every one is either refused at its place or means what it says.

use proptest::prelude::*;
use tiermem_topology::{BUILTIN_NAMES, Profile};

#[path = "../../../fuzz/bodies/profile.rs"]
mod body;

proptest! {
    #[test]
    fn a_damaged_profile_is_refused_or_survives(
        which in 0..BUILTIN_NAMES.len(),
        cut in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "[ -~\n]{0,6}"), 0..4),
    ) {
        let mut text = Profile::builtin(BUILTIN_NAMES[which]).map(|profile| profile.to_string()).unwrap_or_default();
        for (at, len, new) in cut {
            // Profiles are not all ASCII: cut at characters.
            let at = text.floor_char_boundary(at.index(text.len()));
            let end = text.floor_char_boundary((at + len).min(text.len()));
            text.replace_range(at..end, &new);
        }
        body::check_profile(text.as_bytes());
    }
}
