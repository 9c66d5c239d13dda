//! The control segment: what a process publishes about its memory, and how others read it.

mod snapshot;

pub use snapshot::{Event, EventKind, Module, SiteUse, SizeClassUse, Snapshot, TierUse};
