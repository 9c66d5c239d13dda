//! Why a topology cannot be modelled.

use std::fmt;

/// Why a topology cannot be modelled. A topology that was parsed has been checked, so this is for those that a program
/// put together itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelError {
    /// Something names a profile that the topology does not hold.
    NoProfile {
        /// Who names it.
        user: String,
        /// What it names.
        profile: String,
    },
    /// Something names a profile of another kind than it needs.
    WrongKind {
        /// Who names it.
        user: String,
        /// What it names.
        profile: String,
        /// What it needs.
        needed: &'static str,
    },
    /// An interleave set or a pool names a device that is not there, or that is no memory.
    NoDevice {
        /// Who names it.
        user: String,
        /// What it names.
        device: String,
    },
    /// More hosts or tiers than can be numbered.
    TooLarge,
}

impl std::error::Error for ModelError {}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProfile { user, profile } => write!(f, "{user} names the profile {profile}, which is not there"),
            Self::WrongKind { user, profile, needed } => {
                write!(f, "{user} needs a profile of kind {needed}, and {profile} is none")
            }
            Self::NoDevice { user, device } => {
                write!(f, "{user} names the device {device}, which is not there or cannot be used so")
            }
            Self::TooLarge => write!(f, "a model has at most {} hosts and as many tiers", u16::MAX),
        }
    }
}
