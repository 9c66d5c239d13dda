//! The lab's folder: what has been fetched, and what has been made of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tiermem_sys::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::host::Qemu;
use crate::kernel::Kernel;

/// Names another folder than the usual one.
pub const VARIABLE: &str = "TIERMEM_LAB_CACHE";
/// The list of what is here.
const PARTS: &str = "parts.json";
/// How many files are kept of those that can be made again.
const IMAGES_KEPT: usize = 6;

/// The folder. Several processes may use it at once; who changes it holds its lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

/// Something that was fetched and unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `qemu`, `busybox` or `kernel-VERSION`; its folder has the same name.
    pub name: String,
    /// Version of the package that names it.
    pub version: String,
    /// The suite that it came from.
    pub suite: String,
    /// The packages that it was unpacked from.
    pub packages: Vec<String>,
    /// What was downloaded for it, bytes.
    pub download_bytes: u64,
    /// What it takes on the disk, bytes.
    pub disk_bytes: u64,
}

/// Keeps others from changing the cache until it is dropped.
#[derive(Debug)]
pub struct Locked {
    _file: File,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Parts {
    parts: Vec<Part>,
}

impl Cache {
    /// The folder that `TIERMEM_LAB_CACHE` names, else `tiermem/lab` in the user's folder for caches.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the environment says nothing of either.
    pub fn of_user() -> Result<Self> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let usual = || Some(set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?.join("tiermem/lab"));
        let root = set(VARIABLE).or_else(usual);
        let root = root.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("no folder for the lab: neither {VARIABLE} nor HOME is set"))
        })?;
        Ok(Self::at(&root))
    }

    /// The cache in this folder, which need not be there yet.
    pub fn at(root: &Path) -> Self {
        Self { root: std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf()) }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A place in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where the fetched busybox is, if it was.
    pub fn busybox(&self) -> PathBuf {
        self.path("busybox/usr/bin/busybox")
    }

    /// Whether all is here that guests are made of.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] with what lacks and what to do; those of [`Cache::parts`].
    pub fn is_ready(&self) -> Result<()> {
        Qemu::best(self)?;
        if self.kernels()?.is_empty() || !self.busybox().is_file() {
            let why = format!("{}: no kernel or no busybox: run `tierctl qemu fetch`", self.root.display());
            return Err(Error::new(ErrorKind::NotFound, why));
        }
        Ok(())
    }

    /// Makes the folder if need be and takes its lock, waiting for whoever has it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn lock(&self) -> Result<Locked> {
        fs::create_dir_all(&self.root).at(&self.root)?;
        let path = self.path("lock");
        let file = File::create(&path).at(&path)?;
        file.lock().at(&path)?;
        Ok(Locked { _file: file })
    }

    /// What is here.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for a list that cannot be read; then the folder should be removed.
    pub fn parts(&self) -> Result<Vec<Part>> {
        let path = self.path(PARTS);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            bytes => bytes.at(&path)?,
        };
        let parts: Parts = serde_json::from_slice(&bytes).map_err(|e| {
            let advice = format!("remove {} and fetch again", self.root.display());
            Error::new(ErrorKind::BadInput, format!("{}: {e}; {advice}", path.display()))
        })?;
        Ok(parts.parts)
    }

    /// Enters a part in the list, in place of a former one of its name.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn enter(&self, part: Part) -> Result<()> {
        let mut parts = self.parts()?;
        parts.retain(|other| other.name != part.name);
        parts.push(part);
        self.write(parts)
    }

    /// Kernels in whose place a newer one of the same suite is here.
    ///
    /// # Errors
    /// As [`Cache::parts`].
    pub fn superseded(&self) -> Result<Vec<Part>> {
        let parts = self.parts()?;
        let kernels: Vec<&Part> = parts.iter().filter(|part| part.name.starts_with("kernel-")).collect();
        let is_newer = |a: &Part, b: &Part| a.suite == b.suite && numbers(&a.name) > numbers(&b.name);
        let old = kernels.iter().filter(|part| kernels.iter().any(|other| is_newer(other, part)));
        Ok(old.map(|part| (*part).clone()).collect())
    }

    /// Removes the superseded kernels; which ones those were.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_superseded(&self) -> Result<Vec<Part>> {
        let _lock = self.lock()?;
        let old = self.superseded()?;
        let mut parts = self.parts()?;
        parts.retain(|part| !old.contains(part));
        // First from the list: what is half removed nobody boots.
        self.write(parts)?;
        for part in &old {
            let folder = self.path(&part.name);
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).at(&folder),
                _ => {}
            }
        }
        Ok(old)
    }

    fn write(&self, mut parts: Vec<Part>) -> Result<()> {
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        let text =
            serde_json::to_vec_pretty(&Parts { parts }).map_err(|e| Error::new(ErrorKind::Failed, e.to_string()))?;
        replace(&self.path(PARTS), &text)
    }

    /// Every kernel that was fetched, newest first.
    ///
    /// # Errors
    /// As [`Cache::parts`].
    pub fn kernels(&self) -> Result<Vec<Kernel>> {
        let parts = self.parts()?;
        let found = parts.iter().filter(|part| part.name.starts_with("kernel-"));
        let mut kernels: Vec<Kernel> = found.filter_map(|part| Kernel::unpacked(&self.path(&part.name)).ok()).collect();
        kernels.sort_by_key(|kernel| std::cmp::Reverse(numbers(&kernel.version)));
        Ok(kernels)
    }

    /// Makes the file `name` from `make` unless it is there already.
    ///
    /// # Errors
    /// Those of `make` and of the file system.
    pub fn made(&self, name: &str, make: impl FnOnce() -> Result<Vec<u8>>) -> Result<PathBuf> {
        let path = self.path(name);
        if !path.is_file() {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).at(folder)?;
            }
            replace(&path, &make()?)?;
        }
        Ok(path)
    }

    /// Notes that a file of `folder` is used, and removes those that were not used for longest. A cache that cannot be
    /// written to is one all the same.
    pub fn touch(&self, folder: &str, path: PathBuf) -> PathBuf {
        let file = File::options().append(true).open(&path);
        let _ = file.and_then(|file| file.set_modified(std::time::SystemTime::now()));
        self.prune(folder, IMAGES_KEPT);
        path
    }

    /// Removes the oldest entries of a folder until `keep` are left, except those that somebody has locked.
    pub fn prune(&self, folder: &str, keep: usize) {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let dated = entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())));
        let mut dated: Vec<_> = dated.collect();
        dated.sort_by_key(|&(date, _)| std::cmp::Reverse(date));
        for (_, path) in dated.into_iter().skip(keep) {
            if File::open(&path).is_ok_and(|entry| entry.try_lock().is_err()) {
                continue;
            }
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

/// Writes a file so that others see the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    // Guests that start together make the same file at the same time.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    // Relaxed: only that no two are the same.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let unfinished = path.with_added_extension(format!("{}-{number}.new", std::process::id()));
    let written = fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written.at(path)
}

/// The numbers in a version, for comparing.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Cache, Part, numbers};

    fn part(name: &str, version: &str) -> Part {
        let (name, version) = (name.to_owned(), version.to_owned());
        Part { name, version, suite: "x".into(), packages: Vec::new(), download_bytes: 1, disk_bytes: 2 }
    }

    #[test]
    fn parts_are_kept_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(&folder.path().join("a/b"));
        assert_eq!(cache.parts().unwrap(), []);
        let _lock = cache.lock().unwrap();
        cache.enter(part("qemu", "11.1")).unwrap();
        cache.enter(part("busybox", "1")).unwrap();
        cache.enter(part("qemu", "11.2")).unwrap();
        assert_eq!(cache.parts().unwrap(), [part("busybox", "1"), part("qemu", "11.2")]);
        std::fs::write(cache.path("parts.json"), "broken").unwrap();
        assert!(cache.parts().unwrap_err().to_string().contains("fetch again"));
    }

    /// The newest of each suite stays: the release's own kernel is old and wanted.
    #[test]
    fn superseded_kernels_go_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let _ = cache.lock().unwrap();
        let kernel =
            |version: &str, suite: &str| Part { suite: suite.into(), ..part(&format!("kernel-{version}"), "1") };
        for (version, suite) in [("7.3.4+x", "new"), ("7.3.10+x", "new"), ("7.2.9+x", "new"), ("6.12.1", "old")] {
            cache.enter(kernel(version, suite)).unwrap();
            std::fs::create_dir(cache.path(&format!("kernel-{version}"))).unwrap();
        }
        cache.enter(part("qemu", "11.1")).unwrap();
        let old = [kernel("7.2.9+x", "new"), kernel("7.3.4+x", "new")];
        assert_eq!(cache.superseded().unwrap(), old);
        assert_eq!(cache.remove_superseded().unwrap(), old);
        let left = [kernel("6.12.1", "old"), kernel("7.3.10+x", "new"), part("qemu", "11.1")];
        assert_eq!(cache.parts().unwrap(), left);
        assert!(!cache.path("kernel-7.3.4+x").exists() && cache.path("kernel-7.3.10+x").exists());
        assert_eq!(cache.remove_superseded().unwrap(), []);
    }

    #[test]
    fn files_are_made_once_and_old_ones_pruned() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let made = || cache.made("images/x", || Ok(b"1".to_vec())).unwrap();
        assert_eq!(std::fs::read(made()).unwrap(), b"1");
        assert_eq!(cache.made("images/x", || panic!("made twice")).unwrap(), made());
        cache.made("images/y", || Ok(Vec::new())).unwrap();
        cache.prune("images", 1);
        assert_eq!(std::fs::read_dir(cache.path("images")).unwrap().count(), 1);
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(numbers("7.3.4+deb13") > numbers("6.12.117+deb13"));
        assert!(numbers("6.12.117") > numbers("6.12.9"));
    }
}
