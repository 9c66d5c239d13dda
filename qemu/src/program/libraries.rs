//! Which shared libraries a program needs, found as the dynamic loader finds them (ld.so(8)): the program's own search
//! path, `LD_LIBRARY_PATH`, the folders of `/etc/ld.so.conf`, the standard ones.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

use crate::error::{Context, Result};

/// What a program needs from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The dynamic loader and the libraries, each at the path where the loader looks for it.
    pub files: BTreeSet<PathBuf>,
    /// Folders of libraries that a loader finds only if it is told about them.
    pub folders: BTreeSet<PathBuf>,
    /// Libraries that are nowhere, each with the file that wants it.
    pub missing: BTreeSet<(String, PathBuf)>,
}

/// Where loaders look without being told.
const STANDARD: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// How the dynamic loader of this machine searches.
#[derive(Clone, Debug)]
pub struct Search {
    told: Vec<PathBuf>,
    configured: Vec<PathBuf>,
}

/// The dynamic section of a program or library.
#[derive(Debug, Default)]
struct Dynamic {
    interpreter: Option<PathBuf>,
    needed: Vec<String>,
    folders: Vec<PathBuf>,
}

impl Search {
    /// As this machine's loader does, with `library_path` as the value of `LD_LIBRARY_PATH`.
    pub fn of_this_machine(library_path: Option<&str>) -> Self {
        let told = library_path.into_iter().flat_map(std::env::split_paths).filter(|path| path.is_absolute()).collect();
        let mut configured = Vec::new();
        configuration(Path::new("/etc/ld.so.conf"), &mut configured, 4);
        Self { told, configured }
    }

    /// Adds what `file` needs to `needs`. Nothing for files that are no programs or libraries of this kind of machine.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn add(&self, file: &Path, needs: &mut Needs) -> Result<()> {
        // Data may be large: only what begins as a program is read.
        if fs::metadata(file).at(file)?.is_file() && !fits(file) {
            return Ok(());
        }
        let bytes = fs::read(file).at(file)?;
        let Some(dynamic) = dynamic(&bytes, file) else { return Ok(()) };
        if let Some(loader) = dynamic.interpreter.filter(|loader| needs.files.insert(loader.clone())) {
            self.add(&loader, needs)?;
        }
        for name in &dynamic.needed {
            match self.find(name, &dynamic.folders) {
                Some((path, standard)) => {
                    if let (false, Some(folder)) = (standard, path.parent()) {
                        needs.folders.insert(folder.to_path_buf());
                    }
                    if needs.files.insert(path.clone()) {
                        self.add(&path, needs)?;
                    }
                }
                None => {
                    needs.missing.insert((name.clone(), file.to_path_buf()));
                }
            }
        }
        Ok(())
    }

    /// Where the library is, and whether any loader looks there.
    fn find(&self, name: &str, own: &[PathBuf]) -> Option<(PathBuf, bool)> {
        if name.contains('/') {
            let path = PathBuf::from(name);
            return fits(&path).then_some((path, true));
        }
        let told = own.iter().map(|folder| (folder.clone(), true));
        let told = told.chain(self.told.iter().map(|folder| (folder.clone(), false)));
        let standard = STANDARD.iter().map(|folder| (PathBuf::from(folder), true));
        let configured = self.configured.iter().map(|folder| (folder.clone(), false));
        told.chain(standard).chain(configured).map(|(folder, known)| (folder.join(name), known)).find(|(p, _)| fits(p))
    }
}

/// Whether this file is a library for this kind of machine (a 32-bit one of the same name may come first).
fn fits(path: &Path) -> bool {
    use std::io::Read;
    let mut start = [0; 20];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    // 64 bits, and the machine number of x86-64.
    read.is_ok() && start.starts_with(b"\x7fELF\x02") && start[18..20] == [62, 0]
}

fn dynamic(bytes: &[u8], file: &Path) -> Option<Dynamic> {
    let header = FileHeader64::<Endianness>::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, bytes).ok()?;
    let mut found = Dynamic::default();
    for segment in segments.iter().filter(|segment| segment.p_type(endian) == PT_INTERP) {
        let name = segment.data(endian, bytes).ok()?.split(|&byte| byte == 0).next()?;
        found.interpreter = Some(PathBuf::from(std::str::from_utf8(name).ok()?));
    }
    let sections = header.sections(endian, bytes).ok()?;
    let Some((entries, strings)) = sections.dynamic(endian, bytes).ok()? else { return Some(found) };
    let strings = sections.strings(endian, bytes, strings).ok()?;
    let origin = file.canonicalize().ok().and_then(|file| file.parent().map(Path::to_path_buf)).unwrap_or_default();
    for entry in entries {
        let text = |tag| (entry.d_tag(endian) == tag).then(|| entry.string(endian, strings).ok()).flatten();
        let text = |tag| text(tag).and_then(|bytes| std::str::from_utf8(bytes).ok());
        if let Some(name) = text(DT_NEEDED) {
            found.needed.push(name.to_owned());
        }
        let paths = text(DT_RPATH).or_else(|| text(DT_RUNPATH));
        for folder in paths.into_iter().flat_map(|list| list.split(':')).filter(|folder| !folder.is_empty()) {
            let origin = origin.to_string_lossy();
            found.folders.push(folder.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin).into());
        }
    }
    Some(found)
}

/// Reads one of the files of `/etc/ld.so.conf`; `depth` ends circles of inclusion.
fn configuration(file: &Path, folders: &mut Vec<PathBuf>, depth: u32) {
    let Ok(text) = fs::read_to_string(file) else { return };
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        if let Some(pattern) = line.strip_prefix("include ").filter(|_| depth > 0) {
            // The one pattern in use is `FOLDER/*.conf`.
            let Some((folder, _)) = pattern.trim().rsplit_once("/*") else { continue };
            let mut files: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
            files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
            files.sort();
            files.iter().for_each(|file| configuration(file, folders, depth - 1));
        } else if line.starts_with('/') {
            folders.push(line.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Needs, Search};
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// The dynamic loader's own answer, for this very program.
    #[test]
    fn the_same_libraries_are_found_as_by_the_loader() {
        let program = std::env::current_exe().unwrap();
        let mut needs = Needs::default();
        Search::of_this_machine(None).add(&program, &mut needs).unwrap();
        assert_eq!(needs.missing, BTreeSet::new());
        let Ok(answer) = Command::new("ldd").arg(&program).env_remove("LD_LIBRARY_PATH").output() else {
            eprintln!("SKIP the_same_libraries_are_found_as_by_the_loader: ldd is not installed");
            return;
        };
        let answer = String::from_utf8(answer.stdout).unwrap();
        let theirs = answer.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
        let real = |path: &Path| path.canonicalize().unwrap();
        let theirs: BTreeSet<PathBuf> = theirs.map(|path| real(Path::new(path))).collect();
        assert_eq!(needs.files.iter().map(|path| real(path)).collect::<BTreeSet<_>>(), theirs);
        assert!(!theirs.is_empty());
    }

    #[test]
    fn what_is_nowhere_is_said_to_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let (source, library, program) =
            (folder.path().join("x.c"), folder.path().join("libabsent.so"), folder.path().join("x"));
        std::fs::write(&source, "int f(void); int main(void) { return f(); }\nint f(void) __attribute__((weak));")
            .unwrap();
        let compile = |args: &[&Path]| Command::new("cc").args(args).status();
        let soname = Command::new("cc")
            .args(["-shared", "-Wl,-soname,libabsent.so", "-xc", "/dev/null", "-o"])
            .arg(&library)
            .status();
        if !soname.is_ok_and(|status| status.success()) {
            eprintln!("SKIP what_is_nowhere_is_said_to_be_missing: no C compiler");
            return;
        }
        let link = [&source, Path::new("-Wl,--no-as-needed"), &library, Path::new("-o"), &program];
        assert!(compile(&link).unwrap().success());
        let mut needs = Needs::default();
        Search::of_this_machine(None).add(&program, &mut needs).unwrap();
        assert_eq!(needs.missing, BTreeSet::from([("libabsent.so".to_owned(), program.clone())]));
        let mut needs = Needs::default();
        Search::of_this_machine(folder.path().to_str()).add(&program, &mut needs).unwrap();
        assert_eq!(needs.missing, BTreeSet::new());
        assert!(needs.folders.contains(folder.path()));
    }

    #[test]
    fn text_needs_nothing() {
        let mut needs = Needs::default();
        Search::of_this_machine(None).add(Path::new("/proc/self/status"), &mut needs).unwrap();
        assert_eq!(needs, Needs::default());
    }
}
