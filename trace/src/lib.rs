//! How a trace is written: what can stand in one, and its bytes.
//!
//! Its enumerations are exhaustive on purpose: what can newly stand in a trace is something that every reader here has to think of.
//!
//! The allocator records with this from inside `malloc`: nothing here allocates, except that an [`Encoder`] can be asked to make its
//! buffer. Files are read, merged, imported and replayed by `tiermem_emulator::trace`, which shows all of this again;
//! `docs/formats.md` has the format byte by byte.
//!
//! ```
//! use tiermem_trace::{Allocate, BlockKind, Encoder, Event, StreamId, prelude};
//!
//! let mut file = prelude().to_vec();
//! let mut buffer = [0; 4096];
//! let mut encoder = Encoder::with_buffer(StreamId(1), &mut buffer);
//! encoder.push(&Event::Allocate(Allocate { at: 7, address: 0x1000, size: 64, ..Allocate::default() }));
//! file.extend_from_slice(encoder.seal());
//! assert_eq!(&file[..8], b"TMTRACE\0");
//! assert_eq!(file[20], BlockKind::Events.code());
//! ```

mod block;
pub mod definition;
mod encode;
mod record;
pub mod varint;

pub use block::{BlockHeader, BlockKind, HEADER_LEN, MARK, PAYLOAD_MAX};
pub use encode::{Encoder, PAYLOAD_TARGET, RECORD_MAX, layout};
pub use record::{
    Access, Allocate, Clock, Completeness, Counts, Definition, Event, Frame, Free, Interval, KeyAction, KeyOperation,
    Place, Provenance, Reallocate, Sample, Site, SiteId, StreamId, TierTag,
};

/// The first eight bytes of every trace.
pub const MAGIC: [u8; 8] = *b"TMTRACE\0";

/// The version that is written here, and the only one that is read.
pub const VERSION: u32 = 1;

/// What a file begins with: magic, version and the checksum of both.
pub fn prelude() -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[..12]);
    bytes[12..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Header and payload of a block that belongs to no stream, `None` if the payload is too long for one.
pub fn plain_header(kind: BlockKind, sequence: u32, payload: &[u8], records: u32) -> Option<[u8; HEADER_LEN]> {
    let len = u32::try_from(payload.len()).ok().filter(|&len| len as usize <= PAYLOAD_MAX)?;
    let checksum = crc32c::crc32c(payload);
    Some(BlockHeader { kind, len, records, stream: 0, sequence, first: 0, last: 0, checksum }.encode())
}
