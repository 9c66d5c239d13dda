//! How `tierctl` ends: exit codes and error messages.

use std::process::ExitCode;

/// Shown by `--help` and in the man page. Keep it in step with [`Exit::code`].
pub const HELP: &str = "\
Exit codes:
  0  done
  1  failed: the message says why
  2  wrong usage: unknown verb, option or value
  3  not found: no such process, tier, file or control segment
  4  the rights are missing
  5  not supported by this machine, kernel, program or build
  6  bad input: a policy, SPEC, size or file that does not parse

`tierctl run` returns what its CMD returned, or 128+N where signal N killed it (by ^C, SIGINT, tierctl dies of it too). \
Where CMD did not run: one of 2 to 6 if the cause is in that list, else 125 (tierctl itself failed, also where it could \
not write the report of a CMD that succeeded), 126 (CMD cannot be executed) or 127 (CMD was not found).";

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// Failed in a way that no other code names.
    Failed,
    /// The command line is wrong.
    Usage,
    /// No such process, tier, file or control segment.
    NotFound,
    /// The rights are missing.
    NoRights,
    /// This machine, kernel, program or build cannot do it.
    Unsupported,
    /// A policy, SPEC, size or file does not parse.
    BadInput,
    /// The code that the command of `tierctl run` ended with, or 125 to 127 where it could not be run.
    Command(u8),
}

impl Exit {
    /// The number that the caller sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::NoRights => 4,
            Self::Unsupported => 5,
            Self::BadInput => 6,
            Self::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What went wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// For people, without the `tierctl: ` in front; says what to do. May have several lines.
    pub message: String,
}

impl Failure {
    /// Pairs an exit code with its message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// A failure from the system: the exit code follows from the kind of `error`, the message reads `what: error`.
    pub fn from_io(what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::NotFound,
            std::io::ErrorKind::PermissionDenied => Exit::NoRights,
            _ => Exit::Failed,
        };
        Self::new(exit, format!("{what}: {error}"))
    }

    /// Prints the message on stderr and gives the code to end with. An empty message prints nothing.
    pub fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("tierctl: {}", self.message);
        }
        self.exit.into()
    }
}

#[cfg(test)]
mod tests {
    use super::{Exit, Failure, HELP};
    use std::io::{Error, ErrorKind};

    #[test]
    fn the_help_names_every_code() {
        let all =
            [Exit::Ok, Exit::Failed, Exit::Usage, Exit::NotFound, Exit::NoRights, Exit::Unsupported, Exit::BadInput];
        for (expected, exit) in all.into_iter().enumerate() {
            assert_eq!(usize::from(exit.code()), expected);
            assert!(HELP.contains(&format!("\n  {expected}  ")), "code {expected} is missing from the help");
        }
    }

    #[test]
    fn system_errors_keep_their_meaning() {
        assert_eq!(Failure::from_io("x", &Error::from(ErrorKind::NotFound)).exit, Exit::NotFound);
        assert_eq!(Failure::from_io("x", &Error::from(ErrorKind::PermissionDenied)).exit, Exit::NoRights);
        assert_eq!(Failure::from_io("x", &Error::from(ErrorKind::Interrupted)).exit, Exit::Failed);
    }
}
