//! The backing files that tiers of kind dax-file make, and their removal.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use tiermem_tiers::{TierKind, TierSpec};

/// Suffix of the file beside a backing file in which its extents are recorded.
const EXTENTS_SUFFIX: &str = ".extents";

/// Files that did not exist when this was made, removed when it is dropped. What was there before is never touched.
#[derive(Debug, Default)]
pub struct TierFiles {
    ours: Vec<PathBuf>,
}

impl TierFiles {
    /// Notes which backing files of `specs` do not exist yet. Look before the program starts.
    pub fn expect(specs: &[TierSpec]) -> Self {
        let files = specs
            .iter()
            .filter(|s| s.kind == TierKind::DaxFile && s.location != "memfd")
            .map(|s| PathBuf::from(&s.location));
        let with_extents = files.flat_map(|file| [extents_file(&file), file]);
        Self { ours: with_extents.filter(|file| fs::symlink_metadata(file).is_err()).collect() }
    }
}

fn extents_file(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(EXTENTS_SUFFIX);
    PathBuf::from(name)
}

impl Drop for TierFiles {
    fn drop(&mut self) {
        for file in &self.ours {
            // Processes that outlive CMD keep what they mapped; a file that was never made is no error.
            drop(fs::remove_file(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TierFiles;
    use std::fs;
    use tiermem_tiers::TierSpec;

    fn spec(kind: &str, location: &std::path::Path) -> TierSpec {
        format!("slow={kind}:{}", location.display()).parse().unwrap()
    }

    #[test]
    fn only_files_that_were_not_there_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let [old, new, never] = ["old", "new", "never"].map(|n| dir.path().join(n));
        let extents = dir.path().join("new.extents");
        let old_extents = dir.path().join("old.extents");
        fs::write(&old, "keep").unwrap();
        let files = TierFiles::expect(&[spec("dax-file", &old), spec("dax-file", &new), spec("dax-file", &never)]);
        for file in [&new, &extents, &old_extents] {
            fs::write(file, "").unwrap();
        }
        drop(files);
        assert!(old.exists());
        assert!(!new.exists() && !extents.exists() && !old_extents.exists());
    }

    #[test]
    fn devices_and_folders_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nvme");
        let files = TierFiles::expect(&[spec("nvme", &path), spec("devdax", &path)]);
        fs::write(&path, "").unwrap();
        drop(files);
        assert!(path.exists());
    }
}
