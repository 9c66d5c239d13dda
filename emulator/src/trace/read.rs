//! Reading a trace block by block, in the order of the file.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::catalog;
use super::decode::{Events, PADDING};
use super::error::{Error, ErrorKind, Readable};
use super::{BlockHeader, BlockKind, HEADER_LEN};
use super::{Definition, Provenance};
use super::{MAGIC, VERSION};
use tiermem_trace::MARK;
use tiermem_trace::prelude;

/// How much is read at once, at least.
const READ_AT_ONCE: usize = 256 << 10;

/// Bytes before the first block.
pub(super) const PRELUDE_LEN: usize = 16;

/// Reads a trace from anything that can be read: a file, a pipe, a recording that still runs.
///
/// An error does not end it. After a damaged block the next call goes on behind it, after a damaged header at the next
/// block that can be found; each such place gives one error. After [`ErrorKind::Truncated`] the next call looks whether
/// more has come.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// What was read and not used yet is `start..filled`; room for the padding is left behind it.
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    /// Where `buffer[start]` stands in the file.
    offset: u64,
    state: State,
    provenance: Provenance,
}

/// What is known of the blocks so far.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) block: u64,
    pub(super) readable: Readable,
    /// Number of the next block of a stream.
    next: BTreeMap<(u8, u32), u32>,
    /// A header was damaged: look for the next one.
    lost: bool,
}

impl State {
    pub(super) fn error(&self, kind: ErrorKind, offset: u64) -> Error {
        Error { kind, offset, block: self.block, readable: self.readable }
    }

    /// Whether a block is the one that should come next of its stream.
    ///
    /// # Errors
    /// Once, where blocks before it are missing.
    pub(super) fn follows(&mut self, header: &BlockHeader, offset: u64) -> Result<(), Error> {
        let key = (u8::from(header.kind == BlockKind::Events), header.stream);
        if header.kind == BlockKind::Definitions || header.kind == BlockKind::Events {
            let expected = self.next.get(&key).copied().unwrap_or(0);
            if header.sequence != expected {
                // Told once.
                self.next.insert(key, header.sequence);
                let kind = ErrorKind::Gap { stream: header.stream, expected, found: header.sequence };
                return Err(self.error(kind, offset));
            }
            self.next.insert(key, header.sequence.wrapping_add(1));
        }
        Ok(())
    }

    /// Enters a block among what can be read.
    pub(super) fn count(&mut self, header: &BlockHeader) {
        self.block += 1;
        self.readable.blocks += 1;
        self.readable.records += u64::from(header.records);
        if header.kind == BlockKind::Events {
            let (from, until) = self.readable.times.unwrap_or((header.first, header.last));
            self.readable.times = Some((from.min(header.first), until.max(header.last)));
        }
    }
}

/// A block, whole and with the right checksum.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Its header.
    pub header: BlockHeader,
    /// Where it stands in the file, bytes.
    pub offset: u64,
    /// The payload and its padding.
    bytes: &'a [u8],
    number: u64,
    readable: Readable,
}

impl<'a> Block<'a> {
    /// Its events; none if it is a block of another kind.
    pub fn events(&self) -> Events<&'a [u8]> {
        let mut header = self.header;
        let mut bytes = self.bytes;
        if header.kind != BlockKind::Events {
            header.records = 0;
            bytes = &[];
        }
        Events::new(&header, bytes, self.offset + HEADER_LEN as u64, self.number, self.readable)
    }

    /// Its definitions; none if it is a block of another kind.
    ///
    /// # Errors
    /// If they are malformed.
    pub fn definitions(&self) -> Result<Vec<Definition>, Error> {
        if self.header.kind != BlockKind::Definitions {
            return Ok(Vec::new());
        }
        let payload = &self.bytes[..self.bytes.len() - PADDING];
        catalog::definitions(payload).ok_or(Error {
            kind: ErrorKind::Record("a definition that no writer writes"),
            offset: self.offset,
            block: self.number,
            readable: self.readable,
        })
    }
}

/// Checks what a file begins with.
pub(super) fn check_prelude(found: &[u8]) -> Result<(), Error> {
    let error = |kind| Err(Error { kind, offset: 0, block: 0, readable: Readable::default() });
    let known = found.len().min(MAGIC.len());
    if found[..known] != MAGIC[..known] || known == 0 {
        return error(ErrorKind::NotATrace);
    }
    if found.len() < PRELUDE_LEN {
        return error(ErrorKind::Truncated { needed: PRELUDE_LEN as u64, found: found.len() as u64 });
    }
    let version = u32::from_le_bytes([found[8], found[9], found[10], found[11]]);
    if found[12..16] != crc32c::crc32c(&found[..12]).to_le_bytes() {
        return error(ErrorKind::BlockHeader);
    }
    if version != VERSION {
        return error(ErrorKind::Version(version));
    }
    debug_assert_eq!(found[..16], prelude());
    Ok(())
}

impl<R: Read> Reader<R> {
    /// Reads where the trace comes from.
    ///
    /// # Errors
    /// If it is none, of another version, or if its first block cannot be read.
    pub fn new(input: R) -> Result<Self, Error> {
        let mut reader = Self {
            input,
            buffer: Vec::new(),
            start: 0,
            filled: 0,
            offset: 0,
            state: State::default(),
            provenance: Provenance::default(),
        };
        let there = reader.fill(PRELUDE_LEN)?;
        check_prelude(&reader.buffer[..there])?;
        reader.skip(PRELUDE_LEN);
        reader.read_provenance()?;
        Ok(reader)
    }

    fn read_provenance(&mut self) -> Result<(), Error> {
        let what = "the first block does not say where the trace comes from";
        let error =
            Error { kind: ErrorKind::Record(what), offset: self.offset, block: 0, readable: Readable::default() };
        let Some(block) = self.next_block()? else {
            let kind = ErrorKind::Truncated { needed: HEADER_LEN as u64, found: 0 };
            return Err(Error { kind, ..error });
        };
        let payload = &block.bytes[..block.bytes.len() - PADDING];
        let found = (block.header.kind == BlockKind::Provenance).then(|| catalog::decode_provenance(payload)).flatten();
        self.provenance = found.ok_or(error)?;
        Ok(())
    }

    /// Where the trace comes from.
    pub const fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// What could be read so far.
    pub const fn readable(&self) -> Readable {
        self.state.readable
    }

    /// The next block. `None` at the end of what there is: of the whole trace if the last block was a [`BlockKind::End`].
    ///
    /// # Errors
    /// If something is wrong here; another call goes on behind it.
    pub fn next_block(&mut self) -> Result<Option<Block<'_>>, Error> {
        if self.state.lost && !self.find_header()? {
            return Ok(None);
        }
        if self.fill(HEADER_LEN)? == 0 {
            return Ok(None);
        }
        let Some(header) = self.header() else {
            let here = &self.buffer[self.start..self.filled];
            let found = here.len();
            if found < HEADER_LEN && here.starts_with(&MARK[..found.min(MARK.len())]) {
                let kind = ErrorKind::Truncated { needed: HEADER_LEN as u64, found: found as u64 };
                return Err(self.state.error(kind, self.offset));
            }
            let error = self.state.error(ErrorKind::BlockHeader, self.offset);
            self.skip(1);
            self.state.lost = true;
            return Err(error);
        };
        let needed = header.block_len() as usize;
        let found = self.fill(needed)?;
        if found < needed {
            let kind = ErrorKind::Truncated { needed: needed as u64, found: found as u64 };
            return Err(self.state.error(kind, self.offset));
        }
        self.state.follows(&header, self.offset)?;
        let (offset, payload) = (self.offset, self.start + HEADER_LEN..self.start + needed);
        let checksum = crc32c::crc32c(&self.buffer[payload.clone()]);
        self.skip(needed);
        if checksum != header.checksum {
            let kind = ErrorKind::Checksum { expected: header.checksum, found: checksum };
            let error = self.state.error(kind, offset);
            self.state.block += 1;
            return Err(error);
        }
        let (number, readable) = (self.state.block, self.state.readable);
        self.state.count(&header);
        let bytes = &self.buffer[payload.start..payload.end + PADDING];
        Ok(Some(Block { header, offset, bytes, number, readable }))
    }

    /// The header that stands here, if there is one.
    fn header(&self) -> Option<BlockHeader> {
        BlockHeader::decode(self.buffer[self.start..self.filled].first_chunk()?)
    }

    /// Goes on to the next mark that begins a header. False if there is none yet.
    fn find_header(&mut self) -> Result<bool, Error> {
        loop {
            if self.fill(HEADER_LEN)? < HEADER_LEN {
                return Ok(false);
            }
            if self.header().is_some() {
                self.state.lost = false;
                return Ok(true);
            }
            let behind = &self.buffer[self.start + 1..self.filled];
            let next = behind.windows(MARK.len()).position(|four| *four == MARK);
            // Of a mark that is not there as a whole, keep what there is.
            let skip = next.unwrap_or_else(|| behind.len().saturating_sub(MARK.len() - 1));
            self.skip(1 + skip);
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
    }

    /// Tries to have so many bytes ready. Returns how many there are, at most so many.
    fn fill(&mut self, wanted: usize) -> Result<usize, Error> {
        while self.filled - self.start < wanted {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.filled, 0);
                self.filled -= self.start;
                self.start = 0;
            }
            let room = wanted.max(READ_AT_ONCE) + PADDING;
            if self.buffer.len() < room {
                self.buffer.resize(room, 0);
            }
            let end = self.buffer.len() - PADDING;
            match self.input.read(&mut self.buffer[self.filled..end]) {
                Ok(0) => break,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.state.error(ErrorKind::Io(error), self.offset)),
            }
        }
        Ok((self.filled - self.start).min(wanted))
    }
}
