//! What can be wrong with a trace.

use std::fmt;
use std::io;

/// What could be read before the place where a trace is damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readable {
    /// Whole blocks, the header's included.
    pub blocks: u64,
    /// Events and definitions in them.
    pub records: u64,
    /// First and last time of their events, in ticks.
    pub times: Option<(u64, u64)>,
}

/// What is wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file cannot be read.
    Io(io::Error),
    /// It is no trace.
    NotATrace,
    /// It is a trace of a version that is not known here.
    Version(u32),
    /// It ends in the middle of a block. Where it still grows, the rest may come.
    Truncated {
        /// How many bytes the block needs.
        needed: u64,
        /// How many there are.
        found: u64,
    },
    /// No block begins where one should, or its header is damaged.
    BlockHeader,
    /// The bytes of a block are not those that were written.
    Checksum {
        /// As the block's header says.
        expected: u32,
        /// As found.
        found: u32,
    },
    /// A block that is whole holds something that no writer writes.
    Record(&'static str),
    /// Blocks of a stream are missing.
    Gap {
        /// Which stream.
        stream: u32,
        /// Number of the block that should follow.
        expected: u32,
        /// Number of the one that does.
        found: u32,
    },
}

/// An error, where it is, and what could be read before.
#[derive(Debug)]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorKind,
    /// Where, in bytes from the beginning of the file.
    pub offset: u64,
    /// In the how manieth block of the file, from 0.
    pub block: u64,
    /// What stands before that block.
    pub readable: Readable,
}

impl Error {
    /// Whether the file could not be read at all, as opposed to read and found wrong.
    pub const fn is_io(&self) -> bool {
        matches!(self.kind, ErrorKind::Io(_))
    }

    /// Whether it is a trace, but of another version.
    pub const fn is_version(&self) -> bool {
        matches!(self.kind, ErrorKind::Version(_))
    }

    /// Whether the file just ends too early, as that of a recording that still runs or was killed.
    pub const fn is_truncated(&self) -> bool {
        matches!(self.kind, ErrorKind::Truncated { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::Io(error) => return write!(f, "{error}"),
            ErrorKind::NotATrace => return write!(f, "not a tiermem trace: it does not begin with `TMTRACE`"),
            ErrorKind::Version(version) => {
                let ours = super::VERSION;
                return write!(
                    f,
                    "a trace of version {version}, but only version {ours} is known here; record it anew, or use the \
                     tierctl that wrote it"
                );
            }
            ErrorKind::Truncated { needed, found } => {
                write!(f, "the file ends in the middle of a block: {found} of its {needed} bytes are there")?;
            }
            ErrorKind::BlockHeader => write!(f, "no block begins here, or its header is damaged")?,
            ErrorKind::Checksum { expected, found } => {
                write!(f, "the block is damaged: checksum {found:08x} instead of {expected:08x}")?;
            }
            ErrorKind::Record(what) => write!(f, "{what}")?,
            ErrorKind::Gap { stream, expected, found } => {
                write!(f, "block {expected} of stream {stream} is missing: block {found} follows")?;
            }
        }
        let Readable { blocks, records, times } = self.readable;
        write!(f, " (byte {}, block {}); before it {blocks} blocks with {records} records", self.offset, self.block)?;
        match times {
            Some((from, until)) => write!(f, " from tick {from} to {until} can be read"),
            None => write!(f, " can be read"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            ErrorKind::Io(error) => Some(error),
            _ => None,
        }
    }
}
