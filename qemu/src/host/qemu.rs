//! The QEMU program: the system's own if it is new enough, else the one in the cache.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::program::find;

const PROGRAM: &str = "qemu-system-x86_64";
/// The first version that maps CXL memory directly; older ones emulate each access, a hundred times slower.
pub const VERSION_MIN: u32 = 11;

/// A QEMU that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    place: Place,
    /// Its version, as it says.
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A program that starts as it is.
    Program(PathBuf),
    /// Unpacked packages of another release: started through their own dynamic loader.
    Unpacked(PathBuf),
}

impl Qemu {
    /// The system's, if it has one that is new enough.
    pub fn of_system() -> Option<Self> {
        let program = find(PROGRAM.as_ref(), std::env::var_os("PATH").as_deref())?;
        Self::checked(Place::Program(program)).ok()
    }

    /// The one that the user names.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it does not start; [`ErrorKind::Unsupported`] if it is too old.
    pub fn given(program: &Path) -> Result<Self> {
        Self::checked(Place::Program(program.to_path_buf()))
    }

    /// The system's, else the cache's.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is neither.
    pub fn best(cache: &Cache) -> Result<Self> {
        if let Some(found) = Self::of_system() {
            return Ok(found);
        }
        let root = cache.path("qemu");
        if !root.is_dir() {
            let why = "there is no QEMU 11 or newer: run `tierctl qemu fetch`, or name one with --qemu PROGRAM";
            return Err(Error::new(ErrorKind::NotFound, why));
        }
        let part = cache.parts()?.into_iter().find(|part| part.name == "qemu");
        Ok(Self { place: Place::Unpacked(root), version: part.map(|part| part.version).unwrap_or_default() })
    }

    fn checked(place: Place) -> Result<Self> {
        let mut found = Self { place, version: String::new() };
        let mut command = found.command();
        let shown = command.get_program().to_string_lossy().into_owned();
        let output = command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
        let output = output.map_err(|e| Error::from_io(&shown, &e))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = version(&said)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{shown}: this does not say that it is QEMU")))?;
        let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
        if major < VERSION_MIN {
            let why = format!("{shown}: QEMU {version} is too old, {VERSION_MIN} is needed");
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        version.clone_into(&mut found.version);
        Ok(found)
    }

    /// A command that starts it, without arguments of the machine yet.
    pub fn command(&self) -> Command {
        match &self.place {
            Place::Program(program) => Command::new(program),
            Place::Unpacked(root) => {
                let mut command = Command::new(root.join("usr/lib64/ld-linux-x86-64.so.2"));
                let libraries = root.join("usr/lib/x86_64-linux-gnu");
                command.arg("--library-path").arg(&libraries).arg(root.join("usr/bin").join(PROGRAM));
                for data in ["usr/share/qemu", "usr/share/seabios"] {
                    command.arg("-L").arg(root.join(data));
                }
                // Loadable parts of QEMU (accelerators) are looked for beside the program otherwise.
                command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
                command
            }
        }
    }
}

/// `QEMU emulator version 11.1.3 (Debian …)`
fn version(said: &str) -> Option<&str> {
    said.lines().next()?.strip_prefix("QEMU emulator version ")?.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::{Qemu, version};
    use crate::ErrorKind;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn old_ones_and_others_are_refused() {
        assert_eq!(version("QEMU emulator version 11.1.3 (Debian 1)\nCopyright"), Some("11.1.3"));
        let folder = tempfile::tempdir().unwrap();
        let fake = |says: &str| {
            let path = folder.path().join("qemu");
            std::fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            Qemu::given(&path)
        };
        assert_eq!(fake("QEMU emulator version 10.0.2").unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(fake("hello").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(fake("QEMU emulator version 12.0.0").unwrap().version, "12.0.0");
        assert_eq!(Qemu::given("/no/such/qemu".as_ref()).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
