//! Any bytes as a profile file.
//!
//! `cargo fuzz run --sanitizer=none profile fuzz/corpus/profile fuzz/seeds/profile`
#![no_main]

#[path = "../bodies/profile.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::check_profile(input));
