//! The boundary to the control segments of running processes: the only place that attaches to them.

use std::fs;
use std::path::{Path, PathBuf};

use tiermem::control::Snapshot;
use tiermem_sys::signal::effective_user;

use crate::exit::Failure;
use crate::run::control_dir::{RUN_PREFIX, SHARED_MEMORY, user_dir};

/// Reads one segment's figures, consistently, as often as it is called.
pub type Reader = Box<dyn Fn() -> Result<Snapshot, Failure>>;

/// Opens the segment in a file.
pub type Attach = fn(&Path) -> Result<Reader, Failure>;

/// The segment of one process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentFile {
    /// The process that made it.
    pub pid: u32,
    /// The file.
    pub path: PathBuf,
}

/// The segments in `dir`, in the order of their process ids; files with other names are not segments.
pub fn in_dir(dir: &Path) -> Vec<SegmentFile> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<SegmentFile> = entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok().filter(|&pid| pid > 0)?;
            Some(SegmentFile { pid, path: entry.path() })
        })
        .collect();
    files.sort();
    files
}

/// The folders in which segments may be: this user's (root: every user's) and, below each, one for every
/// `tierctl run`.
pub fn dirs() -> Vec<PathBuf> {
    let tops = if effective_user() == 0 { sub_dirs(Path::new(SHARED_MEMORY), "tiermem-") } else { vec![own_dir()] };
    tops.into_iter().flat_map(|top| [vec![top.clone()], sub_dirs(&top, RUN_PREFIX)].concat()).collect()
}

fn own_dir() -> PathBuf {
    user_dir(effective_user())
}

fn sub_dirs(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let is_wanted = |e: &fs::DirEntry| {
        e.file_name().to_str().is_some_and(|n| n.starts_with(prefix)) && e.file_type().is_ok_and(|t| t.is_dir())
    };
    let mut dirs: Vec<PathBuf> = entries.filter(is_wanted).map(|e| e.path()).collect();
    dirs.sort();
    dirs
}

/// Whether a process runs. One that has ended but was not waited for yet (a zombie) does not.
pub fn is_running(pid: u32) -> bool {
    let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The state follows the program's name, which stands in brackets and may hold anything (proc_pid_stat(5)).
    let state = stat.iter().rposition(|&b| b == b')').and_then(|end| stat.get(end + 2));
    !matches!(state, None | Some(b'Z' | b'X' | b'x'))
}

#[cfg(test)]
mod tests {
    use super::{in_dir, is_running};
    use std::fs;

    #[test]
    fn only_process_ids_are_segments() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["12", "7", "0", "run-1", "12.tmp", "-3"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let pids: Vec<u32> = in_dir(dir.path()).into_iter().map(|f| f.pid).collect();
        assert_eq!(pids, [7, 12]);
        assert!(in_dir(&dir.path().join("none")).is_empty());
    }

    #[test]
    fn zombies_do_not_run() {
        assert!(is_running(std::process::id()));
        assert!(!is_running(u32::MAX));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let start = std::time::Instant::now();
        while is_running(child.id()) {
            assert!(start.elapsed().as_secs() < 60, "`true` never ended");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        child.wait().unwrap();
    }
}
