//! The control segment: what a process publishes about its memory, and how others read it.
//!
//! It is a file named after the process in a directory that only its user may enter, mapped by the publisher and by
//! `tierctl`. [`layout`] draws its bytes.

mod attach;
#[expect(missing_docs, reason = "the fields are named as in `Snapshot`, whose documentation holds for them")]
pub mod layout;
mod publish;
mod snapshot;

pub use attach::{AttachError, Attachment, control_dirs, default_dir};
pub use publish::{
    begin, end, event, is_owed, lock_for_fork, publish, publish_if_due, restart_in_child, segment, set_policy,
    unlock_after_fork,
};
pub use snapshot::{Event, EventKind, Module, ProfileUse, SiteTierUse, SiteUse, SizeClassUse, Snapshot, TierUse};
