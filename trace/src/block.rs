//! Blocks: what every part of a trace is wrapped in.

/// Bytes of a block's header.
pub const HEADER_LEN: usize = 48;

/// Most bytes of a block's payload. Writers stay far below; a reader takes no larger length for true.
pub const PAYLOAD_MAX: usize = 16 << 20;

/// What each header begins with.
pub const MARK: [u8; 4] = *b"TMb\x1a";

/// What is in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockKind {
    /// Where the trace comes from: the first block.
    Provenance,
    /// What events refer to.
    Definitions,
    /// Events of one stream.
    Events,
    /// The end of a recording that ended properly: the last block.
    End,
}

impl BlockKind {
    /// Its number in a header.
    pub const fn code(self) -> u8 {
        match self {
            Self::Provenance => 0,
            Self::Definitions => 1,
            Self::Events => 2,
            Self::End => 3,
        }
    }

    const fn of_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Provenance),
            1 => Some(Self::Definitions),
            2 => Some(Self::Events),
            3 => Some(Self::End),
            _ => None,
        }
    }
}

/// A block's header.
///
/// ```text
///  0  mark       4   "TMb\x1a"
///  4  kind       1   0 provenance, 1 definitions, 2 events, 3 end
///  5  zero       3
///  8  len        4   bytes of the payload
/// 12  records    4   records in it
/// 16  stream     4   whose events; 0 where it has none
/// 20  sequence   4   how manieth block of this stream (of this kind, if it is not events), from 0
/// 24  first      8   time of its first event, ticks
/// 32  last       8   time of its last event, ticks
/// 40  payload    4   CRC-32C of the payload
/// 44  header     4   CRC-32C of the 44 bytes before
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// What is in it.
    pub kind: BlockKind,
    /// Bytes of the payload.
    pub len: u32,
    /// Records in it.
    pub records: u32,
    /// Whose events they are; 0 where it has none.
    pub stream: u32,
    /// The how manieth block of this stream it is, from 0; of this kind, where it has no events.
    pub sequence: u32,
    /// Time of its first event, ticks.
    pub first: u64,
    /// Time of its last event, ticks.
    pub last: u64,
    /// CRC-32C of the payload.
    pub checksum: u32,
}

impl BlockHeader {
    /// Bytes of the whole block.
    pub const fn block_len(&self) -> u64 {
        HEADER_LEN as u64 + self.len as u64
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&MARK);
        bytes[4] = self.kind.code();
        for (at, word) in
            [(8, self.len), (12, self.records), (16, self.stream), (20, self.sequence), (40, self.checksum)]
        {
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        for (at, word) in [(24, self.first), (32, self.last)] {
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        let own = crc32c::crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// `None` if this is no header, or a damaged one.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let wide = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if bytes[..4] != MARK || word(44) != crc32c::crc32c(&bytes[..44]) {
            return None;
        }
        let header = Self {
            kind: BlockKind::of_code(bytes[4])?,
            len: word(8),
            records: word(12),
            stream: word(16),
            sequence: word(20),
            first: wide(24),
            last: wide(32),
            checksum: word(40),
        };
        (bytes[5..8] == [0; 3] && header.len as usize <= PAYLOAD_MAX && header.first <= header.last).then_some(header)
    }
}
