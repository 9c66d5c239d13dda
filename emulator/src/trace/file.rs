//! A trace as a file: its blocks found by their headers, its streams read one by one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::catalog::{self, Catalog};
use super::cursor::Cursor;
use super::decode::{Events, PADDING};
use super::error::{Error, ErrorKind, Readable};
use super::merge::Merged;
use super::read::{PRELUDE_LEN, State, check_prelude};
use super::{BlockHeader, BlockKind, HEADER_LEN};
use super::{Provenance, StreamId};
use tiermem_trace::MARK;

/// Something that can be read at any place.
pub trait ReadAt {
    /// Reads at `offset` until `into` is full or the end is reached; how much.
    ///
    /// # Errors
    /// If it cannot be read.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match FileExt::read_at(self, &mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

impl ReadAt for &[u8] {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let count = from.len().min(into.len());
        into[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }
}

/// What to do about damage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// It is an error.
    #[default]
    Strict,
    /// What cannot be read is left out, and noted.
    Salvage,
}

/// Something that was left out.
pub type Damage = Error;

/// Where a block of events is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) header: BlockHeader,
    pub(super) offset: u64,
    pub(super) number: u64,
    readable: Readable,
}

/// A trace whose blocks have been found. The events are read, and their checksums checked, as they are needed.
#[derive(Debug)]
pub struct Trace<S> {
    source: S,
    provenance: Provenance,
    catalog: Catalog,
    streams: BTreeMap<StreamId, Vec<Place>>,
    readable: Readable,
    complete: bool,
    damage: Vec<Damage>,
    strictness: Strictness,
}

impl Trace<File> {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be read, is no trace or one of another version; and, if strict, if it is damaged or cut short.
    /// Damage within a block of events is found when it is read.
    pub fn open(path: &Path, strictness: Strictness) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| State::default().error(ErrorKind::Io(error), 0))?;
        Self::new(file, strictness)
    }
}

impl<S: ReadAt> Trace<S> {
    /// Finds the blocks of a trace.
    ///
    /// # Errors
    /// As [`open`](Trace::open).
    pub fn new(source: S, strictness: Strictness) -> Result<Self, Error> {
        let mut start = [0; PRELUDE_LEN];
        let found = read_at(&source, &mut start, 0, &State::default())?;
        check_prelude(&start[..found])?;
        let mut trace = Self {
            source,
            provenance: Provenance::default(),
            catalog: Catalog::default(),
            streams: BTreeMap::new(),
            readable: Readable::default(),
            complete: false,
            damage: Vec::new(),
            strictness,
        };
        let mut state = State::default();
        let mut offset = PRELUDE_LEN as u64;
        while let Some((header, at)) = trace.next_header(offset, &mut state)? {
            offset = at + header.block_len();
            if let Err(error) = state.follows(&header, at) {
                trace.note(error)?;
            }
            trace.enter(header, at, &mut state)?;
        }
        trace.readable = state.readable;
        Ok(trace)
    }

    /// The next header at `offset` or, where there is damage, behind it.
    fn next_header(&mut self, mut offset: u64, state: &mut State) -> Result<Option<(BlockHeader, u64)>, Error> {
        let mut bytes = [0; HEADER_LEN];
        let mut told = false;
        loop {
            let found = read_at(&self.source, &mut bytes, offset, state)?;
            if found == 0 {
                return Ok(None);
            }
            if found == HEADER_LEN
                && let Some(header) = BlockHeader::decode(&bytes)
            {
                let end = offset + header.block_len();
                // One byte at the end tells whether all of it is there.
                let mut last = [0];
                if read_at(&self.source, &mut last, end - 1, state)? == 1 {
                    return Ok(Some((header, offset)));
                }
                let there = self.len_from(offset, end, state)?;
                let kind = ErrorKind::Truncated { needed: header.block_len(), found: there };
                self.note(state.error(kind, offset))?;
                return Ok(None);
            }
            if !told {
                told = true;
                let here = &bytes[..found];
                let cut = found < HEADER_LEN && here.starts_with(&MARK[..found.min(MARK.len())]);
                let truncated = ErrorKind::Truncated { needed: HEADER_LEN as u64, found: found as u64 };
                let kind = if cut { truncated } else { ErrorKind::BlockHeader };
                self.note(state.error(kind, offset))?;
            }
            match self.next_mark(offset + 1, state)? {
                Some(next) => offset = next,
                None => return Ok(None),
            }
        }
    }

    fn len_from(&self, offset: u64, end: u64, state: &State) -> Result<u64, Error> {
        let mut bytes = vec![0; (end - offset) as usize];
        Ok(read_at(&self.source, &mut bytes, offset, state)? as u64)
    }

    fn next_mark(&self, mut offset: u64, state: &State) -> Result<Option<u64>, Error> {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let found = read_at(&self.source, &mut bytes, offset, state)?;
            if let Some(at) = bytes[..found].windows(MARK.len()).position(|four| *four == MARK) {
                return Ok(Some(offset + at as u64));
            }
            if found < bytes.len() {
                return Ok(None);
            }
            offset += (found - MARK.len() + 1) as u64;
        }
    }

    /// Enters a block. One without events is read at once.
    fn enter(&mut self, header: BlockHeader, offset: u64, state: &mut State) -> Result<(), Error> {
        let place = Place { header, offset, number: state.block, readable: state.readable };
        let mut bytes = Vec::new();
        match header.kind {
            BlockKind::Events => self.streams.entry(StreamId(header.stream)).or_default().push(place),
            BlockKind::Provenance | BlockKind::Definitions | BlockKind::End => {
                if let Err(error) = self.read_payload(&place, &mut bytes) {
                    state.block += 1;
                    return self.note(error);
                }
                let payload = &bytes[..bytes.len() - PADDING];
                let well_formed = match header.kind {
                    BlockKind::Definitions => catalog::definitions(payload)
                        .map(|found| found.into_iter().for_each(|definition| self.catalog.define(definition))),
                    BlockKind::Provenance => catalog::decode_provenance(payload).map(|found| self.provenance = found),
                    _ => {
                        self.complete = true;
                        Some(())
                    }
                };
                if well_formed.is_none() {
                    let kind = ErrorKind::Record("a definition that no writer writes");
                    self.note(place.error(kind))?;
                }
            }
        }
        state.count(&header);
        Ok(())
    }

    fn note(&mut self, error: Error) -> Result<(), Error> {
        match self.strictness {
            Strictness::Salvage if !error.is_io() => {
                self.damage.push(error);
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Where the trace comes from.
    pub const fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// What its events refer to.
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What it holds.
    pub const fn readable(&self) -> Readable {
        self.readable
    }

    /// Whether the recording ended properly.
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// What was left out when the trace was opened (only where damage is salvaged).
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Its streams, by number, with the events, first and last time that each has.
    pub fn streams(&self) -> impl Iterator<Item = (StreamId, u64, u64, u64)> + '_ {
        self.streams.iter().map(|(&id, blocks)| {
            let events = blocks.iter().map(|block| u64::from(block.header.records)).sum();
            let first = blocks.iter().map(|block| block.header.first).min().unwrap_or(0);
            let last = blocks.iter().map(|block| block.header.last).max().unwrap_or(0);
            (id, events, first, last)
        })
    }

    /// All events in the order of their times; those of one time by stream. Where streams have no common clock, the order
    /// between them means nothing.
    pub fn events(&self) -> Merged<'_, S> {
        Merged::new(self)
    }

    /// The blocks of one stream.
    pub fn cursor(&self, stream: StreamId) -> Cursor<'_, S> {
        Cursor::new(self, stream)
    }

    pub(super) fn places(&self) -> &BTreeMap<StreamId, Vec<Place>> {
        &self.streams
    }

    pub(super) const fn strictness(&self) -> Strictness {
        self.strictness
    }

    /// The events of a block, read into `bytes`.
    pub(super) fn read_events(&self, place: &Place, mut bytes: Vec<u8>) -> Result<Events<Vec<u8>>, Error> {
        self.read_payload(place, &mut bytes)?;
        let offset = place.offset + HEADER_LEN as u64;
        Ok(Events::new(&place.header, bytes, offset, place.number, place.readable))
    }

    /// Reads a payload and its padding.
    fn read_payload(&self, place: &Place, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let len = place.header.len as usize;
        // What the payload will overwrite needs not be zero.
        bytes.resize(len + PADDING, 0);
        bytes[len..].fill(0);
        let offset = place.offset + HEADER_LEN as u64;
        let found =
            self.source.read_at(&mut bytes[..len], offset).map_err(|error| place.error(ErrorKind::Io(error)))?;
        if found < len {
            let (needed, found) = (place.header.block_len(), (found + HEADER_LEN) as u64);
            return Err(place.error(ErrorKind::Truncated { needed, found }));
        }
        let found = crc32c::crc32c(&bytes[..len]);
        if found != place.header.checksum {
            return Err(place.error(ErrorKind::Checksum { expected: place.header.checksum, found }));
        }
        Ok(())
    }
}

impl Place {
    fn error(&self, kind: ErrorKind) -> Error {
        Error { kind, offset: self.offset, block: self.number, readable: self.readable }
    }
}

fn read_at(source: &impl ReadAt, into: &mut [u8], offset: u64, state: &State) -> Result<usize, Error> {
    source.read_at(into, offset).map_err(|error| state.error(ErrorKind::Io(error), offset))
}
