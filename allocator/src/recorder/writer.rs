//! Blocks at the end of a file, and the page of definitions that goes before them.

use std::os::fd::AsFd;

use tiermem_sys::file::{self, Existing};
use tiermem_sys::{Errno, process};
use tiermem_trace::definition::{Part, put_record, record_len};
use tiermem_trace::{BlockKind, HEADER_LEN, plain_header, prelude, varint};

use super::words::Text;

/// Longest path, as the kernel has it.
pub const PATH_MAX: usize = 4096;
/// Bytes of definitions that are written at once.
const PAGE: usize = 16 << 10;

/// See the module. Its figures are those of one file.
pub struct Writer {
    pub file: Target,
    page: Page,
    definition_blocks: u32,
    blocks: u64,
    events: u64,
}

/// The file.
pub struct Target {
    pub path: Text<PATH_MAX>,
    /// Where the next block goes. Behind it there may be an end block.
    end: u64,
    is_concluded: bool,
    /// It cannot be written, and the user was told.
    pub has_failed: bool,
}

/// Room for a header, and records behind it.
struct Page {
    bytes: [u8; HEADER_LEN + PAGE],
    len: usize,
    records: u32,
}

impl Writer {
    pub const fn new() -> Self {
        Self {
            file: Target { path: Text::new(), end: 0, is_concluded: false, has_failed: false },
            page: Page { bytes: [0; HEADER_LEN + PAGE], len: 0, records: 0 },
            definition_blocks: 0,
            blocks: 0,
            events: 0,
        }
    }

    /// Begins with another file, which `file.path` is to name.
    pub const fn restart(&mut self) {
        (self.file.end, self.file.is_concluded) = (0, false);
        (self.page.len, self.page.records) = (0, 0);
        (self.definition_blocks, self.blocks, self.events) = (0, 0, 0);
    }

    /// Writes what a file begins with.
    pub fn begin(&mut self) {
        self.file.append(&prelude());
    }

    /// Adds a record to the page; writes the page before if it is full.
    pub fn put(&mut self, kind: u8, body: &[Part<'_>]) {
        let len = record_len(body);
        if self.page.len + len > PAGE {
            self.write_definitions();
        }
        // Nothing that is defined here is longer than a path.
        if let Some(room) = self.page.bytes.get_mut(HEADER_LEN + self.page.len..).filter(|room| room.len() >= len) {
            self.page.len += put_record(room, kind, body);
            self.page.records += 1;
        }
    }

    /// Writes the page, as definitions.
    pub fn write_definitions(&mut self) {
        if self.page.records > 0 {
            self.write_page(BlockKind::Definitions, self.definition_blocks);
            self.definition_blocks += 1;
        }
    }

    /// Writes the page, as the first block of the file.
    pub fn write_provenance(&mut self) {
        self.write_page(BlockKind::Provenance, 0);
    }

    fn write_page(&mut self, kind: BlockKind, sequence: u32) {
        let len = HEADER_LEN + std::mem::take(&mut self.page.len);
        let records = std::mem::take(&mut self.page.records);
        let Some(header) = plain_header(kind, sequence, &self.page.bytes[HEADER_LEN..len], records) else { return };
        self.page.bytes[..HEADER_LEN].copy_from_slice(&header);
        self.blocks += u64::from(self.file.append(&self.page.bytes[..len]));
    }

    /// Writes a block of events.
    pub fn write_events(&mut self, block: &[u8], records: u32) {
        if self.file.append(block) {
            self.blocks += 1;
            self.events += u64::from(records);
        }
    }

    /// Writes the end. The next block takes its place.
    pub fn conclude(&mut self) {
        let mut block = [0; HEADER_LEN + 20];
        let mut len = HEADER_LEN;
        for number in [self.blocks, self.events].map(varint::encoded) {
            block[len..len + number.as_slice().len()].copy_from_slice(number.as_slice());
            len += number.as_slice().len();
        }
        let Some(header) = plain_header(BlockKind::End, 0, &block[HEADER_LEN..len], 1) else { return };
        block[..HEADER_LEN].copy_from_slice(&header);
        let end = self.file.end;
        self.file.is_concluded = self.file.append(&block[..len]);
        self.file.end = end;
    }
}

impl Target {
    /// Writes at the end. False, after a word to the user the first time, if that cannot be done.
    fn append(&mut self, bytes: &[u8]) -> bool {
        if !self.has_failed {
            match self.write_at_end(bytes) {
                Ok(()) => self.end += bytes.len() as u64,
                Err(errno) => self.fail(errno),
            }
        }
        !self.has_failed
    }

    fn write_at_end(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let fd = file::open(self.path.as_c_str().ok_or(Errno::ENAMETOOLONG)?, Existing::Required, false)?;
        if std::mem::take(&mut self.is_concluded) {
            file::set_size(fd.as_fd(), self.end)?;
        }
        file::write_at(fd.as_fd(), bytes, self.end).inspect_err(|_| {
            // Of what is only half there, nothing should stay; a reader passes over it all the same.
            let _ = file::set_size(fd.as_fd(), self.end);
        })
    }

    /// Tells the user, and gives the file up.
    pub fn fail(&mut self, errno: Errno) {
        self.has_failed = true;
        process::say(b"tiermem: the trace ");
        process::say(self.path.as_bytes());
        process::say(b" cannot be written: ");
        process::say(match errno {
            Errno::ESPIPE => b"it is not a regular file",
            Errno::EEXIST => b"there is a file that is no trace",
            _ => errno.desc().as_bytes(),
        });
        process::say(b"; recording ends here\n");
    }
}
