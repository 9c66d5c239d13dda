//! The folder of one `tierctl instrument`: what programs are told, and what they report.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tiermem_emulator::instrumented::config::Config;
use tiermem_sys::process;

use crate::exit::{Exit, Failure};

/// A private folder, removed with all that is in it when dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    reports: PathBuf,
}

impl Folder {
    /// Makes it, in the folder for temporary files.
    ///
    /// # Errors
    /// If that cannot be written to.
    pub fn create() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("tiermem-instrument-{:016x}", process::secret()));
        let failure = |error| Failure::from_io(format!("cannot make {}", path.display()), &error);
        let path = std::path::absolute(&path).map_err(failure)?;
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(failure)?;
        let folder = Self { reports: path.join("reports"), path };
        fs::create_dir(&folder.reports).map_err(|error| Failure::from_io(folder.reports.display(), &error))?;
        Ok(folder)
    }

    /// Where processes write their reports.
    pub fn reports(&self) -> &Path {
        &self.reports
    }

    /// Writes what programs are told; its path.
    ///
    /// # Errors
    /// If that fails.
    pub fn write_config(&self, config: &Config) -> Result<PathBuf, Failure> {
        let path = self.path.join("config.json");
        let text = serde_json::to_vec(config).map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
        fs::write(&path, text).map_err(|error| Failure::from_io(path.display(), &error))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A process that outlives CMD finds nowhere to report to, and says so.
        drop(fs::remove_dir_all(&self.path));
    }
}
