//! What stops a chore: a sentence for the person who called it.

use std::fmt;

/// A sentence that says what went wrong and, where that is known, what to do.
#[derive(Debug)]
pub struct Failure(String);

/// `Ok`, or why the chore stopped.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure that says `sentence`.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Adds what was being done to an error of the system or of a library.
pub trait Context<T> {
    /// The value, or a failure that reads "`doing`: error".
    fn while_doing(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn while_doing(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure(format!("{doing}: {error}")))
    }
}
