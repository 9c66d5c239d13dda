//! Where the pool's bytes lie.

use std::fmt;
use std::sync::Arc;

use tiermem_tiers::{Error, ErrorKind, Extent, Provider};

use crate::cache::LINE;

/// Why a medium failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MediumError {
    /// The line is poisoned: the host that asked hears of it, and the run goes on.
    Poisoned,
    /// Anything else ends the run.
    Failed(String),
}

impl fmt::Display for MediumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poisoned => f.write_str("poisoned"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for MediumError {}

/// What the newest bytes of the pool are kept in. The explorer keeps them in memory by itself; a medium puts them
/// somewhere else as well, so that the same program runs over a DAX file, and every line fetched is checked against it.
pub trait Medium {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the line that begins at `offset`.
    ///
    /// # Errors
    /// The line is poisoned, or cannot be read.
    fn read(&mut self, offset: u64, into: &mut [u8; LINE as usize]) -> Result<(), MediumError>;

    /// Writes the line that begins at `offset`.
    ///
    /// # Errors
    /// The line cannot be written.
    fn write(&mut self, offset: u64, from: &[u8; LINE as usize]) -> Result<(), MediumError>;
}

/// An extent of a tier as a medium: an emulated DAX file, or whatever else is behind a provider.
pub struct ExtentMedium {
    provider: Arc<dyn Provider>,
    extent: Extent,
}

impl ExtentMedium {
    /// The whole of `extent`, which `provider` has handed out and nobody else writes to while it is explored.
    pub fn new(provider: Arc<dyn Provider>, extent: Extent) -> Self {
        Self { provider, extent }
    }

    /// Gives the extent back to its provider.
    ///
    /// # Errors
    /// As [`Provider::release`].
    pub fn close(self) -> Result<(), Error> {
        self.provider.release(self.extent)
    }
}

impl fmt::Debug for ExtentMedium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtentMedium").field("extent", &self.extent).finish_non_exhaustive()
    }
}

fn explain(error: &Error) -> MediumError {
    match error.kind() {
        ErrorKind::Poisoned { .. } => MediumError::Poisoned,
        _ => MediumError::Failed(error.to_string()),
    }
}

impl Medium for ExtentMedium {
    fn len(&self) -> u64 {
        self.extent.len().0
    }

    fn read(&mut self, offset: u64, into: &mut [u8; LINE as usize]) -> Result<(), MediumError> {
        self.provider.read(&self.extent, offset, into).map_err(|error| explain(&error))
    }

    fn write(&mut self, offset: u64, from: &[u8; LINE as usize]) -> Result<(), MediumError> {
        self.provider.write(&self.extent, offset, from).map_err(|error| explain(&error))
    }
}
