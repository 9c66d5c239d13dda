//! Sampling a running program: where it waits for memory, and what that says about slower memory. An experiment:
//! `docs/sampled.md` says how far to trust it.

pub mod calibrate;
mod code;
pub mod sites;
mod steps;
pub mod verdict;
