//! Finding the program to run, and telling beforehand whether the loader will honour `LD_PRELOAD` for it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{FileHeader64, PT_INTERP};
use object::read::ReadCache;
use object::read::elf::{FileHeader, ProgramHeader};
use tiermem_sys::process;

use crate::exit::{Exit, Failure};

/// Exit code for a program that is there but cannot be executed (POSIX, "Exit Status for Commands").
pub const CANNOT_EXECUTE: Exit = Exit::Command(126);
/// Exit code for a program that is not there.
pub const NOT_FOUND: Exit = Exit::Command(127);

/// Finds `name` as execvp(3) would: as a path if it has a slash, else in the folders of `search` (`PATH`).
///
/// # Errors
/// [`NOT_FOUND`], or [`CANNOT_EXECUTE`] for a file without the execute permission or a folder.
pub fn find(name: &OsStr, search: Option<&OsStr>) -> Result<PathBuf, Failure> {
    let shown = name.display();
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match fs::metadata(&path) {
            Ok(meta) if is_executable(&meta) => Ok(path),
            Ok(_) => Err(Failure::new(CANNOT_EXECUTE, format!("{shown}: not an executable file (chmod +x?)"))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(Failure::new(NOT_FOUND, format!("{shown}: no such file")))
            }
            Err(e) => Err(Failure::new(CANNOT_EXECUTE, format!("{shown}: {e}"))),
        };
    }
    let mut present = None;
    for folder in search.map(std::env::split_paths).into_iter().flatten() {
        let path = folder.join(name);
        match fs::metadata(&path) {
            Ok(meta) if is_executable(&meta) => return Ok(path),
            Ok(meta) if meta.is_file() => present = Some(path),
            _ => {}
        }
    }
    Err(match present {
        Some(path) => Failure::new(CANNOT_EXECUTE, format!("{}: not executable (chmod +x?)", path.display())),
        None => Failure::new(NOT_FOUND, format!("{shown}: command not found in PATH")),
    })
}

fn is_executable(meta: &fs::Metadata) -> bool {
    meta.is_file() && meta.permissions().mode() & 0o111 != 0
}

/// Says why the dynamic loader would ignore `LD_PRELOAD` for this program, if it would (ld.so(8), "Secure-execution
/// mode"). A script is judged by its interpreter. What cannot be read is left to the kernel to judge.
pub fn why_preload_is_ignored(program: &Path) -> Option<String> {
    let interpreter = script_interpreter(program);
    let binary = interpreter.as_deref().unwrap_or(program);
    let reason = raises_rights(binary).or_else(|| not_loadable(binary))?;
    Some(match interpreter {
        Some(path) => format!("its interpreter {} {reason}", path.display()),
        None => format!("it {reason}"),
    })
}

/// The interpreter named in a script's first line.
fn script_interpreter(program: &Path) -> Option<PathBuf> {
    const LINE_MAX: usize = 256;
    let mut line = Vec::new();
    let mut reader = BufReader::with_capacity(LINE_MAX, File::open(program).ok()?);
    let head = reader.fill_buf().ok()?;
    line.extend(head.split(|&b| b == b'\n').next()?);
    let rest = line.strip_prefix(b"#!")?.trim_ascii();
    let path = rest.split(u8::is_ascii_whitespace).next()?;
    (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)))
}

fn raises_rights(binary: &Path) -> Option<String> {
    const SET_USER: u32 = 0o4000;
    const SET_GROUP: u32 = 0o2000;
    let meta = fs::metadata(binary).ok()?;
    let mode = meta.permissions().mode();
    let user = mode & SET_USER != 0 && meta.uid() != process::user();
    let group = mode & SET_GROUP != 0 && meta.gid() != process::group();
    (user || group).then(|| "runs with other rights than yours (setuid or setgid)".to_owned())
}

fn not_loadable(binary: &Path) -> Option<String> {
    let cache = ReadCache::new(File::open(binary).ok()?);
    let Ok(header) = FileHeader64::<Endianness>::parse(&cache) else {
        return object::FileKind::parse(&cache)
            .is_ok_and(|kind| kind == object::FileKind::Elf32)
            .then(|| "is a 32-bit program and the preload a 64-bit one".to_owned());
    };
    let endian = header.endian().ok()?;
    let headers = header.program_headers(endian, &cache).ok()?;
    let dynamic = headers.iter().any(|h| h.p_type(endian) == PT_INTERP);
    (!dynamic).then(|| "is statically linked".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{CANNOT_EXECUTE, NOT_FOUND, find, why_preload_is_ignored};
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    #[test]
    fn programs_are_found_as_the_shell_finds_them() {
        let path = OsStr::new("/nonexistent:/bin:/usr/bin");
        assert!(find(OsStr::new("sh"), Some(path)).unwrap().ends_with("sh"));
        assert_eq!(find(OsStr::new("no-such-command"), Some(path)).unwrap_err().exit, NOT_FOUND);
        assert_eq!(find(OsStr::new("sh"), None).unwrap_err().exit, NOT_FOUND);
        assert_eq!(find(OsStr::new("/no/such"), None).unwrap_err().exit, NOT_FOUND);
        assert_eq!(find(OsStr::new("/etc/passwd"), None).unwrap_err().exit, CANNOT_EXECUTE);
        assert_eq!(find(OsStr::new("passwd"), Some(OsStr::new("/etc"))).unwrap_err().exit, CANNOT_EXECUTE);
        assert_eq!(find(OsStr::new("/etc/"), None).unwrap_err().exit, CANNOT_EXECUTE);
    }

    #[test]
    fn dynamic_programs_and_scripts_pass() {
        assert_eq!(why_preload_is_ignored(Path::new("/bin/sh")), None);
        assert_eq!(why_preload_is_ignored(&std::env::current_exe().unwrap()), None);
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        fs::write(&script, "#! /bin/sh -e\necho\n").unwrap();
        assert_eq!(why_preload_is_ignored(&script), None);
    }

    /// A minimal ELF header with no program headers is what a static program looks like to the check.
    fn elf(class: u8) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1]);
        bytes[16] = 2;
        bytes[20] = 1;
        bytes
    }

    #[test]
    fn static_32_bit_and_setuid_programs_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        fs::write(&path, elf(2)).unwrap();
        assert!(why_preload_is_ignored(&path).unwrap().contains("statically linked"));
        let script = dir.path().join("script");
        fs::write(&script, format!("#!{}\n", path.display())).unwrap();
        assert!(why_preload_is_ignored(&script).unwrap().contains("interpreter"));
        fs::write(&path, elf(1)).unwrap();
        assert!(why_preload_is_ignored(&path).unwrap().contains("32-bit"));

        fs::copy("/bin/true", &path).unwrap();
        assert_eq!(why_preload_is_ignored(&path), None);
        if std::os::unix::fs::chown(&path, Some(12345), None).is_err() {
            eprintln!("SKIP setuid part of static_32_bit_and_setuid_programs_are_named: needs the right to chown");
            return;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
        assert!(why_preload_is_ignored(&path).unwrap().contains("setuid"));
    }
}
