//! What goes into a guest with a program: the program itself, its interpreter, its libraries, and the files named beside it,
//! each at the path that it has on the host.

mod libraries;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::archive;
use crate::error::{Context, Error, ErrorKind, Result};

pub use libraries::{Needs, Search};

/// Files for a guest.
#[derive(Clone, Debug)]
pub struct Luggage {
    search: Search,
    /// Where it lies in the guest, and here.
    files: BTreeMap<PathBuf, PathBuf>,
    links: BTreeMap<PathBuf, PathBuf>,
    folders: BTreeSet<PathBuf>,
    needs: Needs,
    scanned: BTreeSet<PathBuf>,
}

/// What identifies one state of a file, so that it need not be sent twice.
pub type Stamp = (PathBuf, u64, Option<SystemTime>);

impl Luggage {
    /// Nothing yet. `library_path` is where else libraries may be, as in `LD_LIBRARY_PATH`.
    pub fn new(library_path: Option<&str>) -> Self {
        Self {
            search: Search::of_this_machine(library_path),
            files: BTreeMap::new(),
            links: BTreeMap::new(),
            folders: BTreeSet::new(),
            needs: Needs::default(),
            scanned: BTreeSet::new(),
        }
    }

    /// Adds a program, what interprets it if it is a script, and its libraries.
    ///
    /// # Errors
    /// [`ErrorKind::NotExecutable`] if it may not be executed; those of the file system.
    pub fn program(&mut self, path: &Path) -> Result<()> {
        let path = std::path::absolute(path).at(path)?;
        let data = fs::metadata(&path).at(&path)?;
        if !data.is_file() || data.permissions().mode() & 0o111 == 0 {
            let why = format!("{}: not an executable file (chmod +x?)", path.display());
            return Err(Error::new(ErrorKind::NotExecutable, why));
        }
        for interpreter in interpreters(&path) {
            let found = find(interpreter.as_os_str(), std::env::var_os("PATH").as_deref());
            let found = found.ok_or_else(|| {
                let why = format!("{}: its interpreter {} is not here", path.display(), interpreter.display());
                Error::new(ErrorKind::NotExecutable, why)
            })?;
            self.program(&found)?;
        }
        self.file(&path, &path)
    }

    /// Adds a file, or a folder with all that lies in it, at the path `inside` the guest.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn copy(&mut self, path: &Path, inside: &Path) -> Result<()> {
        let path = std::path::absolute(path).at(path)?;
        let data = fs::metadata(&path).at(&path)?;
        if !data.is_dir() {
            return self.file(&path, inside);
        }
        self.folders.insert(inside.to_path_buf());
        for entry in fs::read_dir(&path).at(&path)? {
            let entry = entry.at(&path)?;
            let (from, to) = (entry.path(), inside.join(entry.file_name()));
            match entry.file_type().at(&from)? {
                kind if kind.is_symlink() => {
                    let target = fs::read_link(&from).at(&from)?;
                    // A link that leaves the folder would lead nowhere in the guest.
                    match fs::canonicalize(&from) {
                        Ok(real) if target.is_absolute() || !real.starts_with(&path) => self.copy(&real, &to)?,
                        _ => drop(self.links.insert(to, target)),
                    }
                }
                kind if kind.is_dir() => self.copy(&from, &to)?,
                kind if kind.is_file() => self.file(&from, &to)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds one file and, if it is a program or library, what it needs.
    fn file(&mut self, path: &Path, inside: &Path) -> Result<()> {
        if self.files.insert(inside.to_path_buf(), path.to_path_buf()).is_none() && self.scanned.insert(path.into()) {
            self.search.add(path, &mut self.needs)?;
        }
        Ok(())
    }

    /// Libraries that are nowhere on this machine, as a failure that names them. (Whoever knows that they are not needed
    /// does not ask.)
    ///
    /// # Errors
    /// [`ErrorKind::NotExecutable`] with every missing library and who wants it.
    pub fn complete(&self) -> Result<()> {
        if self.needs.missing.is_empty() {
            return Ok(());
        }
        let lines = self.needs.missing.iter().map(|(name, by)| format!("\n  {name}, which {} needs", by.display()));
        let lines: String = lines.collect();
        let advice = "\nInstall them, name their folder in LD_LIBRARY_PATH, or link the program statically.";
        Err(Error::new(ErrorKind::NotExecutable, format!("libraries are missing on this machine:{lines}{advice}")))
    }

    /// What `LD_LIBRARY_PATH` must be in the guest, where the loader there needs it.
    pub fn library_path(&self) -> Option<String> {
        let folders: Vec<_> = self.needs.folders.iter().map(|folder| folder.to_string_lossy()).collect();
        (!folders.is_empty()).then(|| folders.join(":"))
    }

    /// Every file with its place in the guest, libraries included.
    pub fn all(&self) -> impl Iterator<Item = (&Path, &Path)> {
        let named = self.files.iter().map(|(inside, here)| (inside.as_path(), here.as_path()));
        named.chain(self.needs.files.iter().map(|file| (file.as_path(), file.as_path())))
    }

    /// The stamp of a file that lies in the guest where it lies here.
    pub fn stamp_of(&self, path: &Path) -> Option<Stamp> {
        let path = std::path::absolute(path).ok()?;
        let data = fs::metadata(&path).ok()?;
        Some((path, data.len(), data.modified().ok()))
    }

    /// How many bytes go into the guest, at most.
    pub fn size(&self) -> u64 {
        self.all().filter_map(|(_, here)| fs::metadata(here).ok()).map(|data| data.len()).sum()
    }

    /// Writes everything that `known` does not hold yet as an archive, and adds it to `known`.
    ///
    /// # Errors
    /// Those of the file system and of the writer.
    pub fn write<W: Write>(&self, to: W, known: &mut BTreeSet<Stamp>) -> Result<W> {
        let mut archive = archive::Writer::new(to);
        let failed = "cannot pack the guest's files";
        for folder in &self.folders {
            archive.folder(&real_folder(folder)).context(failed)?;
        }
        for (inside, here) in self.all() {
            let data = fs::metadata(here).at(here)?;
            let stamp = (inside.to_path_buf(), data.len(), data.modified().ok());
            if known.insert(stamp) {
                let contents = fs::read(here).at(here)?;
                archive.file(&real_place(inside), data.permissions().mode(), &contents).context(failed)?;
            }
        }
        for (inside, target) in &self.links {
            archive.link(&real_place(inside), &target.to_string_lossy()).context(failed)?;
        }
        archive.finish().context(failed)
    }
}

/// The place of a file with the links among the folders above it followed, as in the guest, whose `/bin`, `/sbin`, `/lib`
/// and `/lib64` are links into `/usr` like those of today's distributions: the kernel does not follow links when it unpacks.
fn real_place(inside: &Path) -> String {
    match (inside.parent(), inside.file_name()) {
        (Some(folder), Some(name)) => format!("{}/{}", real_folder(folder), name.to_string_lossy()),
        _ => inside.to_string_lossy().into_owned(),
    }
}

fn real_folder(folder: &Path) -> String {
    let mut parts: Vec<_> = Vec::new();
    for part in folder.components() {
        match part {
            std::path::Component::Normal(name) => parts.push(name.to_string_lossy()),
            std::path::Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    if parts.first().is_some_and(|first| ["bin", "sbin", "lib", "lib64"].contains(&first.as_ref())) {
        parts.insert(0, "usr".into());
    }
    parts.join("/")
}

/// Finds a program as a shell does: a path if it has a slash, else in the folders of `search` (`PATH`).
pub fn find(name: &OsStr, search: Option<&OsStr>) -> Option<PathBuf> {
    let executable =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0);
    if name.to_string_lossy().contains('/') {
        return Some(PathBuf::from(name)).filter(executable);
    }
    std::env::split_paths(search?).map(|folder| folder.join(name)).find(executable)
}

/// What a script's first line names: the interpreter, and for `env` what it is told to start.
fn interpreters(script: &Path) -> Vec<PathBuf> {
    let Ok(file) = fs::File::open(script) else { return Vec::new() };
    let mut line = Vec::new();
    let read = BufReader::new(std::io::Read::take(file, 256)).read_until(b'\n', &mut line);
    let Some(rest) = read.ok().and_then(|_| line.strip_prefix(b"#!")) else { return Vec::new() };
    let rest = String::from_utf8_lossy(rest);
    let mut words = rest.split_whitespace();
    let mut found: Vec<PathBuf> = words.next().map(PathBuf::from).into_iter().collect();
    if found.first().is_some_and(|first| first.ends_with("env")) {
        found.extend(words.find(|word| !word.starts_with('-') && !word.contains('=')).map(PathBuf::from));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Luggage, find, interpreters, real_place};
    use crate::ErrorKind;
    use crate::archive::{Entry, read};
    use std::collections::BTreeSet;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    fn script(folder: &Path, text: &str, mode: u32) -> PathBuf {
        let path = folder.join("script");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn packed(luggage: &Luggage, known: &mut BTreeSet<super::Stamp>) -> Vec<Entry> {
        let mut entries = Vec::new();
        read(&luggage.write(Vec::new(), known).unwrap()[..], |entry| {
            entries.push(entry);
            Ok(())
        })
        .unwrap();
        entries
    }

    #[test]
    fn a_script_brings_its_interpreter() {
        let folder = tempfile::tempdir().unwrap();
        let path = script(folder.path(), "#!/usr/bin/env -S sh -e\ntrue\n", 0o755);
        assert_eq!(interpreters(&path), [PathBuf::from("/usr/bin/env"), "sh".into()]);
        let mut luggage = Luggage::new(None);
        luggage.program(&path).unwrap();
        let here: Vec<_> = luggage.all().map(|(_, here)| here.to_path_buf()).collect();
        assert!(here.contains(&path) && here.iter().any(|path| path.ends_with("sh")), "{here:?}");
        luggage.complete().unwrap();
    }

    #[test]
    fn what_cannot_be_executed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path| Luggage::new(None).program(path).unwrap_err().kind();
        assert_eq!(refused(&script(folder.path(), "true", 0o644)), ErrorKind::NotExecutable);
        assert_eq!(refused(&script(folder.path(), "#!/no/such/interpreter\n", 0o755)), ErrorKind::NotExecutable);
        assert_eq!(refused(Path::new("/no/such/program")), ErrorKind::NotFound);
        assert_eq!(refused(folder.path()), ErrorKind::NotExecutable);
        assert_eq!(find("no-such-program".as_ref(), Some("/bin:/usr/bin".as_ref())), None);
    }

    #[test]
    fn folders_go_whole_and_only_what_changed_goes_again() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("data/inner");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("file"), "1").unwrap();
        symlink("file", inner.join("link")).unwrap();
        symlink("/etc/hostname-that-is-nowhere", inner.join("broken")).unwrap();
        let mut luggage = Luggage::new(None);
        luggage.copy(&folder.path().join("data"), Path::new("/data")).unwrap();
        let mut known = BTreeSet::new();
        let entries = packed(&luggage, &mut known);
        let file = |entry: &&Entry| matches!(entry, Entry::File(path, ..) if path.ends_with("data/inner/file"));
        assert_eq!(entries.iter().filter(file).count(), 1);
        assert!(entries.contains(&Entry::Link("data/inner/link".into(), "file".into())));
        assert_eq!(packed(&luggage, &mut known).iter().filter(file).count(), 0);
        std::fs::write(inner.join("file"), "12").unwrap();
        assert_eq!(packed(&luggage, &mut known).iter().filter(file).count(), 1);
    }

    #[test]
    fn places_are_those_of_a_merged_usr() {
        assert_eq!(real_place(Path::new("/lib64/ld-linux-x86-64.so.2")), "usr/lib64/ld-linux-x86-64.so.2");
        assert_eq!(real_place(Path::new("/usr/lib/x.so")), "usr/lib/x.so");
        assert_eq!(real_place(Path::new("/a/../b/c")), "b/c");
    }
}
