//! Finding `libtiermem.so` and telling it what to do through the environment.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

/// File name of the preload.
const LIBRARY: &str = "libtiermem.so";
/// Names another preload.
pub const PRELOAD_VARIABLE: &str = "TIERMEM_PRELOAD";
/// Where the preload looks for its policy file.
pub const POLICY_VARIABLE: &str = "TIERMEM_POLICY";
/// The folder in which every process makes its control segment.
pub const CONTROL_DIR_VARIABLE: &str = "TIERMEM_CONTROL_DIR";
/// SPECs of further tiers, separated by semicolons.
pub const TIERS_VARIABLE: &str = "TIERMEM_TIERS";
/// `TIER=SIZE` limits, separated by semicolons.
pub const LIMITS_VARIABLE: &str = "TIERMEM_LIMITS";

/// What goes wrong on purpose: a fault plan's script.
pub const FAULTS_VARIABLE: &str = "TIERMEM_FAULTS";
/// Where the preload records what is allocated.
pub const TRACE_VARIABLE: &str = "TIERMEM_TRACE";
/// By which source the preload records accesses.
pub const TRACE_ACCESSES_VARIABLE: &str = tiermem::recorder::accesses::ACCESSES_VARIABLE;
/// How many frames of each call stack the preload records.
pub const TRACE_FRAMES_VARIABLE: &str = tiermem::recorder::FRAMES_VARIABLE;
/// Set by the first program that records there.
pub const TRACE_TAKEN_VARIABLE: &str = "TIERMEM_TRACE_TAKEN";

/// Finds the preload: `asked` (from `--preload`), else `$TIERMEM_PRELOAD`, else beside this executable, then in
/// `../lib/tiermem/` and `../lib/` seen from there.
///
/// # Errors
/// With code 125, naming every place that was tried.
pub fn find(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    let named = asked.map(Path::to_path_buf).or_else(|| env::var_os(PRELOAD_VARIABLE).map(PathBuf::from));
    if let Some(path) = named {
        let path = std::path::absolute(&path).unwrap_or(path);
        return usable(path.clone()).ok_or_else(|| {
            missing(format!("the preload {} does not exist, or its path has a blank or colon in it", path.display()))
        });
    }
    let executable = env::current_exe().map_err(|e| missing(format!("cannot tell where tierctl is installed: {e}")))?;
    let folder = executable.parent().unwrap_or(Path::new("/"));
    find_beside(folder)
}

fn find_beside(folder: &Path) -> Result<PathBuf, Failure> {
    let tried = ["", "../lib/tiermem", "../lib"].map(|place| folder.join(place).join(LIBRARY));
    let found = tried.iter().find_map(|path| usable(path.clone()));
    found.ok_or_else(|| {
        let places: Vec<String> = tried.iter().map(|p| format!("  {}", p.display())).collect();
        missing(format!("{LIBRARY} is missing. These places were tried:\n{}", places.join("\n")))
    })
}

fn missing(what: String) -> Failure {
    let advice = format!("Install it beside tierctl, or name it with --preload or ${PRELOAD_VARIABLE}.");
    Failure::new(Exit::Command(125), format!("{what}\n{advice}"))
}

/// The library's canonical path, if it is a file; the loader splits `LD_PRELOAD` at blanks and colons, so a path with
/// one cannot be used.
fn usable(path: PathBuf) -> Option<PathBuf> {
    let path = path.canonicalize().ok().filter(|p| p.is_file())?;
    let splits = path.as_os_str().as_encoded_bytes().iter().any(|b| matches!(b, b' ' | b':'));
    (!splits).then_some(path)
}

/// The value of `LD_PRELOAD`: ours first, then what was there.
pub fn preload_list(library: &Path, existing: Option<&OsStr>) -> OsString {
    let mut list = library.as_os_str().to_owned();
    if let Some(existing) = existing.filter(|e| !e.is_empty()) {
        list.push(":");
        list.push(existing);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::{LIBRARY, find, find_beside, preload_list};
    use crate::exit::Exit;
    use std::ffi::OsStr;
    use std::fs;
    use std::path::Path;

    #[test]
    fn the_nearest_library_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        let nested = root.path().join("lib/tiermem");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(&nested).unwrap();
        let failure = find_beside(&bin).unwrap_err();
        assert_eq!(failure.exit, Exit::Command(125));
        assert!(failure.message.contains("../lib/tiermem") && failure.message.contains("--preload"));
        for place in ["lib", "lib/tiermem", "bin"] {
            let library = root.path().join(place).join(LIBRARY);
            fs::write(&library, "").unwrap();
            assert_eq!(find_beside(&bin).unwrap(), library.canonicalize().unwrap());
        }
    }

    #[test]
    fn a_named_library_must_exist_and_have_a_usable_path() {
        let root = tempfile::tempdir().unwrap();
        assert!(find(Some(&root.path().join("none.so"))).unwrap_err().message.contains("none.so"));
        let blank = root.path().join("with blank.so");
        fs::write(&blank, "").unwrap();
        assert!(find(Some(&blank)).is_err());
    }

    #[test]
    fn an_existing_preload_is_kept_after_ours() {
        let ours = Path::new("/x/libtiermem.so");
        assert_eq!(preload_list(ours, None), "/x/libtiermem.so");
        assert_eq!(preload_list(ours, Some(OsStr::new(""))), "/x/libtiermem.so");
        assert_eq!(preload_list(ours, Some(OsStr::new("a.so b.so"))), "/x/libtiermem.so:a.so b.so");
    }
}
