//! Events to bytes.
//!
//! A block's payload is a row of records, each beginning with a tag byte:
//!
//! ```text
//!   7   6   5   4   3   2   1   0
//! +-----------+---+---+-----------+
//! | gap       | d | w | size      |   an access: size 0 to 6 is 1, 2, 4, … 64 bytes
//! +-----------+---+---+-----------+
//! | operation         |     7     |   everything else
//! +-------------------+-----------+
//! ```
//!
//! An access goes on with one byte of place, `delta << 3 | slot`, and what `gap` and `delta` announce. Its address is told
//! as the distance from the nearest of eight slots, which hold addresses of late: a program walks several arrays and its
//! stack in turn, and each of them soon has a slot to itself. So a typical access takes two or three bytes.

use crate::block::{BlockHeader, BlockKind, HEADER_LEN, PAYLOAD_MAX};
use crate::record::{Access, Counts, Event, KeyAction, StreamId};
use crate::varint;
use layout::{DELTA_BYTES, DELTA_LEN, GAP_BYTE, GAP_NUMBER, Memory, OTHER, operation};

pub mod layout;

/// Bytes of payload after which a block is full.
pub const PAYLOAD_TARGET: usize = 64 << 10;

/// More bytes than any record has.
pub const RECORD_MAX: usize = 96;
const CAPACITY: usize = HEADER_LEN + PAYLOAD_TARGET + RECORD_MAX;

/// Makes blocks of one stream's events, in a buffer that it makes for itself or is [given](Self::with_buffer). Filling it never
/// allocates.
///
/// ```
/// use tiermem_trace::{Access, Encoder, Event, StreamId};
///
/// let mut encoder = Encoder::new(StreamId(1));
/// let mut file = Vec::new();
/// for at in 0..100_000 {
///     encoder.push(&Event::Access(Access { at, address: 0x1000 + 8 * at, len: 8, write: false, dependent: false }));
///     if encoder.is_full() {
///         file.extend_from_slice(encoder.seal());
///     }
/// }
/// file.extend_from_slice(encoder.seal());
/// assert!(file.len() < 210_000);
/// ```
#[derive(Clone, Debug)]
pub struct Encoder<B = Box<[u8]>> {
    stream: StreamId,
    sequence: u32,
    buffer: B,
    /// Bytes from which on the block is full.
    full: usize,
    /// Bytes of the buffer in use, the header's included.
    len: usize,
    records: u32,
    first: u64,
    late: u64,
    memory: Memory,
}

impl Encoder {
    /// One that has no events yet.
    pub fn new(stream: StreamId) -> Self {
        Self::with_buffer(stream, vec![0; CAPACITY].into_boxed_slice())
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Encoder<B> {
    /// One that fills `buffer`; a block then has about as many bytes.
    ///
    /// # Panics
    /// If there is no room for an event: it takes [`HEADER_LEN`] and twice [`RECORD_MAX`] bytes at least.
    pub fn with_buffer(stream: StreamId, buffer: B) -> Self {
        let room = buffer.as_ref().len();
        assert!((HEADER_LEN + 2 * RECORD_MAX..PAYLOAD_MAX).contains(&room), "a buffer for one block");
        Self {
            stream,
            sequence: 0,
            buffer,
            full: room - RECORD_MAX,
            len: HEADER_LEN,
            records: 0,
            first: 0,
            late: 0,
            memory: Memory::default(),
        }
    }

    /// Forgets what it has, and begins with another stream.
    pub fn restart(&mut self, stream: StreamId) {
        self.stream = stream;
        self.sequence = 0;
        self.len = HEADER_LEN;
        self.records = 0;
        self.late = 0;
        self.memory = Memory::default();
    }

    /// Whose events these are.
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// Whether the block has to be sealed before the next event.
    #[inline]
    pub const fn is_full(&self) -> bool {
        self.len >= self.full
    }

    /// Whether there is nothing to seal.
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Events in the block so far.
    pub const fn records(&self) -> u32 {
        self.records
    }

    /// How many events came with a time before that of their predecessor, and were given its time.
    pub const fn late(&self) -> u64 {
        self.late
    }

    /// Adds an event. Times do not fall within a stream: one that does is raised to the last one, and counted
    /// ([`late`](Self::late)).
    ///
    /// # Panics
    /// If the block [is full](Self::is_full).
    #[inline]
    pub fn push(&mut self, event: &Event) {
        match event {
            Event::Access(access) => self.push_access(access),
            other => self.push_other(other),
        }
    }

    /// As [`push`](Self::push), of an access.
    ///
    /// # Panics
    /// If the block [is full](Self::is_full).
    #[inline]
    pub fn push_access(&mut self, access: &Access) {
        let gap = self.begin(access.at);
        let flags = u8::from(access.dependent) << 4 | u8::from(access.write) << 3;
        let size = access.len.trailing_zeros() as u8;
        if !access.len.is_power_of_two() || size >= OTHER {
            self.push_odd_access(access, gap, flags);
            return;
        }
        let gap_code = if gap < GAP_BYTE.into() { gap as u8 } else { GAP_BYTE + u8::from(gap > 0xff) };
        self.buffer.as_mut()[self.len] = gap_code << 5 | flags | size;
        let place = self.len + 1;
        self.len += 2;
        match gap_code {
            GAP_BYTE => self.byte(gap as u8),
            GAP_NUMBER => self.number(gap),
            _ => {}
        }
        self.address(place, access.address);
    }

    /// Tells an address from the nearest slot: one byte at `place`, the others at the end.
    #[inline]
    fn address(&mut self, place: usize, address: u64) {
        let mut nearest = (u64::MAX, 0);
        for (slot, &known) in self.memory.slots.iter().enumerate() {
            let distance = varint::fold(known, address);
            if distance < nearest.0 {
                nearest = (distance, slot);
            }
        }
        let (distance, slot) = nearest;
        let mut delta_len = 0;
        let code = if distance < DELTA_BYTES.into() {
            distance as u8
        } else {
            let needed = (71 - distance.leading_zeros()) as u8 / 8;
            let class = DELTA_LEN.iter().position(|&len| len >= needed).unwrap_or(DELTA_LEN.len() - 1);
            delta_len = DELTA_LEN[class];
            self.buffer.as_mut()[self.len..self.len + 8].copy_from_slice(&distance.to_le_bytes());
            self.len += usize::from(delta_len);
            DELTA_BYTES + class as u8
        };
        self.buffer.as_mut()[place] = code << 3 | slot as u8;
        self.memory.remember(slot, delta_len, address);
    }

    /// Counts an event and says how long after the last one it is.
    #[inline]
    fn begin(&mut self, at: u64) -> u64 {
        assert!(!self.is_full(), "the block is full: seal it before the next event");
        if self.records == 0 {
            self.len = HEADER_LEN;
            // A new block begins where the stream is, but not before its first event.
            let at = at.max(self.memory.at);
            self.memory = Memory { at, ..Memory::default() };
            self.first = at;
        }
        self.records += 1;
        self.late += u64::from(at < self.memory.at);
        let gap = at.saturating_sub(self.memory.at);
        self.memory.at += gap;
        gap
    }

    #[cold]
    fn push_odd_access(&mut self, access: &Access, gap: u64, flags: u8) {
        self.operation(operation::ACCESS);
        self.byte(flags >> 3);
        self.number(gap);
        self.number(access.len.into());
        let place = self.len;
        self.len += 1;
        self.address(place, access.address);
    }

    fn push_other(&mut self, event: &Event) {
        let gap = self.begin(event.at());
        match *event {
            // Handled by the caller.
            Event::Access(_) => {}
            Event::Allocate(e) => {
                self.operation(operation::ALLOCATE);
                self.numbers(&[gap, e.site.0.into(), e.size]);
                self.anchor(e.address);
                self.byte(e.tier.0);
            }
            Event::Free(e) => {
                self.operation(operation::FREE);
                self.number(gap);
                self.anchor(e.address);
            }
            Event::Reallocate(e) => {
                self.operation(operation::REALLOCATE);
                self.numbers(&[gap, e.site.0.into(), e.size]);
                self.anchor(e.old);
                self.anchor(e.address);
                self.byte(e.tier.0);
            }
            Event::Place(e) => {
                self.operation(operation::PLACE);
                self.number(gap);
                self.anchor(e.address);
                self.number(e.len);
                self.byte(e.tier.0);
            }
            Event::Sample(e) => {
                self.operation(operation::SAMPLE);
                self.byte(u8::from(e.write));
                self.number(gap);
                self.anchor(e.address);
                self.numbers(&[e.weight, e.latency_cycles.into()]);
            }
            Event::Interval(e) => {
                let (operation, counts) = match e.counts {
                    Counts::Counted { reads, writes } => (operation::COUNTED, [reads, writes]),
                    Counts::Seen { hits, looks } => (operation::SEEN, [hits.into(), looks.into()]),
                };
                self.operation(operation);
                self.numbers(&[gap, e.ticks]);
                self.anchor(e.address);
                self.numbers(&[e.len, counts[0], counts[1]]);
            }
            Event::Key(e) => {
                self.operation(operation::KEY);
                self.byte(match e.action {
                    KeyAction::Get => 0,
                    KeyAction::Put => 1,
                    KeyAction::Delete => 2,
                });
                self.numbers(&[gap, e.key, e.size, e.tenant.into(), varint::fold(self.memory.request, e.request)]);
                self.memory.request = e.request;
            }
        }
    }

    fn operation(&mut self, operation: u8) {
        self.byte(operation << 3 | OTHER);
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.buffer.as_mut()[self.len] = byte;
        self.len += 1;
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    fn numbers(&mut self, values: &[u64]) {
        values.iter().for_each(|&value| self.number(value));
    }

    fn anchor(&mut self, address: u64) {
        self.number(varint::fold(self.memory.anchor, address));
        self.memory.anchor = address;
    }

    /// Ends the block: its bytes, header and all, to be written in one piece; empty if there are no events. The next
    /// event begins another block.
    pub fn seal(&mut self) -> &[u8] {
        if self.records == 0 {
            return &[];
        }
        let payload = &self.buffer.as_ref()[HEADER_LEN..self.len];
        let header = BlockHeader {
            kind: BlockKind::Events,
            len: payload.len() as u32,
            records: self.records,
            stream: self.stream.0,
            sequence: self.sequence,
            first: self.first,
            last: self.memory.at,
            checksum: crc32c::crc32c(payload),
        };
        self.buffer.as_mut()[..HEADER_LEN].copy_from_slice(&header.encode());
        self.sequence += 1;
        self.records = 0;
        let len = std::mem::replace(&mut self.len, HEADER_LEN);
        &self.buffer.as_ref()[..len]
    }
}
