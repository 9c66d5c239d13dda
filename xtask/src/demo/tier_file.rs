//! The file that stands for the slow tier.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Result;
use crate::step::answered;
use crate::workspace::Workspace;

/// Where shared memory lives on Linux.
const SHARED_MEMORY: &str = "/dev/shm";

/// The slow tier's file, removed when dropped.
#[derive(Debug)]
pub struct TierFile {
    path: PathBuf,
}

impl TierFile {
    /// A file in memory if there is room for `bytes`, else one in `folder`, which it says.
    pub fn choose(workspace: &Workspace, folder: &Path, name: &str, bytes: u64) -> Result<Self> {
        let answer = answered(workspace.command("df").args(["--output=avail", "--block-size=1", SHARED_MEMORY]));
        let room = answer.and_then(|answer| answer.lines().find_map(|line| line.trim().parse::<u64>().ok()));
        let roomy = room.is_some_and(|room| room >= bytes);
        if !roomy {
            println!("{SHARED_MEMORY} has no room for {bytes} bytes: the slow tier is a file on disk instead");
        }
        let tier = Self { path: if roomy { Path::new(SHARED_MEMORY) } else { folder }.join(name) };
        tier.remove();
        Ok(tier)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what is left there: the file, and the table of its extents beside it.
    fn remove(&self) {
        let mut table = self.path.clone().into_os_string();
        table.push(".extents");
        for path in [self.path.as_path(), Path::new(&table)] {
            // Usually there is nothing, and that is what is wanted.
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for TierFile {
    fn drop(&mut self) {
        self.remove();
    }
}
