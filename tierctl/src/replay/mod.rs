//! Replays of traces: rules of placement, names of sites, the report.

pub mod document;
mod ending;
pub mod keys;
pub mod rules;
pub mod sites;
pub mod tally;
