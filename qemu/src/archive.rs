//! Files packed one behind the other, in the form that the kernel unpacks at boot (cpio, "newc").
//!
//! Format: Linux `Documentation/driver-api/early-userspace/buffer-format.rst`. An entry is a header of 110 ASCII characters
//! (`070701` and thirteen numbers of eight hexadecimal digits), the name with its final zero, padding to four bytes, the
//! contents, padding to four bytes. `TRAILER!!!` ends an archive; several may follow each other.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use crate::error::{Context, Error, ErrorKind, Result};

const MAGIC: &[u8] = b"070701";
const HEADER_LEN: usize = 110;
const TRAILER: &str = "TRAILER!!!";
const KIND_MASK: u32 = 0o170_000;
const KIND_FOLDER: u32 = 0o040_000;
const KIND_FILE: u32 = 0o100_000;
const KIND_LINK: u32 = 0o120_000;
/// Longest name that is believed when reading.
const NAME_MAX: usize = 4096;

/// Writes an archive. Folders above an entry are added by themselves, each once.
#[derive(Debug)]
pub struct Writer<W: Write> {
    to: W,
    folders: BTreeSet<String>,
    inode: u32,
    written: u64,
}

impl<W: Write> Writer<W> {
    /// An empty archive.
    pub fn new(to: W) -> Self {
        Self { to, folders: BTreeSet::new(), inode: 1, written: 0 }
    }

    /// Adds a folder and those above it.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn folder(&mut self, path: &str) -> io::Result<()> {
        let path = inside(path);
        let mut above = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if !above.is_empty() {
                above.push('/');
            }
            above.push_str(part);
            if self.folders.insert(above.clone()) {
                let name = above.clone();
                self.entry(&name, KIND_FOLDER | 0o755, &[])?;
            }
        }
        Ok(())
    }

    /// Adds a file with these permission bits.
    ///
    /// # Errors
    /// Those of the writer below; `InvalidInput` for a file of 4 GiB and more, which the format cannot hold.
    pub fn file(&mut self, path: &str, permissions: u32, contents: &[u8]) -> io::Result<()> {
        self.above(path)?;
        self.entry(inside(path), KIND_FILE | (permissions & 0o7777), contents)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.above(path)?;
        self.entry(inside(path), KIND_LINK | 0o777, target.as_bytes())
    }

    /// Ends the archive and gives the writer back.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry(TRAILER, 0, &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn above(&mut self, path: &str) -> io::Result<()> {
        match inside(path).rsplit_once('/') {
            Some((above, _)) => self.folder(above),
            None => Ok(()),
        }
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
        let too_large = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("{name}: too large for an archive"));
        let size = u32::try_from(contents.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        let links = if mode & KIND_MASK == KIND_FOLDER { 2 } else { 1 };
        // inode, mode, user, group, links, time, size, device (2), device number (2), size of the name, check
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.inode += 1;
        let mut header = MAGIC.to_vec();
        for field in fields {
            header.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.put(&header)?;
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad()?;
        self.put(contents)?;
        self.pad()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.to.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = usize::try_from(self.written.next_multiple_of(4) - self.written).unwrap_or(0);
        self.put(&[0; 4][..missing])
    }
}

/// A path as the archive holds it: below the root, without a slash in front.
fn inside(path: &str) -> &str {
    path.trim_matches('/')
}

/// What lies in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A folder.
    Folder(PathBuf),
    /// A file with its permission bits and contents.
    File(PathBuf, u32, Vec<u8>),
    /// A symbolic link and where it points.
    Link(PathBuf, PathBuf),
}

/// Reads the entries of one archive up to its end.
///
/// # Errors
/// [`ErrorKind::BadInput`] for bytes that are no such archive, a path that leads out of the folder it is unpacked in, and
/// an end before the end.
pub fn read(mut from: impl Read, mut each: impl FnMut(Entry) -> Result<()>) -> Result<()> {
    let bad = |why: String| Error::new(ErrorKind::BadInput, format!("this is no archive: {why}"));
    let cut = |e: io::Error| bad(format!("it ends too early ({e})"));
    loop {
        let mut header = [0; HEADER_LEN];
        from.read_exact(&mut header).map_err(cut)?;
        if !header.starts_with(MAGIC) {
            return Err(bad("an entry does not begin as one".into()));
        }
        let field = |index: usize| {
            let at = MAGIC.len() + index * 8;
            let text = std::str::from_utf8(&header[at..at + 8]).map_err(|e| bad(e.to_string()))?;
            u32::from_str_radix(text, 16).map_err(|e| bad(format!("`{text}`: {e}")))
        };
        let (mode, size) = (field(1)?, field(6)? as usize);
        let name_size = field(11)? as usize;
        if !(1..=NAME_MAX).contains(&name_size) {
            return Err(bad(format!("a name of {name_size} bytes")));
        }
        let mut name = padded(&mut from, name_size, HEADER_LEN).map_err(cut)?;
        name.pop();
        let name = String::from_utf8(name).map_err(|e| bad(e.to_string()))?;
        if name == TRAILER {
            return Ok(());
        }
        let path = checked(&name).ok_or_else(|| bad(format!("`{name}` leads out of the folder")))?;
        let contents = padded(&mut from, size, 0).map_err(cut)?;
        match mode & KIND_MASK {
            KIND_FOLDER => each(Entry::Folder(path))?,
            KIND_FILE => each(Entry::File(path, mode & 0o7777, contents))?,
            KIND_LINK => {
                let target = String::from_utf8(contents).map_err(|e| bad(e.to_string()))?;
                each(Entry::Link(path, PathBuf::from(target)))?;
            }
            _ => {}
        }
    }
}

/// Unpacks an archive below `folder`, replacing what is there.
///
/// # Errors
/// As [`read`], and those of the file system.
pub fn unpack(from: impl Read, folder: &Path) -> Result<()> {
    read(from, |entry| {
        let place = |path: &Path| -> Result<PathBuf> {
            let place = folder.join(path);
            if let Some(above) = place.parent() {
                fs::create_dir_all(above).at(above)?;
            }
            Ok(place)
        };
        match entry {
            Entry::Folder(path) => fs::create_dir_all(folder.join(&path)).at(&path),
            Entry::File(path, permissions, contents) => {
                let place = place(&path)?;
                // Not written over: a program that runs could not be, and others may have the old one open.
                let _ = fs::remove_file(&place);
                fs::write(&place, contents).at(&place)?;
                fs::set_permissions(&place, fs::Permissions::from_mode(permissions)).at(&place)
            }
            Entry::Link(path, target) => {
                let place = place(&path)?;
                let _ = fs::remove_file(&place);
                symlink(target, &place).at(&place)
            }
        }
    })
}

fn padded(from: &mut impl Read, len: usize, before: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.by_ref().take(len as u64).read_to_end(&mut bytes)?;
    if bytes.len() < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let padding = (before + len).next_multiple_of(4) - (before + len);
    from.read_exact(&mut [0; 4][..padding])?;
    Ok(bytes)
}

/// The path, if it stays where it is unpacked.
fn checked(name: &str) -> Option<PathBuf> {
    let path = Path::new(name.trim_start_matches('/'));
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)).then(|| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::{Entry, Writer, read, unpack};
    use crate::ErrorKind;
    use std::path::PathBuf;

    fn sample() -> Vec<u8> {
        let mut archive = Writer::new(Vec::new());
        archive.file("/a/b/tool", 0o755, b"12345").unwrap();
        archive.file("a/b/empty", 0o600, b"").unwrap();
        archive.link("bin", "usr/bin").unwrap();
        archive.finish().unwrap()
    }

    #[test]
    fn entries_come_back_with_the_folders_above_them() {
        let mut entries = Vec::new();
        read(&sample()[..], |entry| {
            entries.push(entry);
            Ok(())
        })
        .unwrap();
        let path = PathBuf::from;
        let expected = [
            Entry::Folder(path("a")),
            Entry::Folder(path("a/b")),
            Entry::File(path("a/b/tool"), 0o755, b"12345".to_vec()),
            Entry::File(path("a/b/empty"), 0o600, Vec::new()),
            Entry::Link(path("bin"), path("usr/bin")),
        ];
        assert_eq!(entries, expected);
    }

    #[test]
    fn every_cut_is_noticed() {
        let whole = sample();
        for cut in 0..whole.len() - 1 {
            let error = read(&whole[..cut], |_| Ok(()));
            // Padding at the very end is not missed by anybody.
            assert!(error.is_err() || cut + 4 > whole.len(), "cut at {cut}");
        }
        assert_eq!(read(&b"not a cpio archive"[..], |_| Ok(())).unwrap_err().kind(), ErrorKind::BadInput);
    }

    #[test]
    fn nothing_is_unpacked_outside_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut archive = Writer::new(Vec::new());
        archive.file("a/../../escaped", 0o644, b"x").unwrap();
        let error = unpack(&archive.finish().unwrap()[..], &folder.path().join("in")).unwrap_err();
        assert!(error.to_string().contains("leads out"), "{error}");
        assert!(!folder.path().join("escaped").exists());
    }

    /// Another reader's opinion, where there is one.
    #[test]
    fn cpio_reads_what_we_write() {
        use std::io::Write;
        use std::process::{Command, Stdio};
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("cpio");
        command.args(["-i", "-d", "--quiet"]).current_dir(folder.path()).stdin(Stdio::piped());
        let Ok(mut cpio) = command.spawn() else {
            eprintln!("SKIP cpio_reads_what_we_write: cpio is not installed");
            return;
        };
        cpio.stdin.take().unwrap().write_all(&sample()).unwrap();
        assert!(cpio.wait().unwrap().success());
        assert_eq!(std::fs::read(folder.path().join("a/b/tool")).unwrap(), b"12345");
        assert_eq!(std::fs::read_link(folder.path().join("bin")).unwrap(), PathBuf::from("usr/bin"));
    }
}
