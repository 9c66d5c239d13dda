//! What the host and the agent in the guest say to each other, over a virtio serial port, and what a shared guest's keeper and
//! its clients say to each other, over a socket.
//!
//! A frame is a head of nine bytes, little-endian, and its contents:
//!
//! ```text
//!  0      1                 5                 9
//! +------+-----------------+-----------------+----------------+
//! | kind | session (u32)   | length (u32)    | contents …     |
//! +------+-----------------+-----------------+----------------+
//! ```
//!
//! A session is one program that runs in the guest; the host numbers them from 1. Session 0 is the guest itself. Data goes
//! as it is, everything else as JSON.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Longest contents of one frame, bytes.
pub const CONTENTS_MAX: usize = 1 << 20;
/// How much data goes into one frame, bytes.
pub const PIECE: usize = 256 << 10;
/// The name of the port in the guest.
pub const PORT: &str = "tiermem.lab";

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Guest: the agent runs ([`Hello`]).
    Hello = 1,
    /// Guest: the memory is there (a `Memory` each), or why not.
    Ready = 2,
    /// Host: a piece of an archive to unpack at the root.
    Archive = 3,
    /// Host: the archive is complete. Guest: it is unpacked (empty), or why not.
    ArchiveEnd = 4,
    /// Host: start a program ([`Request`]).
    Run = 5,
    /// Host: for the program's standard input; nothing: it ends.
    Input = 6,
    /// Guest: the program took that piece of input.
    InputTaken = 7,
    /// Guest: from the program's standard output.
    Output = 8,
    /// Guest: from the program's standard error.
    ErrorOutput = 9,
    /// Guest: the program ended ([`Ended`]).
    Ended = 10,
    /// Host: signal the program (number as text).
    Signal = 11,
    /// Host: send the files of this folder (path as text) as an archive.
    Collect = 12,
    /// Guest: a piece of that archive.
    Collected = 13,
    /// Guest: the archive is complete.
    CollectedEnd = 14,
    /// Guest: a program asks for something that only the host can do ([`Deed`]).
    Ask = 15,
    /// Host: it is done (empty), or why not.
    Answer = 16,
    /// Host: switch off.
    PowerOff = 17,
    /// Guest: the state of its kernel's devices as text, one attribute a line.
    Snapshot = 18,
    /// Host: the program's terminal has another size ([`Terminal`]).
    Resize = 19,
    /// A client of a shared guest: who it is ([`Client`](crate::session::Client)).
    Client = 20,
    /// A client: a piece of the list of files that its program needs ([`Packing`](crate::program::Packing)).
    Luggage = 21,
    /// To a client: something that people should know.
    Notice = 22,
    /// To a client: why the lab failed ([`Error`]).
    Failed = 23,
    /// Host: a piece of the program's output was taken (empty), or nobody takes any more (anything else).
    OutputTaken = 24,
}

impl Kind {
    const ALL: [Self; 24] = [
        Self::Hello,
        Self::Ready,
        Self::Archive,
        Self::ArchiveEnd,
        Self::Run,
        Self::Input,
        Self::InputTaken,
        Self::Output,
        Self::ErrorOutput,
        Self::Ended,
        Self::Signal,
        Self::Collect,
        Self::Collected,
        Self::CollectedEnd,
        Self::Ask,
        Self::Answer,
        Self::PowerOff,
        Self::Snapshot,
        Self::Resize,
        Self::Client,
        Self::Luggage,
        Self::Notice,
        Self::Failed,
        Self::OutputTaken,
    ];
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Whose it is.
    pub session: u32,
    /// What it says.
    pub contents: Vec<u8>,
}

impl Frame {
    /// A frame with data.
    pub fn new(kind: Kind, session: u32, contents: impl Into<Vec<u8>>) -> Self {
        Self { kind, session, contents: contents.into() }
    }

    /// A frame with a value.
    pub fn of<T: Serialize>(kind: Kind, session: u32, value: &T) -> Self {
        // Strings, numbers, lists and maps with text as keys: nothing of that can fail to become JSON.
        Self::new(kind, session, serde_json::to_vec(value).unwrap_or_default())
    }

    /// The value in a frame.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if it holds another one.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.contents)
            .map_err(|e| Error::new(ErrorKind::BadInput, format!("a {:?} frame is broken: {e}", self.kind)))
    }

    /// The contents as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.contents).into_owned()
    }

    /// Writes it.
    ///
    /// # Errors
    /// Those of the writer; `InvalidInput` if it is too long.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let len = u32::try_from(self.contents.len()).unwrap_or(u32::MAX);
        if self.contents.len() > CONTENTS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a frame of {len} bytes")));
        }
        let mut bytes = Vec::with_capacity(9 + self.contents.len());
        bytes.push(self.kind as u8);
        bytes.extend(self.session.to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend(&self.contents);
        to.write_all(&bytes)?;
        to.flush()
    }

    /// Reads one; `None` at the end.
    ///
    /// # Errors
    /// Those of the reader; `InvalidData` for what is no frame, `UnexpectedEof` for half of one.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; 9];
        if from.read(&mut head[..1])? == 0 {
            return Ok(None);
        }
        from.read_exact(&mut head[1..])?;
        let [number, s0, s1, s2, s3, l0, l1, l2, l3] = head;
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let kind = Kind::ALL.into_iter().find(|&kind| kind as u8 == number);
        let kind = kind.ok_or_else(|| invalid(format!("no frame is of kind {number}")))?;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if len > CONTENTS_MAX {
            return Err(invalid(format!("a frame of {len} bytes")));
        }
        let mut contents = vec![0; len];
        from.read_exact(&mut contents)?;
        Ok(Some(Self { kind, session: u32::from_le_bytes([s0, s1, s2, s3]), contents }))
    }
}

/// The agent's first words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the guest's kernel.
    pub kernel: String,
    /// Seconds since the guest's kernel started.
    pub uptime_s: String,
}

/// A program to start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its whole environment, beside what the agent adds.
    pub environment: BTreeMap<String, String>,
    /// Where it runs; made if missing.
    pub directory: String,
    /// It gets the guest's terminal, and no frames carry its input and output.
    pub terminal: Option<Terminal>,
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// With this exit code.
    Exited(u8),
    /// By this signal.
    Killed(i32),
    /// It could not be started: exit code after POSIX (126 or 127) and why.
    NotStarted(u8, String),
}

impl Ended {
    /// The exit code that a shell would show.
    pub fn code(&self) -> u8 {
        match self {
            Self::Exited(code) | Self::NotStarted(code, _) => *code,
            Self::Killed(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

/// What a program in the guest can ask of its host: things that happen to hardware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "deed")]
#[non_exhaustive]
pub enum Deed {
    /// Poison lines of a CXL device: they enter its poison list.
    Poison {
        /// Its name in the topology.
        device: String,
        /// Where in the device, bytes, a multiple of 64.
        offset: u64,
        /// How much, bytes, a multiple of 64.
        length: u64,
    },
    /// Let a CXL device report an event of its memory.
    MediaEvent {
        /// Its name in the topology.
        device: String,
        /// Where in the device, bytes.
        offset: u64,
    },
    /// Take a CXL device away, as somebody does who pulls it out.
    Remove {
        /// Its name in the topology.
        device: String,
    },
}

#[cfg(test)]
mod tests {
    use super::{CONTENTS_MAX, Deed, Ended, Frame, Kind};

    #[test]
    fn frames_come_back() {
        let deed = Deed::Poison { device: "cxl0".into(), offset: 64, length: 128 };
        let sent =
            [Frame::new(Kind::Output, 7, b"hello"), Frame::of(Kind::Ask, 0, &deed), Frame::new(Kind::Input, 1, [])];
        let mut bytes = Vec::new();
        sent.iter().for_each(|frame| frame.write(&mut bytes).unwrap());
        let mut from = &bytes[..];
        for frame in &sent {
            assert_eq!(Frame::read(&mut from).unwrap().as_ref(), Some(frame));
        }
        assert_eq!(Frame::read(&mut from).unwrap(), None);
        assert_eq!(sent[1].value::<Deed>().unwrap(), deed);
        assert!(sent[0].value::<Deed>().is_err());
    }

    #[test]
    fn noise_is_an_error_and_no_allocation() {
        assert!(Frame::read(&mut &[99, 0, 0, 0, 0, 0, 0, 0, 0][..]).is_err());
        assert!(Frame::read(&mut &[1, 0, 0, 0, 0, 255, 255, 255, 255][..]).is_err());
        assert!(Frame::read(&mut &[1, 0, 0][..]).is_err());
        let too_long = Frame::new(Kind::Output, 1, vec![0; CONTENTS_MAX + 1]);
        assert!(too_long.write(&mut Vec::new()).is_err());
    }

    #[test]
    fn endings_have_the_codes_of_a_shell() {
        assert_eq!(Ended::Exited(3).code(), 3);
        assert_eq!(Ended::Killed(9).code(), 137);
        assert_eq!(Ended::NotStarted(127, String::new()).code(), 127);
    }
}
