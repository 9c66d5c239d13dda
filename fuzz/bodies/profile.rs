//! What must hold for any bytes given as a profile file. The fuzzer runs it, and so does an ordinary test.

use tiermem_topology::{Profile, ProfileFigures};

/// Parses `input` as a profile file.
///
/// # Panics
/// Where a promise is broken: a complaint outside the text, a profile that does not survive being written and read, or
/// figures that no device can have.
pub fn check_profile(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let profile = match Profile::parse(text, "fuzz.toml") {
        Ok(profile) => profile,
        Err(error) => {
            let lines = text.matches('\n').count() + 1;
            assert!(!error.entries().is_empty());
            for entry in error.entries() {
                assert!((1..=lines).contains(&entry.line) && entry.column >= 1 && entry.width >= 1, "{entry:?}");
                assert!(!entry.message.is_empty() && entry.message.len() < 4096, "{entry:?}");
            }
            return;
        }
    };
    let shown = profile.to_string();
    let again = Profile::parse(&shown, "shown.toml").unwrap_or_else(|error| panic!("{error}\n{shown}"));
    assert_eq!(profile, again, "{shown}");
    if let ProfileFigures::Memory(memory) = &profile.figures {
        let mut before = 0.0;
        for percent in 0..=100 {
            let share = f64::from(percent) / 100.0;
            let (factor, bandwidth) = (memory.latency_factor(share), memory.bandwidth(share));
            assert!(factor >= 1.0 && factor >= before && factor.is_finite(), "{share}: {factor}\n{shown}");
            assert!(bandwidth > 0.0 && bandwidth.is_finite(), "{share}: {bandwidth}\n{shown}");
            before = factor;
        }
    }
}
