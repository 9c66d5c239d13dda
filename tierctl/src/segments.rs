//! The boundary to the control segments of running processes: the only place that attaches to them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tiermem::control::{AttachError, Attachment, Snapshot, control_dirs};
use tiermem_sys::process;

use crate::exit::{Exit, Failure};
use crate::run::control_dir::RUN_PREFIX;

/// Reads one segment's figures, consistently, as often as it is called.
pub type Reader = Box<dyn Fn() -> Result<Snapshot, Failure>>;

/// Opens the segment in a file.
pub type Attach = fn(&Path) -> Result<Reader, Failure>;

/// Attaches to the segment in a file.
///
/// # Errors
/// [`Exit::NoRights`] for another user's segment; [`Exit::Failed`] if it is not ready or of another version.
pub fn attach(path: &Path) -> Result<Reader, Failure> {
    let attachment = open(path)?;
    let path = path.to_path_buf();
    Ok(Box::new(move || attachment.read().map_err(|e| Failure::new(Exit::Failed, format!("{}: {e}", path.display())))))
}

fn open(path: &Path) -> Result<Attachment, Failure> {
    Attachment::open(path).map_err(|e| {
        let exit = match e {
            AttachError::NotFound => Exit::NotFound,
            AttachError::NoRights => Exit::NoRights,
            _ => Exit::Failed,
        };
        Failure::new(exit, format!("{}: {e}", path.display()))
    })
}

/// The present figures in a segment.
///
/// # Errors
/// [`Exit::Failed`] if they change too fast to be read.
pub fn read(attachment: &Attachment) -> Result<Snapshot, Failure> {
    attachment.read().map_err(|e| Failure::new(Exit::Failed, e.to_string()))
}

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

/// A folder whose `tierctl run` still runs is looked after by it: it takes the last figures of processes that end.
fn is_looked_after(dir: &Path) -> bool {
    run_owner(dir).is_some_and(is_running)
}

/// The segments of running processes, in the order of their process ids. Files of processes that are gone are removed
/// on the way, and folders of runs that are gone with them.
pub fn running() -> Vec<SegmentFile> {
    let mut found: Vec<SegmentFile> = control_dirs().iter().flat_map(|dir| running_in(dir)).collect();
    found.sort();
    found
}

fn running_in(dir: &Path) -> Vec<SegmentFile> {
    let (running, gone): (Vec<_>, Vec<_>) = in_dir(dir).into_iter().partition(|file| is_running(file.pid));
    if !is_looked_after(dir) {
        for file in gone {
            // Somebody else may remove it at the same time.
            drop(fs::remove_file(file.path));
        }
        if run_owner(dir).is_some() {
            // Only an empty folder can be removed.
            drop(fs::remove_dir(dir));
        }
    }
    running
}

/// The process id in a run's folder name.
fn run_owner(dir: &Path) -> Option<u32> {
    dir.file_name()?.to_str()?.strip_prefix(RUN_PREFIX)?.split('-').next()?.parse().ok()
}

/// Attaches to the segment of a process.
///
/// # Errors
/// [`Exit::NotFound`] if there is no such process or it has no segment; [`Exit::NoRights`] if it is another user's.
pub fn of_pid(pid: u32) -> Result<Reader, Failure> {
    attach(&file_of_pid(pid)?)
}

/// As [`of_pid`], for those that tell the process something.
///
/// # Errors
/// As [`of_pid`].
pub fn attachment_of_pid(pid: u32) -> Result<Attachment, Failure> {
    open(&file_of_pid(pid)?)
}

fn file_of_pid(pid: u32) -> Result<PathBuf, Failure> {
    let Ok(meta) = fs::metadata(format!("/proc/{pid}")) else {
        return Err(Failure::new(
            Exit::NotFound,
            format!("there is no process {pid}; `tierctl ps` lists those to watch"),
        ));
    };
    let me = process::user();
    if me != 0 && meta.uid() != me {
        let what = format!("process {pid} belongs to user {}: only that user or root may attach", meta.uid());
        return Err(Failure::new(Exit::NoRights, what));
    }
    let Some(file) = running().into_iter().find(|file| file.pid == pid) else {
        let what = format!("process {pid} has no control segment: start it with `tierctl run` to watch it");
        return Err(Failure::new(Exit::NotFound, what));
    };
    Ok(file.path)
}

/// The present figures of a process.
///
/// # Errors
/// As [`of_pid`].
pub fn of_process(pid: u32) -> Result<Snapshot, Failure> {
    of_pid(pid)?()
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
    use super::{in_dir, is_running, of_pid, run_owner, running_in};
    use crate::exit::Exit;
    use std::fs;
    use std::path::Path;

    #[test]
    fn stale_files_go_unless_a_run_looks_after_them() {
        let root = tempfile::tempdir().unwrap();
        let me = std::process::id();
        let dead = u32::MAX - 1;
        let make = |name: String| {
            let dir = root.path().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join(dead.to_string()), "").unwrap();
            dir
        };
        let ours = make(format!("run-{me}-1"));
        let gone = make(format!("run-{dead}-2"));
        let top = make("tiermem-0".into());
        fs::write(top.join(me.to_string()), "").unwrap();
        assert!(running_in(&ours).is_empty() && running_in(&gone).is_empty());
        assert!(ours.join(dead.to_string()).exists(), "tierctl run has not read it yet");
        assert!(!gone.exists());
        let left: Vec<u32> = running_in(&top).into_iter().map(|f| f.pid).collect();
        assert_eq!(left, [me]);
        assert!(!top.join(dead.to_string()).exists() && top.exists());
    }

    #[test]
    fn owners_are_read_from_folder_names() {
        assert_eq!(run_owner(Path::new("/dev/shm/tiermem-0/run-77-ab")), Some(77));
        assert_eq!(run_owner(Path::new("/dev/shm/tiermem-0")), None);
        assert_eq!(run_owner(Path::new("run-x")), None);
    }

    #[test]
    fn processes_without_a_segment_are_not_found() {
        assert_eq!(of_pid(u32::MAX).err().map(|f| f.exit), Some(Exit::NotFound));
        let plain = of_pid(std::process::id()).err().unwrap();
        assert!(plain.exit == Exit::NotFound && plain.message.contains("tierctl run"));
    }

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
