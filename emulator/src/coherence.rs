//! Whether code survives memory that is shared without coherence: the explorer.
//!
//! A [`Scenario`] says what each [`Host`] does; an [`Explorer`] runs it again and again, each time under another schedule,
//! and its [`Report`] tells what went wrong and how to repeat it. The book's chapter on it, `docs/coherence.md`, has an
//! example of one's own, the memory model, and what is found.
//!
//! ```
//! use tiermem_emulator::coherence::{Detector, Explorer, FindingKind};
//!
//! let report = Explorer::new().check(|scenario| {
//!     scenario.pool(128).coherent(0..64).label(0..8, "flag").label(64..72, "payload");
//!     scenario.host("writer", |host| {
//!         host.store_u64(64, 7);
//!         host.clean(64..72); // and no fence
//!         host.store_u64(0, 1);
//!     });
//!     scenario.host("reader", |host| {
//!         if host.load_u64(0) == 1 {
//!             host.flush(64..72);
//!             host.fence();
//!             host.load_u64(64);
//!         }
//!     });
//! });
//! let failure = report.assert_found(FindingKind::Detected(Detector::PublishBeforeFlush));
//! assert!(failure.finding.story.contains("reader reads the contents before the run at payload[0]"));
//! ```

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

/// The chapter's example, as a test.
#[cfg(doctest)]
#[doc = include_str!("../../docs/coherence.md")]
mod book {}

/// Hosts of a run, recoveries and the last look included.
const MAX_HOSTS: usize = 8;

/// What runs leave for the next: stacks and lines.
#[derive(Default)]
struct Stacks(Vec<DefaultStack>, Vec<machine::Line>);
