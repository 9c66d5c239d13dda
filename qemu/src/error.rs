//! What can go wrong in the lab.

use std::fmt;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The result of the lab's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure it is; the message says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something that was named is not there.
    NotFound,
    /// A file, topology or value does not make sense.
    BadInput,
    /// The rights are missing.
    NoRights,
    /// This machine cannot do it: no apt, no QEMU, another processor.
    Unsupported,
    /// Not enough memory or disk space.
    NoRoom,
    /// The mirror cannot be reached, or what came from it is not what was signed.
    Download,
    /// The program to run cannot be executed in a guest.
    NotExecutable,
    /// The guest did not come as far as its first program.
    Boot,
    /// The kernel in the guest would not set the memory up as asked.
    BringUp,
    /// The guest's kernel panicked.
    Panic,
    /// A phase took longer than it may.
    TimedOut,
    /// A signal ended the work.
    Interrupted,
    /// Anything else.
    Failed,
}

/// A failure and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// Pairs a kind with a message for people; it says what to do and may have several lines.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A failure of the system; its kind follows from `error`.
    pub fn from_io(what: impl fmt::Display, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => ErrorKind::NoRights,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoRoom,
            _ => ErrorKind::Failed,
        };
        Self::new(kind, format!("{what}: {error}"))
    }

    /// What kind of failure it is.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same failure with more in front of its message.
    #[must_use]
    pub fn within(self, what: impl fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// The same failure with more behind its message.
    #[must_use]
    pub fn followed_by(self, more: &str) -> Self {
        Self { message: format!("{}{more}", self.message), ..self }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Says what was being done when the system failed.
pub(crate) trait Context<T> {
    /// Puts `what` in front of the system's own words.
    fn context(self, what: impl fmt::Display) -> Result<T>;
    /// As `context`, for work on a file.
    fn at(self, path: &Path) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::from_io(what, &error))
    }

    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|error| Error::from_io(path.display(), &error))
    }
}
