//! A folder for what lives only while guests run: sockets, memory that several guests share, images.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tiermem_sys::fs::space;

use crate::error::{Context, Error, ErrorKind, Result};

const PREFIX: &str = "tiermem-lab-";
const LOCK: &str = "lock";
/// Shared memory goes to memory if it can, and then no disk is written.
const MEMORY_FOLDER: &str = "/dev/shm";
/// Names of sockets have this limit (unix(7)); the longest one here has so many bytes behind the folder.
const SOCKET_PATH_MAX: usize = 107 - 24;

/// The folder. Dropping it removes it; if its process is killed, the next one that makes such a folder removes it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes one with room for `bytes`, after removing those whose makers are gone.
    ///
    /// # Errors
    /// [`ErrorKind::NoRoom`] if neither shared memory nor the folder for temporary files has so much room.
    pub fn make(bytes: u64) -> Result<Self> {
        let places = places();
        places.iter().for_each(|place| sweep(place));
        let room = |place: &&PathBuf| space(place).is_ok_and(|space| space.available >= bytes);
        let fits = |place: &&PathBuf| place.as_os_str().len() + PREFIX.len() + 32 < SOCKET_PATH_MAX;
        let place = places.iter().filter(room).find(fits).ok_or_else(|| {
            let need = bytes.div_ceil(1 << 20);
            let shown = places.each_ref().map(|place| place.display().to_string()).join(" nor ");
            Error::new(ErrorKind::NoRoom, format!("{need} MiB are needed, and neither {shown} has them free"))
        })?;
        Self::in_folder(place)
    }

    fn in_folder(place: &Path) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
        for attempt in 0..100_u32 {
            let path = place.join(format!("{PREFIX}{}-{:x}", std::process::id(), now.wrapping_add(attempt)));
            let mut builder = fs::DirBuilder::new();
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            match builder.create(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => {
                    made.at(&path)?;
                    // Locked before it has its name: whoever finds it free may remove the folder.
                    let unnamed = path.join("lock.new");
                    let lock = File::create(&unnamed).at(&path)?;
                    lock.lock().at(&path)?;
                    fs::rename(&unnamed, path.join(LOCK)).at(&path)?;
                    return Ok(Self { path, _lock: lock });
                }
            }
        }
        Err(Error::new(ErrorKind::Failed, format!("{}: no free name for a folder", place.display())))
    }

    /// All that are in use, whoever's they are.
    pub fn all_living() -> Vec<PathBuf> {
        let places = places();
        places.iter().for_each(|place| sweep(place));
        places.iter().flat_map(|place| folders(place)).collect()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Where such folders may be, the best first.
fn places() -> [PathBuf; 2] {
    [PathBuf::from(MEMORY_FOLDER), std::env::temp_dir()]
}

fn folders(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)).map(|entry| entry.path()).collect()
}

/// Removes folders whose makers are gone: the kernel gave their locks back.
fn sweep(place: &Path) {
    for path in folders(place) {
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LOCK, PREFIX, Scratch, sweep};
    use crate::ErrorKind;

    #[test]
    fn it_is_gone_afterwards_and_leftovers_of_the_dead_are_removed() {
        let place = tempfile::tempdir().unwrap();
        let scratch = Scratch::in_folder(place.path()).unwrap();
        let other = Scratch::in_folder(place.path()).unwrap();
        assert_ne!(scratch.path(), other.path());
        let dead = place.path().join(format!("{PREFIX}dead"));
        let foreign = place.path().join("somebody-elses");
        for folder in [&dead, &foreign] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join(LOCK), "").unwrap();
        }
        sweep(place.path());
        assert!(scratch.path().exists() && other.path().exists() && foreign.exists() && !dead.exists());
        let path = scratch.path().to_path_buf();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn too_much_is_refused_before_anything_is_made() {
        assert_eq!(Scratch::make(u64::MAX).unwrap_err().kind(), ErrorKind::NoRoom);
    }
}
