//! The QEMU lab from outside: each topology is started as its users start it, and what comes up is proved by our own programs
//! in the guest.
//!
//! `TIERMEM_LAB` says what is run: `off`, `short` (the module [`short`]) or `full` (all). Without it the short set is run
//! where `tierctl qemu fetch` has been, and skipped elsewhere.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod full;
mod guests;
mod short;
