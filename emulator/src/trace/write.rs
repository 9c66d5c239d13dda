//! Writing a trace.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::BlockKind;
use super::catalog;
use super::{Definition, Event, Provenance, StreamId};
use super::{Encoder, PAYLOAD_TARGET};
use tiermem_trace::{plain_header, prelude, varint};

/// Writes a trace to a file, a pipe, anything; never seeks, and always writes whole blocks.
///
/// Events of one stream come in the order of their times. Where several threads record, each may fill an [`Encoder`] of its
/// own and hand over full blocks ([`write_block`](Self::write_block)).
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    definitions: Vec<u8>,
    definition_count: u32,
    definition_blocks: u32,
    encoders: BTreeMap<StreamId, Encoder>,
    blocks: u64,
    events: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a trace.
    ///
    /// # Errors
    /// If `out` cannot be written to; as for all functions here.
    pub fn new(mut out: W, from: &Provenance) -> io::Result<Self> {
        out.write_all(&prelude())?;
        let (payload, records) = catalog::encode_provenance(from);
        write_plain(&mut out, BlockKind::Provenance, 0, &payload, records)?;
        Ok(Self {
            out,
            definitions: Vec::new(),
            definition_count: 0,
            definition_blocks: 0,
            encoders: BTreeMap::new(),
            blocks: 1,
            events: 0,
        })
    }

    /// Adds a definition. It is written before the next block of events.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub fn define(&mut self, definition: &Definition) -> io::Result<()> {
        catalog::put_definition(&mut self.definitions, definition);
        self.definition_count += 1;
        if self.definitions.len() >= PAYLOAD_TARGET { self.write_definitions() } else { Ok(()) }
    }

    /// Adds an event to a stream. Times within a stream do not fall ([`Encoder::push`]).
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub fn event(&mut self, stream: StreamId, event: &Event) -> io::Result<()> {
        let encoder = self.encoders.entry(stream).or_insert_with(|| Encoder::new(stream));
        encoder.push(event);
        self.events += 1;
        if encoder.is_full() {
            if !self.definitions.is_empty() {
                self.write_definitions()?;
            }
            // Not the entry above, which would be borrowed for as long.
            if let Some(encoder) = self.encoders.get_mut(&stream) {
                self.blocks += 1;
                self.out.write_all(encoder.seal())?;
            }
        }
        Ok(())
    }

    /// How many events came with a time before that of their predecessor in their stream, and were given its time.
    pub fn late(&self) -> u64 {
        self.encoders.values().map(Encoder::late).sum()
    }

    /// Writes what another encoder has gathered. Its stream must not also be written with [`event`](Self::event).
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub fn write_block(&mut self, encoder: &mut Encoder) -> io::Result<()> {
        if encoder.is_empty() {
            return Ok(());
        }
        self.write_definitions()?;
        self.events += u64::from(encoder.records());
        self.blocks += 1;
        self.out.write_all(encoder.seal())
    }

    /// Writes all that was gathered so far, so that it can be read.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub fn flush(&mut self) -> io::Result<()> {
        self.write_definitions()?;
        for encoder in self.encoders.values_mut().filter(|encoder| !encoder.is_empty()) {
            self.blocks += 1;
            self.out.write_all(encoder.seal())?;
        }
        self.out.flush()
    }

    /// Writes the rest and the end. A trace without it counts as one whose recording was cut short.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        let mut payload = Vec::new();
        varint::put(&mut payload, self.blocks);
        varint::put(&mut payload, self.events);
        write_plain(&mut self.out, BlockKind::End, 0, &payload, 1)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn write_definitions(&mut self) -> io::Result<()> {
        if self.definitions.is_empty() {
            return Ok(());
        }
        let (count, sequence) = (self.definition_count, self.definition_blocks);
        write_plain(&mut self.out, BlockKind::Definitions, sequence, &self.definitions, count)?;
        self.definitions.clear();
        self.definition_count = 0;
        self.definition_blocks += 1;
        self.blocks += 1;
        Ok(())
    }
}

/// Writes a block that belongs to no stream.
fn write_plain(out: &mut impl Write, kind: BlockKind, sequence: u32, payload: &[u8], records: u32) -> io::Result<()> {
    let header = plain_header(kind, sequence, payload, records)
        .ok_or_else(|| io::Error::other("definitions that are too long for a block"))?;
    out.write_all(&[&header, payload].concat())
}
