//! What a program did, in a file.
//!
//! A trace is a stream of blocks, each with its own header and checksum, written without seeking and readable while it
//! grows. A block belongs to one *stream* of events (a thread, or an interval counter), and needs no other block to be
//! decoded: what is lost with a damaged block is that block. `docs/formats.md` has the format byte by byte,
//! `docs/traces.md` what it is for.
//!
//! * [`Writer`] writes a trace, [`Encoder`] makes the blocks of one stream without allocating (the format proper is the room
//!   [`tiermem_trace`], so that a recorder inside `malloc` can write it);
//! * [`Reader`] reads blocks in the order of the file, from anything that can be read;
//! * [`Trace`] opens a file, finds its streams and reads them in the order of their times.
//!
//! ```
//! use tiermem_emulator::trace::{Access, Event, Provenance, Reader, StreamId, Writer};
//!
//! let mut writer = Writer::new(Vec::new(), &Provenance::default())?;
//! writer.event(StreamId(1), &Event::Access(Access { at: 7, address: 0x1000, len: 8, write: false, dependent: false }))?;
//! let bytes = writer.finish()?;
//!
//! let mut reader = Reader::new(bytes.as_slice())?;
//! while let Some(block) = reader.next_block()? {
//!     for event in block.events() {
//!         assert_eq!(event?.at(), 7);
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod catalog;
mod cursor;
mod decode;
mod error;
mod file;
pub mod import;
mod merge;
mod read;
mod write;

#[cfg(test)]
pub(crate) mod tests;

pub use catalog::Catalog;
pub use cursor::{BlockEvents, Cursor};
pub use decode::Events;
pub use error::{Error, ErrorKind, Readable};
pub use file::{Damage, ReadAt, Strictness, Trace};
pub use merge::Merged;
pub use read::{Block, Reader};
pub use tiermem_trace::{
    Access, Allocate, BlockHeader, BlockKind, Clock, Completeness, Counts, Definition, Encoder, Event, Frame, Free,
    HEADER_LEN, Interval, KeyAction, KeyOperation, MAGIC, PAYLOAD_MAX, PAYLOAD_TARGET, Place, Provenance, Reallocate,
    Sample, Site, SiteId, StreamId, TierTag, VERSION,
};
pub use write::Writer;
