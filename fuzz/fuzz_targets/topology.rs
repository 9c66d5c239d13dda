//! Any bytes as a topology file.
//!
//! `cargo fuzz run --sanitizer=none topology fuzz/corpus/topology fuzz/seeds/topology`
#![no_main]

#[path = "../bodies/topology.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::check_topology(input));
