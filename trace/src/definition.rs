//! The records of blocks that hold no events: where a trace comes from, and what its events refer to.
//!
//! ```text
//! kind (1) | length of the body (number) | body
//! ```
//! A body is a row of numbers, texts and bytes, whose meaning its kind says (`docs/formats.md`). Kinds that a reader does not
//! know are passed over.

use crate::record::Clock;
use crate::varint;

/// Kinds of records in a block of definitions.
pub mod kind {
    /// Site: number, count of frames, frames.
    pub const SITE: u8 = 1;
    /// Tier: number (a byte), name.
    pub const TIER: u8 = 2;
    /// Stream: number, the OS's number of the thread, name.
    pub const STREAM: u8 = 3;
    /// Mapping of code: start, end, offset in the file, path.
    pub const MODULE: u8 = 4;
}

/// Kinds of frames in a site.
pub mod frame {
    /// Path of a file, offset in it.
    pub const CODE: u64 = 0;
    /// Name of a function.
    pub const SYMBOL: u64 = 1;
    /// Address in the recorded process.
    pub const ADDRESS: u64 = 2;
}

/// Kinds of records in the first block.
pub mod provenance {
    /// Text.
    pub const TOOL: u8 = 1;
    /// Text.
    pub const COMMAND: u8 = 2;
    /// Number.
    pub const PID: u8 = 3;
    /// Number, nanoseconds since 1970.
    pub const STARTED: u8 = 4;
    /// Number: see [`clock_code`](super::clock_code).
    pub const CLOCK: u8 = 5;
    /// Number: 0 or 1.
    pub const COMMON_CLOCK: u8 = 6;
    /// Two numbers: completeness and period.
    pub const ACCESSES: u8 = 7;
    /// As above.
    pub const ALLOCATIONS: u8 = 8;
    /// Text.
    pub const NOTE: u8 = 9;
}

/// Completeness of accesses and allocations, as a number.
pub mod completeness {
    /// Nothing.
    pub const ABSENT: u64 = 0;
    /// All.
    pub const EXACT: u64 = 1;
    /// One in so many.
    pub const SAMPLED: u64 = 2;
    /// Counts.
    pub const AGGREGATED: u64 = 3;
}

/// A clock as a number.
pub const fn clock_code(clock: Clock) -> u64 {
    match clock {
        Clock::Order => 0,
        Clock::RealNs => 1,
        Clock::VirtualPs => 2,
        Clock::Instructions => 3,
    }
}

/// A piece of a body.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// A number of varying length.
    Number(u64),
    /// One byte.
    Byte(u8),
    /// A text behind its length.
    Text(&'a [u8]),
    /// A text that takes the rest of the body.
    Rest(&'a [u8]),
}

impl Part<'_> {
    const fn len(&self) -> usize {
        match self {
            Self::Number(value) => varint::len(*value),
            Self::Byte(_) => 1,
            Self::Text(text) => varint::len(text.len() as u64) + text.len(),
            Self::Rest(text) => text.len(),
        }
    }
}

/// Bytes that a record takes.
pub fn record_len(body: &[Part<'_>]) -> usize {
    let len = body.iter().map(Part::len).sum::<usize>();
    1 + varint::len(len as u64) + len
}

/// Writes a record to the front of `into`; how many bytes that took.
///
/// # Panics
/// If there is too little room: less than [`record_len`].
pub fn put_record(into: &mut [u8], kind: u8, body: &[Part<'_>]) -> usize {
    let whole = into.len();
    let mut rest = into;
    let mut bytes = |bytes: &[u8]| {
        let (front, behind) = std::mem::take(&mut rest).split_at_mut(bytes.len());
        front.copy_from_slice(bytes);
        rest = behind;
        whole - rest.len()
    };
    let number = |value| varint::encoded(value);
    bytes(&[kind]);
    let len = number(body.iter().map(Part::len).sum::<usize>() as u64);
    let mut end = bytes(len.as_slice());
    for part in body {
        end = match part {
            Part::Number(value) => bytes(number(*value).as_slice()),
            Part::Byte(byte) => bytes(&[*byte]),
            Part::Text(text) => {
                bytes(number(text.len() as u64).as_slice());
                bytes(text)
            }
            Part::Rest(text) => bytes(text),
        };
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_takes_what_it_says() {
        let body = [Part::Number(300), Part::Byte(7), Part::Text(b"ab"), Part::Rest(b"xyz")];
        let mut bytes = [0xee; 32];
        let len = put_record(&mut bytes, kind::TIER, &body);
        assert_eq!(len, record_len(&body));
        assert_eq!(bytes[..len], [2, 9, 0xac, 2, 7, 2, b'a', b'b', b'x', b'y', b'z']);
        assert_eq!(bytes[len], 0xee);
    }
}
