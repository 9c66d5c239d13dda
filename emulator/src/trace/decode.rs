//! Bytes to events.

mod plain;

use super::BlockHeader;
use super::error::{Error, ErrorKind, Readable};
use super::{
    Access, Allocate, Counts, Event, Free, Interval, KeyAction, KeyOperation, Place, Reallocate, Sample, SiteId,
    TierTag,
};
use tiermem_trace::layout::{DELTA_BYTES, DELTA_LEN, GAP_BYTE, GAP_NUMBER, Memory, OTHER, SLOTS, operation};
use tiermem_trace::varint::{Input, unfold};

/// Zero bytes that follow a payload in memory, so that eight bytes can be read wherever a record may begin.
pub(super) const PADDING: usize = 16;

/// The events of a block, in order, from its bytes. See [`Block::events`](super::Block::events).
#[derive(Clone, Debug)]
pub struct Events<B> {
    /// The payload and its padding.
    bytes: B,
    at: usize,
    end: usize,
    left: u32,
    memory: Memory,
    malformed: Option<&'static str>,
    /// Where the payload stands in the file.
    offset: u64,
    block: u64,
    readable: Readable,
}

impl<B: AsRef<[u8]>> Events<B> {
    /// `bytes` is the payload with its padding; it has passed its checksum.
    pub(super) fn new(header: &BlockHeader, bytes: B, offset: u64, block: u64, readable: Readable) -> Self {
        let end = bytes.as_ref().len().saturating_sub(PADDING);
        let memory = Memory { at: header.first, ..Memory::default() };
        Self { bytes, at: 0, end, left: header.records, memory, malformed: None, offset, block, readable }
    }

    /// Events that are still to come, if all is well.
    pub const fn remaining(&self) -> u32 {
        self.left
    }

    /// The next event, if it is a plain access. `None` says nothing about whether another event follows.
    #[inline(never)]
    fn next_access(&mut self) -> Option<Access> {
        if self.at >= self.end {
            return None;
        }
        let word = eight(self.bytes.as_ref(), self.at)?;
        let tag = word as u8;
        let size = tag & 7;
        if size == OTHER {
            return None;
        }
        let place = (word >> 8) as u8;
        let mut at = self.at + 2;
        let gap = match tag >> 5 {
            GAP_BYTE => {
                at += 1;
                word >> 16 & 0xff
            }
            GAP_NUMBER => {
                let mut input = Input { rest: self.bytes.as_ref().get(at..self.end)? };
                let gap = input.number()?;
                at = self.end - input.rest.len();
                gap
            }
            gap => gap.into(),
        };
        let slot = usize::from(place) % SLOTS;
        let (distance, delta_len) = distance(self.bytes.as_ref(), &mut at, place >> 3)?;
        if at > self.end || self.left == 0 {
            return None;
        }
        self.left -= 1;
        self.at = at;
        let address = unfold(self.memory.slots[slot], distance);
        self.memory.remember(slot, delta_len, address);
        self.memory.at = self.memory.at.wrapping_add(gap);
        Some(Access { at: self.memory.at, address, len: 1 << size, write: tag & 8 != 0, dependent: tag & 16 != 0 })
    }

    /// The next event. `None` at the end of the block, or where it holds what no writer writes; [`finish`](Self::finish)
    /// tells the two apart.
    #[inline]
    pub fn advance(&mut self) -> Option<Event> {
        match self.next_access() {
            Some(access) => Some(Event::Access(access)),
            None => self.advance_other(),
        }
    }

    fn advance_other(&mut self) -> Option<Event> {
        if self.malformed.is_some() {
            return None;
        }
        if self.at >= self.end {
            if self.left > 0 {
                self.malformed = Some("the block has fewer events than its header says");
            }
            return None;
        }
        if self.left == 0 {
            self.malformed = Some("the block has more events than its header says");
            return None;
        }
        let mut input = Input { rest: self.bytes.as_ref().get(self.at..self.end).unwrap_or_default() };
        let event = other(&mut input, &mut self.memory);
        if event.is_none() {
            self.malformed = Some("an event that no writer writes");
            return None;
        }
        self.at = self.end - input.rest.len();
        self.left -= 1;
        event
    }

    /// The bytes, to be used again.
    pub(super) fn into_bytes(self) -> B {
        self.bytes
    }

    /// Whether all events were well formed, once [`advance`](Self::advance) has returned `None`.
    ///
    /// # Errors
    /// Where, and what is wrong.
    pub fn finish(&self) -> Result<(), Error> {
        self.malformed.map_or(Ok(()), |what| {
            Err(Error {
                kind: ErrorKind::Record(what),
                offset: self.offset + self.at as u64,
                block: self.block,
                readable: self.readable,
            })
        })
    }
}

impl<B: AsRef<[u8]>> Iterator for Events<B> {
    type Item = Result<Event, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(event) = self.advance() {
            return Some(Ok(event));
        }
        let error = self.finish().err()?;
        // Once is enough.
        self.malformed = None;
        (self.at, self.left) = (self.end, 0);
        Some(Err(error))
    }
}

#[inline]
fn eight(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The distance that a `delta` tells or announces, and the number of its bytes.
#[inline]
fn distance(bytes: &[u8], at: &mut usize, code: u8) -> Option<(u64, u8)> {
    if code < DELTA_BYTES {
        return Some((code.into(), 0));
    }
    let len = *DELTA_LEN.get(usize::from(code - DELTA_BYTES))?;
    let word = eight(bytes, *at)?;
    *at += usize::from(len);
    Some((word & u64::MAX >> (64 - 8 * u32::from(len)), len))
}

/// An event that is no plain access. `None` if there is no such event.
fn other(input: &mut Input<'_>, memory: &mut Memory) -> Option<Event> {
    let tag = input.byte()?;
    if tag & 7 != OTHER {
        return None;
    }
    Some(match tag >> 3 {
        operation::ACCESS => Event::Access(odd_access(input, memory)?),
        operation::ALLOCATE => {
            let (at, site, size) = (tick(input, memory)?, SiteId(input.narrow()?), input.number()?);
            Event::Allocate(Allocate { at, site, size, address: anchor(input, memory)?, tier: TierTag(input.byte()?) })
        }
        operation::FREE => Event::Free(Free { at: tick(input, memory)?, address: anchor(input, memory)? }),
        operation::REALLOCATE => {
            let (at, site, size) = (tick(input, memory)?, SiteId(input.narrow()?), input.number()?);
            let (old, address) = (anchor(input, memory)?, anchor(input, memory)?);
            Event::Reallocate(Reallocate { at, site, old, address, size, tier: TierTag(input.byte()?) })
        }
        operation::PLACE => {
            let (at, address) = (tick(input, memory)?, anchor(input, memory)?);
            Event::Place(Place { at, address, len: input.number()?, tier: TierTag(input.byte()?) })
        }
        operation::SAMPLE => {
            let write = flag(input.byte()?)?;
            let (at, address) = (tick(input, memory)?, anchor(input, memory)?);
            Event::Sample(Sample { at, address, write, weight: input.number()?, latency_cycles: input.narrow()? })
        }
        operation @ (operation::COUNTED | operation::SEEN) => {
            let (at, ticks) = (tick(input, memory)?, input.number()?);
            let (address, len) = (anchor(input, memory)?, input.number()?);
            let counts = if operation == operation::COUNTED {
                Counts::Counted { reads: input.number()?, writes: input.number()? }
            } else {
                Counts::Seen { hits: input.narrow()?, looks: input.narrow()? }
            };
            Event::Interval(Interval { at, ticks, address, len, counts })
        }
        operation::KEY => Event::Key(key_operation(input, memory)?),
        _ => return None,
    })
}

fn odd_access(input: &mut Input<'_>, memory: &mut Memory) -> Option<Access> {
    let flags = input.byte()?;
    if flags > 3 {
        return None;
    }
    let (at, len, place) = (tick(input, memory)?, input.narrow()?, input.byte()?);
    let (slot, code) = (usize::from(place) % SLOTS, place >> 3);
    let (distance, delta_len) = if code < DELTA_BYTES {
        (code.into(), 0)
    } else {
        let len = *DELTA_LEN.get(usize::from(code - DELTA_BYTES))?;
        let bytes = input.bytes(len.into())?;
        (bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)), len)
    };
    let address = unfold(memory.slots[slot], distance);
    memory.remember(slot, delta_len, address);
    Some(Access { at, address, len, write: flags & 1 != 0, dependent: flags & 2 != 0 })
}

fn key_operation(input: &mut Input<'_>, memory: &mut Memory) -> Option<KeyOperation> {
    let action = match input.byte()? {
        0 => KeyAction::Get,
        1 => KeyAction::Put,
        2 => KeyAction::Delete,
        _ => return None,
    };
    let at = tick(input, memory)?;
    let (key, size, tenant) = (input.number()?, input.number()?, input.narrow()?);
    memory.request = unfold(memory.request, input.number()?);
    Some(KeyOperation { at, action, key, size, tenant, request: memory.request })
}

fn flag(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn tick(input: &mut Input<'_>, memory: &mut Memory) -> Option<u64> {
    memory.at = memory.at.wrapping_add(input.number()?);
    Some(memory.at)
}

fn anchor(input: &mut Input<'_>, memory: &mut Memory) -> Option<u64> {
    memory.anchor = unfold(memory.anchor, input.number()?);
    Some(memory.anchor)
}
