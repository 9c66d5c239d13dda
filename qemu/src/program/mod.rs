//! What goes into a guest with a program: the program itself, its interpreter, its libraries, and the files named beside it,
//! each at the path that it has on the host.

mod libraries;
mod packing;
mod slim;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, ErrorKind, Result};

pub use libraries::{Needs, Search};
pub use packing::{Packing, Stamp};
pub use slim::{Keep, slim};

/// Longest sum of a package's files that is taken along unasked, bytes.
pub const PACKAGE_MAX: u64 = 256 << 20;
/// The mark of folders that hold what can be made again, cargo's `target` among them (<https://bford.info/cachedir/>).
const CACHE_MARK: &str = "CACHEDIR.TAG";

/// Files for a guest, while they are gathered.
#[derive(Clone, Debug)]
pub struct Luggage {
    search: Search,
    packing: Packing,
    needs: Needs,
    scanned: BTreeSet<PathBuf>,
    whole: bool,
}

impl Luggage {
    /// Nothing yet. `library_path` is where else libraries may be, as in `LD_LIBRARY_PATH`.
    pub fn new(library_path: Option<&str>) -> Self {
        Self {
            search: Search::of_this_machine(library_path),
            packing: Packing::default(),
            needs: Needs::default(),
            scanned: BTreeSet::new(),
            whole: false,
        }
    }

    /// Programs go with their debug data from now on: for backtraces with lines, and for debuggers.
    #[must_use]
    pub fn whole(self) -> Self {
        Self { whole: true, ..self }
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
        if !self.whole {
            self.packing.slim.insert(path.clone());
        }
        self.file(&path, &path)
    }

    /// Adds a file, or a folder with all that lies in it, at the path `inside` the guest; programs and libraries bring the
    /// libraries that they need.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn copy(&mut self, path: &Path, inside: &Path) -> Result<()> {
        let path = std::path::absolute(path).at(path)?;
        for file in self.walk(&path, inside, &|_| false)? {
            self.file(&file.1, &file.0)?;
        }
        Ok(())
    }

    /// Adds the files of a package for programs that read them, at the path that it has here: all but version control and
    /// folders that are marked as caches. What the files need in turn is not looked for.
    ///
    /// # Errors
    /// [`ErrorKind::NoRoom`] if they are more than [`PACKAGE_MAX`]; those of the file system.
    pub fn package(&mut self, folder: &Path) -> Result<()> {
        let folder = std::path::absolute(folder).at(folder)?;
        let left_out = |path: &Path| {
            path.file_name().is_some_and(|name| name == ".git" || name == ".hg" || name == ".svn")
                || path.join(CACHE_MARK).is_file()
        };
        let files = self.walk(&folder, &folder, &left_out)?;
        let size: u64 = files.iter().filter_map(|(_, here)| fs::metadata(here).ok()).map(|data| data.len()).sum();
        if size > PACKAGE_MAX {
            let why = format!(
                "{}: the package's files are {} MiB, and no more than {} MiB are taken into a guest unasked. Leave them \
                 out (--no-package) and name those that are needed (--copy PATH).",
                folder.display(),
                size >> 20,
                PACKAGE_MAX >> 20
            );
            return Err(Error::new(ErrorKind::NoRoom, why));
        }
        self.packing.files.extend(files);
        Ok(())
    }

    /// The files in a folder with their places in the guest; its folders and links are noted on the way.
    fn walk(&mut self, path: &Path, inside: &Path, out: &dyn Fn(&Path) -> bool) -> Result<Vec<(PathBuf, PathBuf)>> {
        if !fs::metadata(path).at(path)?.is_dir() {
            return Ok(vec![(inside.to_path_buf(), path.to_path_buf())]);
        }
        let mut files = Vec::new();
        self.packing.folders.insert(inside.to_path_buf());
        for entry in fs::read_dir(path).at(path)? {
            let entry = entry.at(path)?;
            let (from, to) = (entry.path(), inside.join(entry.file_name()));
            match entry.file_type().at(&from)? {
                kind if kind.is_symlink() => {
                    let target = fs::read_link(&from).at(&from)?;
                    // A link that leaves the folder would lead nowhere in the guest; one that leads above itself, nowhere
                    // at all.
                    match fs::canonicalize(&from) {
                        Ok(real) if target.is_absolute() || !real.starts_with(path) => {
                            if !path.starts_with(&real) {
                                files.extend(self.walk(&real, &to, out)?);
                            }
                        }
                        _ => drop(self.packing.links.insert(to, target)),
                    }
                }
                kind if kind.is_dir() && !out(&from) => files.extend(self.walk(&from, &to, out)?),
                kind if kind.is_file() => files.push((to, from)),
                _ => {}
            }
        }
        Ok(files)
    }

    /// Adds one file and, if it is a program or library, what it needs.
    fn file(&mut self, path: &Path, inside: &Path) -> Result<()> {
        self.packing.files.insert(inside.to_path_buf(), path.to_path_buf());
        if self.scanned.insert(path.into()) {
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

    /// Everything, libraries included.
    pub fn packing(&self) -> Packing {
        let mut packing = self.packing.clone();
        packing.files.extend(self.needs.files.iter().map(|file| (file.clone(), file.clone())));
        packing
    }
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
    use super::{Luggage, find, interpreters};
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
        read(&luggage.packing().write(Vec::new(), known).unwrap()[..], |entry| {
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
        let here: Vec<_> = luggage.packing().files.into_values().collect();
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
    fn a_package_goes_without_what_can_be_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        };
        ["Cargo.toml", "tests/data", ".git/HEAD", "target/CACHEDIR.TAG", "target/debug/x"].into_iter().for_each(put);
        // A link that leads in a circle.
        symlink(folder.path(), folder.path().join("tests/self")).unwrap();
        let mut luggage = Luggage::new(None);
        luggage.package(folder.path()).unwrap();
        let files = luggage.packing().files.into_keys();
        let files: Vec<_> = files.map(|path| path.strip_prefix(folder.path()).unwrap().to_path_buf()).collect();
        assert_eq!(files, [PathBuf::from("Cargo.toml"), "tests/data".into()]);
        let large = std::fs::File::create(folder.path().join("large")).unwrap();
        large.set_len(super::PACKAGE_MAX).unwrap();
        let error = Luggage::new(None).package(folder.path()).unwrap_err();
        assert!(error.kind() == ErrorKind::NoRoom && error.to_string().contains("--no-package"), "{error}");
    }
}
