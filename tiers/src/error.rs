//! What can go wrong with a tier.

use std::fmt;

use crate::{Bytes, TierName};

/// An error of this crate: a [kind](ErrorKind) to match on, the tier, and the system's own error number where there
/// was one. Building one never allocates, because providers are called from inside an allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    tier: Option<TierName>,
    os: Option<i32>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The tier has no room for this many bytes.
    Full {
        /// What was asked for.
        wanted: Bytes,
    },
    /// The file or device does not exist.
    NotFound,
    /// The rights to open or to map it are missing.
    NoRights,
    /// The file, device or size does not fit the request (too small, misaligned, wrong type).
    Unsuitable {
        /// What is wrong and what to do, in words.
        reason: &'static str,
    },
    /// This machine, kernel or build has no such mechanism.
    Unsupported {
        /// What is missing and what to do, in words.
        reason: &'static str,
    },
    /// A range lies outside its extent.
    OutOfRange,
    /// The memory is poisoned (an uncorrectable error) at this offset of the tier.
    Poisoned {
        /// Start of the extent in the tier.
        extent: u64,
        /// Offset within the extent.
        offset: u64,
    },
    /// The tier has failed or was removed.
    Gone,
    /// Any other system error; see [`Error::os_code`].
    System {
        /// The call that failed.
        call: &'static str,
    },
    /// An accelerator's runtime said no; its status has a name of its own and is no `errno`.
    Runtime {
        /// The call that failed.
        call: &'static str,
        /// The runtime's name for its status, such as `CUDA_ERROR_INVALID_VALUE`.
        status: &'static str,
    },
}

impl Error {
    /// An error of this kind.
    pub const fn new(kind: ErrorKind) -> Self {
        Self { kind, tier: None, os: None }
    }

    /// Says which tier it was.
    #[must_use]
    pub const fn of_tier(mut self, tier: TierName) -> Self {
        self.tier = Some(tier);
        self
    }

    /// Says what the system call said (`errno`).
    #[must_use]
    pub const fn with_os_code(mut self, errno: i32) -> Self {
        self.os = Some(errno);
        self
    }

    /// What happened.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The tier, where known.
    pub const fn tier(&self) -> Option<TierName> {
        self.tier
    }

    /// The system's error number, where there was one.
    pub const fn os_code(&self) -> Option<i32> {
        self.os
    }

    /// Whether trying another tier may help: this one is full, failed or gone.
    pub const fn is_fallback_worthy(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Full { .. }
                | ErrorKind::Gone
                | ErrorKind::Poisoned { .. }
                | ErrorKind::System { .. }
                | ErrorKind::Runtime { .. }
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tier) = self.tier {
            write!(f, "tier {tier}: ")?;
        }
        match self.kind {
            ErrorKind::Full { wanted } => write!(f, "no room for {wanted}")?,
            ErrorKind::NotFound => f.write_str("no such file or device")?,
            ErrorKind::NoRights => f.write_str("no rights to open or map it")?,
            ErrorKind::Unsuitable { reason } | ErrorKind::Unsupported { reason } => f.write_str(reason)?,
            ErrorKind::OutOfRange => f.write_str("the range lies outside its extent")?,
            ErrorKind::Poisoned { extent, offset } => {
                write!(f, "poisoned memory at offset {offset:#x} of the extent at {extent:#x}")?;
            }
            ErrorKind::Gone => f.write_str("the tier has failed or was removed")?,
            ErrorKind::System { call } => write!(f, "{call} failed")?,
            ErrorKind::Runtime { call, status } => write!(f, "{call} failed: {status}")?,
        }
        match self.os {
            Some(errno) => write!(f, " ({})", std::io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
