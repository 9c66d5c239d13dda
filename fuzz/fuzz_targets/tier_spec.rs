//! Any text is either a tier or a complaint; a tier survives being written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tiermem_tiers::TierSpec;

fuzz_target!(|text: &str| {
    match text.parse::<TierSpec>() {
        Ok(spec) => {
            let written = spec.to_string();
            assert_eq!(written.parse::<TierSpec>().as_ref(), Ok(&spec), "from {written}");
        }
        Err(complaint) => assert!(!complaint.to_string().is_empty()),
    }
});
