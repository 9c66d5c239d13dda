//! Any bytes as a policy file.
//!
//! `cargo fuzz run --sanitizer=none policy fuzz/corpus/policy fuzz/seeds/policy -- -dict=fuzz/policy.dict`
#![no_main]

#[path = "../bodies/policy.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::check_policy(input));
