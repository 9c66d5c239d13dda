//! The runner: every allocator on every cell, interleaved, with spread, and with crashes shown.

pub mod callgrind;
pub mod cells;
pub mod child;
pub mod hardened;
pub mod hints;
pub mod instructions;
pub mod markdown;
pub mod measure;
pub mod plot;
pub mod programs;
pub mod redis;
pub mod reported;
pub mod rivals;
pub mod startup;
pub mod statistics;
pub mod summary;
pub mod targets;
