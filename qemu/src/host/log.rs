//! What is kept of a guest's life: a folder with its console, its kernel's messages, sysfs and QEMU's events.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cache::Cache;
use crate::error::{Context, Result};

/// How many folders are kept in the cache.
const KEPT: usize = 20;
const FOLDER: &str = "logs";

/// The folder. While this lives, nobody removes the folder because it is old.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    _in_use: File,
}

impl Log {
    /// A new folder in the cache, named after the topology; the oldest ones go.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn in_cache(cache: &Cache, topology: &str) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let log = Self::at(&cache.path(FOLDER).join(format!("{topology}-{now}-{}", std::process::id())))?;
        cache.prune(FOLDER, KEPT);
        Ok(log)
    }

    /// This folder, made if need be.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn at(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).at(path)?;
        let folder = File::open(path).at(path)?;
        // Shared: several may log to one folder. Without locks on this file system the folder is merely not protected.
        let _ = folder.lock_shared();
        Ok(Self { path: path.to_path_buf(), _in_use: folder })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::{FOLDER, KEPT, Log};
    use crate::cache::Cache;

    #[test]
    fn old_logs_go_but_none_that_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let used = Log::in_cache(&cache, "used").unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        std::fs::File::open(used.path()).unwrap().set_modified(long_ago).unwrap();
        for number in 0..KEPT + 5 {
            drop(Log::in_cache(&cache, &number.to_string()).unwrap());
        }
        assert_eq!(std::fs::read_dir(cache.path(FOLDER)).unwrap().count(), KEPT + 1);
        assert!(used.path().exists());
    }
}
