//! Files on their way into a guest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::slim::{Keep, slim};
use crate::archive;
use crate::error::{Context, Result};

/// What identifies one state of a file in the guest, so that it need not be sent twice.
pub type Stamp = (PathBuf, u64, Option<SystemTime>);

/// A list of files with their places in the guest. Their contents are read when they are written into an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packing {
    /// Where each lies in the guest, and here.
    pub files: BTreeMap<PathBuf, PathBuf>,
    /// Those of them that go without their debug data, by their places in the guest.
    pub slim: BTreeSet<PathBuf>,
    /// Symbolic links and where they point.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// Folders that must be there even if they are empty.
    pub folders: BTreeSet<PathBuf>,
}

impl Packing {
    /// Writes everything that `known` does not hold yet as an archive, and adds it to `known`.
    ///
    /// # Errors
    /// Those of the file system and of the writer.
    pub fn write<W: Write>(&self, to: W, known: &mut BTreeSet<Stamp>) -> Result<W> {
        let mut archive = archive::Writer::new(to);
        let failed = "cannot pack the guest's files";
        for folder in &self.folders {
            archive.folder(&real_folder(folder)).context(failed)?;
        }
        for (inside, here) in &self.files {
            let data = fs::metadata(here).at(here)?;
            let stamp = (inside.clone(), data.len(), data.modified().ok());
            if known.insert(stamp) {
                let mut contents = fs::read(here).at(here)?;
                if self.slim.contains(inside) {
                    contents = slim(contents, Keep::Symbols);
                }
                archive.file(&real_place(inside), data.permissions().mode(), &contents).context(failed)?;
            }
        }
        for (inside, target) in &self.links {
            archive.link(&real_place(inside), &target.to_string_lossy()).context(failed)?;
        }
        archive.finish().context(failed)
    }

    /// How many bytes go into the guest, at most.
    pub fn size(&self) -> u64 {
        self.files.values().filter_map(|here| fs::metadata(here).ok()).map(|data| data.len()).sum()
    }
}

/// The place of a file with the links among the folders above it followed, as in the guest, whose `/bin`, `/sbin`, `/lib`
/// and `/lib64` are links into `/usr` like those of today's distributions: the kernel does not follow links when it unpacks.
fn real_place(inside: &Path) -> String {
    match (inside.parent(), inside.file_name()) {
        (Some(folder), Some(name)) => format!("{}/{}", real_folder(folder), name.to_string_lossy()),
        _ => inside.to_string_lossy().into_owned(),
    }
}

fn real_folder(folder: &Path) -> String {
    let mut parts: Vec<_> = Vec::new();
    for part in folder.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_string_lossy()),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    if parts.first().is_some_and(|first| ["bin", "sbin", "lib", "lib64"].contains(&first.as_ref())) {
        parts.insert(0, "usr".into());
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::real_place;
    use std::path::Path;

    #[test]
    fn places_are_those_of_a_merged_usr() {
        assert_eq!(real_place(Path::new("/lib64/ld-linux-x86-64.so.2")), "usr/lib64/ld-linux-x86-64.so.2");
        assert_eq!(real_place(Path::new("/usr/lib/x.so")), "usr/lib/x.so");
        assert_eq!(real_place(Path::new("/a/../b/c")), "b/c");
    }
}
