//! Any text is either a policy or a complaint with a place in the text; a policy survives being written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tiermem_placement::Policy;

fuzz_target!(|text: &str| {
    match Policy::parse(text, "fuzz.toml") {
        Ok(policy) => {
            let written = policy.to_toml();
            assert_eq!(Policy::parse(&written, "written.toml").as_ref(), Ok(&policy), "from\n{written}");
            // Everything that can be read can be put to work.
            drop(policy.compile());
        }
        Err(complaints) => assert!(!complaints.entries().is_empty() && !complaints.to_string().is_empty()),
    }
});
