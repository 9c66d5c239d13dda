//! Finds the tiers of this machine, or of another one from hwloc's XML export; says which mechanisms work here;
//! measures tiers and keeps the figures.
//!
//! Start at [`machine`] (what `tierctl list` shows), [`foreign::from_xml`] (`list --from`), [`mechanism::probe_all`]
//! and [`measure`] (`tierctl probe`). All answers are plain serde types in [`report`].

pub mod assumed;
pub mod block;
pub mod cache;
pub mod cxl;
pub mod dax;
pub mod device;
pub mod foreign;
pub mod hwloc;
mod machine;
pub mod measure;
pub mod mechanism;
pub mod media;
pub mod mount;
pub mod node;
pub mod report;
mod roots;

pub use machine::machine;
pub use report::Report;
pub use roots::Roots;

/// A user's mistake or a missing thing, in words that say what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A file that the user named cannot be read.
    Unreadable {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A file that the user named is not what it should be.
    Malformed {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it and what would be right.
        reason: String,
    },
    /// A file of ours could not be written.
    Unwritable {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable { path, cause } => write!(f, "cannot read {}: {cause}", path.display()),
            Self::Malformed { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::Unwritable { path, cause } => write!(f, "cannot write {}: {cause}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { cause, .. } | Self::Unwritable { cause, .. } => Some(cause),
            Self::Malformed { .. } => None,
        }
    }
}
