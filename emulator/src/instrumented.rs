//! What an instrumented program did, access by access, in virtual time.
//!
//! The run time of instrumented programs (`tiermem-instrument`) brings batches of [`Record`]s, one for each load and
//! store of the program, and tells of allocations. An [`Engine`] puts them through the caches of a host into a
//! [`Serve`](crate::model::Serve), keeps a clock for each thread and counts by thread, tier and allocation site.
//!
//! | module | what it answers |
//! |---|---|
//! | [`record`] | how an access is packed |
//! | [`filter`] | which accesses need no record |
//! | [`check`] | the text of the checks in front of accesses |
//! | `space` | which frame an OS page has, and whose block an address lies in |
//! | `clock` | how accesses of a thread overlap |
//! | `placing` | which tier a block goes to |
//! | `engine` | all of it together |
//! | `batch` | its hot path |
//! | `tally` | what of it needs no more than sums |
//! | [`turns`] | whose batch comes next |
//! | `recorder` | how it gets into a trace |
//! | [`config`] | what the run time is told through the environment |
//! | [`report`] | what it says at the end |

mod batch;
pub mod check;
mod clock;
pub mod config;
mod engine;
pub mod filter;
#[cfg(test)]
mod filter_tests;
mod placing;
mod recent;
pub mod record;
mod recorder;
pub mod report;
mod space;
mod tally;
#[cfg(test)]
mod tests;
pub mod turns;

pub use batch::{Batch, Part};
pub use clock::Overlap;
pub use config::Config;
pub use engine::{Engine, ThreadIndex};
pub use filter::{Passed, ThreadState};
pub use placing::{NamedFrame, PolicyRules, Rules};
pub use record::Record;
pub use recorder::Recorder;
