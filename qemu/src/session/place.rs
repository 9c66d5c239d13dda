//! Where shared guests are found.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tiermem_sys::process;

use super::Owner;
use crate::cache::replace;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Scratch;

const NOTE: &str = "session.json";
const SOCKET: &str = "session";

/// What a shared guest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Says what it was booted from; a client wants one with its own key.
    pub key: String,
    /// The topology.
    pub topology: String,
    /// Its keeper.
    pub keeper: Owner,
    /// Where its log is.
    pub log: PathBuf,
}

/// A shared guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is.
    pub note: Note,
    folder: PathBuf,
}

impl Place {
    /// Announces a guest whose keeper listens at [`Place::socket`] already.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn announce(folder: &Path, note: Note) -> Result<Self> {
        let text = serde_json::to_vec(&note).map_err(|e| Error::new(ErrorKind::Failed, e.to_string()))?;
        replace(&folder.join(NOTE), &text)?;
        Ok(Self { note, folder: folder.to_path_buf() })
    }

    /// Takes the announcement back: nobody finds the guest any more.
    pub(super) fn withdraw(&self) {
        let _ = fs::remove_file(self.folder.join(NOTE));
    }

    /// Where the keeper listens.
    pub fn socket(&self) -> PathBuf {
        socket(&self.folder)
    }

    /// Whether there is nothing left of it.
    pub fn is_gone(&self) -> bool {
        !self.folder.exists()
    }
}

pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join(SOCKET)
}

/// This user's shared guests. Those whose keepers were killed are no longer among them, and what they left is removed.
pub fn all() -> Vec<Place> {
    let mine = |folder: &PathBuf| fs::symlink_metadata(folder).is_ok_and(|data| data.uid() == process::user());
    let read = |folder: PathBuf| {
        let note = serde_json::from_slice(&fs::read(folder.join(NOTE)).ok()?).ok()?;
        Some(Place { note, folder })
    };
    let places = Scratch::all_living().into_iter().filter(mine).filter_map(read);
    places.filter(|place| place.note.keeper.lives()).collect()
}
