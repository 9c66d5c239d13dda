//! What compilers and linkers are given, kept between runs: cargo builds everything anew where a flag changes, and a
//! path in a flag is part of it.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tiermem_sys::process;

use crate::exit::{Exit, Failure};

/// `$XDG_CACHE_HOME/tiermem/instrument`, else `~/.cache/tiermem/instrument`.
#[derive(Debug)]
pub struct Tools {
    path: PathBuf,
}

impl Tools {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// If there is no such place, or it cannot be written to.
    pub fn open() -> Result<Self, Failure> {
        let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let folder = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        let nowhere = || Failure::new(Exit::Failed, "neither XDG_CACHE_HOME nor HOME is set to an absolute path");
        Self::at(folder.ok_or_else(nowhere)?.join("tiermem/instrument"))
    }

    /// The one in this folder.
    ///
    /// # Errors
    /// If it cannot be written to.
    pub fn at(path: PathBuf) -> Result<Self, Failure> {
        fs::create_dir_all(path.join("bin")).map_err(|error| Failure::from_io(path.display(), &error))?;
        Ok(Self { path })
    }

    /// The folder of the compilers' wrappers.
    pub fn bin(&self) -> PathBuf {
        self.path.join("bin")
    }

    /// Makes a file with `make`, which gets the path to write to, unless it is there and `of` is what it was made of.
    ///
    /// # Errors
    /// As `make`, or if it cannot be written.
    pub fn keep(
        &self,
        name: &str,
        of: &str,
        make: impl FnOnce(&Path) -> Result<(), Failure>,
    ) -> Result<PathBuf, Failure> {
        let path = self.path.join(name);
        let source = path.with_extension("from");
        if path.is_file() && fs::read(&source).is_ok_and(|before| before == of.as_bytes()) {
            return Ok(path);
        }
        // Another tierctl may be reading it: it is there whole, or not at all.
        let new = path.with_extension(format!("{:x}", process::secret()));
        make(&new)?;
        let failure = |error| Failure::from_io(path.display(), &error);
        fs::rename(&new, &path).map_err(failure)?;
        fs::write(&new, of).and_then(|()| fs::rename(&new, &source)).map_err(failure)?;
        Ok(path)
    }

    /// Keeps a program of the shell's.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn script(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        self.keep(name, text, |path| {
            let written =
                fs::write(path, text).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)));
            written.map_err(|error| Failure::from_io(path.display(), &error))
        })
    }
}
