//! The folder in which the processes of one run publish their control segments.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tiermem::control::default_dir;
use tiermem_sys::process;

use crate::exit::{Exit, Failure};

/// Prefix of a run's folder; the process id of its `tierctl` follows.
pub const RUN_PREFIX: &str = "run-";

/// A private folder, removed when dropped if no segment is left in it.
#[derive(Debug)]
pub struct ControlDir {
    path: PathBuf,
}

impl ControlDir {
    /// Makes `/dev/shm/tiermem-UID/run-PID-XXXX` (PID is this process), both folders private to the user.
    ///
    /// # Errors
    /// If a folder cannot be made, or if somebody else made the user's one first.
    pub fn create() -> Result<Self, Failure> {
        Self::create_in(&default_dir())
    }

    fn create_in(parent: &Path) -> Result<Self, Failure> {
        let failure = |path: &Path, e: &io::Error| Failure::from_io(format!("cannot make {}", path.display()), e);
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        for attempt in 0..1000u64 {
            match private_dir(parent) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failure(parent, &e)),
                _ => {}
            }
            let unique = clock.wrapping_add(attempt);
            let path = parent.join(format!("{RUN_PREFIX}{}-{unique:016x}", std::process::id()));
            match check_private(parent).and_then(|()| private_dir(&path)) {
                Ok(()) => return Ok(Self { path }),
                // Missing: somebody has just removed the user's folder.
                Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
                Err(e) => return Err(failure(&path, &e)),
            }
        }
        Err(Failure::new(Exit::Failed, format!("no free name in {}", parent.display())))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Somebody else may have made the folder first, to read or to replace what we put in it.
fn check_private(dir: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(dir)?;
    if meta.is_dir() && meta.uid() == process::user() && meta.mode() & 0o077 == 0 {
        return Ok(());
    }
    let what = format!("{} is not a private folder of yours: remove it and try again", dir.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
}

fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

impl Drop for ControlDir {
    fn drop(&mut self) {
        // Fails if a process of the run outlives CMD: its segment stays readable, and `tierctl ps` removes it later.
        // The user's folder stays even if it is empty: another process may be about to put its segment there.
        drop(fs::remove_dir(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::ControlDir;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn folders_are_private_and_go_away() {
        let root = tempfile::tempdir().unwrap();
        let parent = root.path().join("tiermem-0");
        let first = ControlDir::create_in(&parent).unwrap();
        let second = ControlDir::create_in(&parent).unwrap();
        assert_ne!(first.path(), second.path());
        assert_eq!(fs::metadata(first.path()).unwrap().mode() & 0o777, 0o700);
        fs::write(second.path().join("77"), "").unwrap();
        let second_path = second.path().to_path_buf();
        drop((first, second));
        assert!(second_path.exists(), "a folder with a segment in it must stay");
        assert_eq!(fs::read_dir(&parent).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let parent = root.path().join("tiermem-0");
        fs::create_dir(&parent).unwrap();
        fs::set_permissions(&parent, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(ControlDir::create_in(&parent).unwrap_err().message.contains("not a private folder"));
        fs::remove_dir(&parent).unwrap();
        std::os::unix::fs::symlink("/tmp", &parent).unwrap();
        assert!(ControlDir::create_in(&parent).is_err());
    }
}
