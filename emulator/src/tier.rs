//! Emulated tiers behind `tiers::Provider`.
//!
//! A [`Machine`] is a topology whose tiers lie on files: it is made once, has a name, and is found by every program of
//! its user in the [registry] until it is removed. An [`EmulatedTier`] is one of its tiers, opened: the same
//! providers as for hardware, with the figures of the profile. It is *functional*: bytes are kept and shared, and no
//! time passes; virtual time is what [`crate::model`] adds.

mod faults;
mod machine;
mod provider;
pub mod registry;
mod scale;
mod users;
mod watcher;

pub use machine::{CreateError, FORMAT, Machine, Options, State, TierRecord};
pub use provider::EmulatedTier;
pub use scale::Scale;
pub use users::User;
