//! Whether code survives memory that is shared without coherence: the explorer.

mod choice;
mod detect;
mod explorer;
mod finding;
mod history;
mod host;
mod labels;
mod machine;
mod medium;
mod report;
mod run;
mod scenario;
mod shadow;
mod shrink;
mod strategy;
mod timeline;

pub use choice::{Schedule, ScheduleError};
pub use explorer::Explorer;
pub use finding::{Detector, Finding, FindingKind};
pub use host::{Glance, Host, Poisoned};
pub use machine::Architecture;
pub use medium::{ExtentMedium, Medium, MediumError};
pub use report::{Failure, Pass, Report};
pub use scenario::Scenario;
pub use strategy::{Seed, SeedError, Strategy};
pub use timeline::Timeline;

use corosensei::stack::DefaultStack;

/// Hosts of a run, recoveries and the last look included.
const MAX_HOSTS: usize = 8;

/// What runs leave for the next: stacks and lines.
#[derive(Default)]
struct Stacks(Vec<DefaultStack>, Vec<machine::Line>);
