//! The guest's kernel: a `vmlinux` that QEMU boots at once, and the modules that the lab loads.

mod modules;
mod vmlinux;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, ErrorKind, Result};

pub use modules::{Module, closure};
pub use vmlinux::extract;

/// A kernel with its modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// As `uname -r` says in the guest.
    pub version: String,
    /// `vmlinuz`, or an uncompressed `vmlinux`.
    pub image: PathBuf,
    /// `lib/modules/VERSION`.
    pub modules: PathBuf,
}

impl Kernel {
    /// The kernel in an unpacked distribution package: the image lies beside the modules or in `boot`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such thing below `root`.
    pub fn unpacked(root: &Path) -> Result<Self> {
        for folder in ["usr/lib/modules", "lib/modules"] {
            for modules in folders(&root.join(folder)) {
                let Some(version) = modules.file_name().map(|name| name.to_string_lossy().into_owned()) else {
                    continue;
                };
                let beside = modules.join("vmlinuz");
                let boot = root.join("boot").join(format!("vmlinuz-{version}"));
                if let Some(image) = [beside, boot].into_iter().find(|image| image.is_file()) {
                    return Ok(Self { version, image, modules });
                }
            }
        }
        Err(Error::new(ErrorKind::NotFound, format!("{}: no kernel with its modules lies here", root.display())))
    }

    /// A kernel that the user names: an image, and the folder with its modules (`…/lib/modules/VERSION`).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if one of them is not there; [`ErrorKind::BadInput`] if the folder holds no modules.
    pub fn given(image: &Path, modules: &Path) -> Result<Self> {
        fs::metadata(image).at(image)?;
        if !modules.join("kernel").is_dir() {
            let why = "no folder `kernel` with modules in it; --modules takes a folder such as /lib/modules/VERSION";
            return Err(Error::new(ErrorKind::BadInput, format!("{}: {why}", modules.display())));
        }
        let version = modules.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { version, image: image.to_path_buf(), modules: modules.to_path_buf() })
    }

    /// Whether a user who wrote `wanted` (`6.12`, or a whole version) means this one.
    pub fn is_called(&self, wanted: &str) -> bool {
        let rest = self.version.strip_prefix(wanted);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '+', '-']))
    }
}

/// The folders in a folder, sorted.
pub(crate) fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// What `bytes` hold when unpacked; the method is seen by their first bytes. What is not packed is given as it is.
///
/// # Errors
/// [`ErrorKind::BadInput`] for a packing that begins well and is broken.
pub(crate) fn unpacked(bytes: Vec<u8>, what: &Path) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let done = match bytes.as_slice() {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => vmlinux::unzstd(&bytes).map(|unpacked| out = unpacked),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            lzma_rust2::XzReader::new(&bytes[..], false).read_to_end(&mut out).map(drop)
        }
        [0x1f, 0x8b, ..] => flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut out).map(drop),
        _ => return Ok(bytes),
    };
    done.map_err(|e| Error::new(ErrorKind::BadInput, format!("{}: cannot be unpacked: {e}", what.display())))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::{Kernel, unpacked};
    use std::io::Write;
    use std::path::{Path, PathBuf};

    fn kernel(version: &str) -> Kernel {
        Kernel { version: version.into(), image: PathBuf::new(), modules: PathBuf::new() }
    }

    #[test]
    fn versions_are_named_by_their_beginning() {
        let kernel = kernel("6.12.117+deb13-cloud-amd64");
        assert!(["6", "6.12", "6.12.117", "6.12.117+deb13-cloud-amd64"].into_iter().all(|name| kernel.is_called(name)));
        assert!(!["6.1", "7", "12", "6.12.11"].into_iter().any(|name| kernel.is_called(name)));
    }

    #[test]
    fn packages_are_unpacked_by_what_they_are() {
        let what = Path::new("x");
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"module").unwrap();
        let mut gz = gz.finish().unwrap();
        assert_eq!(unpacked(gz.clone(), what).unwrap(), b"module");
        assert_eq!(unpacked(b"\x7fELF".to_vec(), what).unwrap(), b"\x7fELF");
        gz.truncate(12);
        assert!(unpacked(gz, what).is_err());
    }

    #[test]
    fn a_kernel_is_found_in_both_layouts() {
        for image in ["boot/vmlinuz-7.0", "usr/lib/modules/7.0/vmlinuz"] {
            let root = tempfile::tempdir().unwrap();
            for file in ["usr/lib/modules/7.0/kernel/x", image] {
                let path = root.path().join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "").unwrap();
            }
            let kernel = Kernel::unpacked(root.path()).unwrap();
            assert_eq!((kernel.version.as_str(), kernel.image), ("7.0", root.path().join(image)));
            assert!(Kernel::given(&root.path().join(image), &kernel.modules).is_ok());
            assert!(Kernel::given(&root.path().join(image), root.path()).is_err());
        }
        assert!(Kernel::unpacked(Path::new("/nonexistent")).is_err());
    }
}
