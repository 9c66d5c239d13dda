//! A script that is kept beside the file of a tier, so that it reaches every process that has the tier open, also those that
//! run already: hardware that breaks, breaks for all.
//!
//! ```text
//!  0  magic       8 bytes, "TMFAULTS"
//!  8  version     4 bytes, 1
//! 12  len         4 bytes: of the text
//! 16  generation  8 bytes: grows with each script; odd while one is being written
//! 24  checksum    8 bytes: FNV-1a, 64 bits, over the generation and the text
//! 32  text        the script, as `Script` writes it
//! ```
//!
//! Written in place, because readers hold the file open: first the header with an odd generation, then the text, then the
//! header again. A writer that dies between leaves an odd generation, and readers keep what they have.
//!
//! It is read and not mapped: of a file that somebody has cut, a read gives less, and a load would be a signal.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tiermem_sys::Errno;
use tiermem_sys::file::{self, Existing};

use super::script::Script;
use crate::provider::backing_file::BackingFile;
use crate::provider::extent_table::fnv1a;

/// Faults that one tier can have in a kept script.
pub const FAULTS_MAX: usize = 64;

/// Bytes of a script's text.
const TEXT_MAX: usize = 16 << 10;

const MAGIC: &[u8; 8] = b"TMFAULTS";
const VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    len: u32,
    generation: u64,
    checksum: u64,
}

impl Header {
    const LEN: usize = 32;

    fn of(generation: u64, text: &[u8]) -> Self {
        Self { len: text.len() as u32, generation, checksum: checksum(generation, text) }
    }

    fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.generation.to_le_bytes());
        bytes[24..].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let header = Self { len: half(12), generation: word(16), checksum: word(24) };
        (bytes[..8] == *MAGIC && half(8) == VERSION && header.len as usize <= TEXT_MAX).then_some(header)
    }

    const fn is_being_written(self) -> bool {
        self.generation % 2 == 1
    }
}

fn checksum(generation: u64, text: &[u8]) -> u64 {
    fnv1a(text) ^ fnv1a(&generation.to_le_bytes())
}

/// Where the script of a tier is kept whose file this is.
pub fn beside(location: &Path) -> PathBuf {
    let mut name = location.as_os_str().to_owned();
    name.push(".faults");
    name.into()
}

/// Keeps a script in the file, which is made if it is missing. From now on it is in force in every process that has the tier
/// open, in the place of the one before.
///
/// # Errors
/// As the system says; `InvalidInput` if it has more than [`FAULTS_MAX`] faults or more than 16 KiB of text.
pub fn keep(path: &Path, script: &Script) -> io::Result<()> {
    let text = script.to_string();
    if script.faults.len() > FAULTS_MAX || text.len() > TEXT_MAX {
        let why = format!("a tier can be given at most {FAULTS_MAX} faults at a time");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let fd = file::open(&c_path(path)?, Existing::OrCreate, false).map_err(from_errno)?;
    // One writer at a time; the lock ends with the descriptor.
    file::lock_description(fd.as_fd(), 0).map_err(from_errno)?;
    let mut bytes = [0; Header::LEN];
    file::read_at(fd.as_fd(), &mut bytes, 0).map_err(from_errno)?;
    let odd = (Header::parse(&bytes).map_or(0, |before| before.generation) + 1) | 1;
    write(fd.as_fd(), odd, text.as_bytes()).map_err(from_errno)
}

fn write(fd: BorrowedFd<'_>, odd: u64, text: &[u8]) -> Result<(), Errno> {
    file::write_at(fd, &Header::of(odd, b"").to_bytes(), 0)?;
    file::write_at(fd, text, Header::LEN as u64)?;
    file::write_at(fd, &Header::of(odd + 1, text).to_bytes(), 0)
}

/// The script that is kept in a file; empty if there is no file.
///
/// # Errors
/// As the system says; `InvalidData` if it is damaged.
pub fn read(path: &Path) -> io::Result<Script> {
    let Some(mut kept) = Kept::open(path)? else { return Ok(Script::default()) };
    let damaged = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    match kept.news() {
        News::None => Ok(Script::default()),
        News::Script(text) => text.parse().map_err(|error| damaged(format!("{error}"))),
        News::Damaged(why) => Err(damaged(why.to_owned())),
    }
}

/// The file, open for as long as the tier is.
#[derive(Debug)]
pub struct Kept {
    file: BackingFile,
    /// The header of the script that was given out last.
    seen: [u8; Header::LEN],
    /// That of the damage that was told last.
    told: Option<[u8; Header::LEN]>,
    text: Box<[u8]>,
}

/// What a look at the file gives.
pub(super) enum News<'a> {
    /// Nothing that was not seen before.
    None,
    Script(&'a str),
    Damaged(&'static str),
}

impl Kept {
    /// Opens the file; `None` if there is none, as beside any tier that no emulated machine has.
    ///
    /// # Errors
    /// As the system says.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let path = c_path(path)?;
        let fd = match file::open(&path, Existing::Required, false) {
            Err(Errno::ENOENT) => return Ok(None),
            opened => opened.map_err(from_errno)?,
        };
        let file = BackingFile::new(fd, Some(path), false).map_err(from_errno)?;
        Ok(Some(Self { file, seen: [0; Header::LEN], told: None, text: vec![0; TEXT_MAX].into() }))
    }

    /// Looks whether there is another script than at the last look. Allocates nothing.
    pub(super) fn news(&mut self) -> News<'_> {
        // A file that cannot be reached any more went with its machine: nothing new will come.
        let Ok(fd) = self.file.fd() else { return News::None };
        let bytes = header(fd);
        if bytes == self.seen {
            return News::None;
        }
        let Some(header_now) = Header::parse(&bytes) else { return self.damaged(bytes, "it is no script") };
        if header_now.is_being_written() {
            return News::None;
        }
        let text = &mut self.text[..header_now.len as usize];
        let is_whole = file::read_at(fd, text, Header::LEN as u64) == Ok(text.len());
        if header(fd) != bytes {
            return News::None; // Somebody has begun to write the next one.
        }
        if !is_whole || checksum(header_now.generation, text) != header_now.checksum {
            return self.damaged(bytes, "its checksum is wrong");
        }
        self.seen = bytes;
        let text = &self.text[..header_now.len as usize];
        str::from_utf8(text).map_or(News::Damaged("it is no text"), News::Script)
    }

    /// Tells of damage once.
    fn damaged(&mut self, header: [u8; Header::LEN], why: &'static str) -> News<'_> {
        if self.told.replace(header) == Some(header) { News::None } else { News::Damaged(why) }
    }
}

/// The first bytes of the file; zeroes where it ends before.
fn header(fd: BorrowedFd<'_>) -> [u8; Header::LEN] {
    let mut bytes = [0; Header::LEN];
    match file::read_at(fd, &mut bytes, 0) {
        Ok(_) => bytes,
        Err(_) => [0; Header::LEN],
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| from_errno(Errno::EINVAL))
}

fn from_errno(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}

#[cfg(test)]
mod tests;
