//! A mapped file as a tier: on fsdax (real persistent or CXL memory), on tmpfs or an ordinary file system (an emulated
//! tier), or without a name (`memfd`).
//!
//! Contents never outlive their extents, so the mapping is not made with `MAP_SYNC`: it would slow down the first write
//! to each OS page for a durability that nobody asks for.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tiermem_sys::Errno;
use tiermem_sys::file::{self, Existing};

use super::backing_file::BackingFile;
use super::blank;
use super::extent_table::{Past, Sidecar};
use super::mapped::{Mapped, Medium, Parts};
use super::open::{Obstacle, OpenError};
use crate::{Attributes, TierId, TierKind, TierSpec};

/// Opens the file, or makes it if it is missing and a size is given.
pub(super) fn open(spec: &TierSpec, id: TierId) -> Result<Mapped, OpenError> {
    if spec.location == "memfd" { anonymous(spec, id) } else { named(spec, id) }
}

fn anonymous(spec: &TierSpec, id: TierId) -> Result<Mapped, OpenError> {
    let size =
        spec.size().ok_or_else(|| OpenError::new(spec, Obstacle::BadSize, "a memfd needs size=, e.g. size=1G"))?;
    let failed = |call: &'static str| move |errno| OpenError::system(spec, call, errno);
    let fd = file::memory_file(c"tiermem").map_err(failed("memfd_create"))?;
    file::set_size(fd.as_fd(), size.0).map_err(failed("ftruncate"))?;
    let file = BackingFile::new(fd, None, false).map_err(failed("fstat"))?;
    let sidecar = Sidecar::anonymous().map_err(failed("memfd_create for the extent table"))?;
    let parts = Parts { medium: Medium::File, file, sidecar, size, past: Past::Unknown, made_here: true };
    Mapped::new(spec, id, parts)
}

fn named(spec: &TierSpec, id: TierId) -> Result<Mapped, OpenError> {
    let path = std::path::absolute(&spec.location)
        .map_err(|error| OpenError::new(spec, Obstacle::Unsuitable, format!("bad path: {error}")))?;
    let mut sidecar = blank::open_sidecar(spec, &sidecar_path(&path))?;
    match blank::open_file(spec, &path, &mut sidecar, false) {
        Ok(blank::Opened { file, size, past, made_here }) => {
            Mapped::new(spec, id, Parts { medium: Medium::File, file, sidecar, size, past, made_here })
        }
        Err(error) => {
            sidecar.discard_if_unused();
            Err(error)
        }
    }
}

/// Removes the file of a tier and its extent table if tiermem made them and nobody else uses them; whether it did.
///
/// # Errors
/// What stands in the way.
pub fn destroy(spec: &TierSpec) -> Result<bool, OpenError> {
    let failed = |errno| OpenError::system(spec, "removing the file", errno);
    let path = std::path::absolute(&spec.location).map_err(|_| failed(Errno::EINVAL))?;
    let named_file = matches!(spec.kind, TierKind::DaxFile | TierKind::Nvme) && spec.location != "memfd";
    if !named_file || !path.is_file() || !sidecar_path(&path).exists() {
        return Ok(false);
    }
    let alone = named(&TierSpec { attributes: Attributes::default(), ..spec.clone() }, TierId(0))?.is_alone();
    let mut sidecar = blank::open_sidecar(spec, &sidecar_path(&path))?;
    let c_path = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed(Errno::EINVAL))?;
    let fd = file::open(&c_path, Existing::Required, false).map_err(failed)?;
    let removable = alone && sidecar.past(fd.as_fd()).map_err(failed)?.made_here();
    if removable {
        sidecar.remove_with(&path).map_err(failed)?;
    }
    Ok(removable)
}

/// The extent table of a file lies beside it.
pub(super) fn sidecar_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".extents");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bytes, ErrorKind, GRANULE, Health, Provenance, Provider, provider};

    #[test]
    fn a_memfd_fills_up_and_empties() {
        let tier = provider::open(&"m=dax-file:memfd,size=8M".parse().unwrap(), TierId(3)).unwrap();
        let extents: Vec<_> = (0..4).map(|_| tier.reserve(GRANULE, Provenance::Tool).unwrap()).collect();
        assert_eq!(tier.usage().reserved, Bytes::mib(8));
        assert!(matches!(tier.reserve(GRANULE, Provenance::Tool).unwrap_err().kind(), ErrorKind::Full { .. }));
        tier.write(&extents[1], 5, b"x").unwrap();
        extents.into_iter().for_each(|extent| tier.release(extent).unwrap());
        assert_eq!(tier.usage().reserved, Bytes::ZERO);
        let whole = tier.reserve(Bytes::mib(8), Provenance::Tool).unwrap();
        let mut byte = [1];
        tier.read(&whole, GRANULE.0 + 5, &mut byte).unwrap();
        assert_eq!(byte, [0]);
        tier.release(whole).unwrap();
    }

    #[test]
    fn files_are_made_kept_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let spec: TierSpec = format!("f=dax-file:{}/f,size=8M", folder.path().display()).parse().unwrap();
        drop(open(&spec, TierId(0)).unwrap());
        let again: TierSpec = format!("f=dax-file:{}/f", folder.path().display()).parse().unwrap();
        let tier = open(&again, TierId(0)).unwrap();
        assert_eq!(tier.usage().capacity, Bytes::mib(8));
        let extent = tier.reserve(GRANULE, Provenance::Tool).unwrap();
        assert!(!destroy(&again).unwrap(), "somebody uses it");
        tier.release(extent).unwrap();
        drop(tier);
        assert!(destroy(&again).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// fallocate used to make a cut file as long as it had been, full of zeroes where somebody's data had been.
    #[test]
    fn a_cut_file_is_not_grown_again() {
        let folder = tempfile::tempdir().unwrap();
        for kind in ["dax-file", "nvme"] {
            let path = folder.path().join(kind);
            let spec: TierSpec = format!("f={kind}:{},size=8M", path.display()).parse().unwrap();
            let tier = provider::open(&spec, TierId(0)).unwrap();
            let extent = tier.reserve(GRANULE, Provenance::Tool).unwrap();
            let len = || std::fs::metadata(&path).unwrap().len();
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
            assert_eq!(tier.reserve(GRANULE, Provenance::Tool).unwrap_err().kind(), ErrorKind::Gone, "{kind}");
            assert_eq!(tier.read(&extent, GRANULE.0 - 1, &mut [0]).unwrap_err().kind(), ErrorKind::Gone, "{kind}");
            if let Some(mapped) = tier.addressable() {
                let at = tiermem_sys::map::reserve(GRANULE.0 as usize, GRANULE.0 as usize).unwrap();
                // SAFETY: the range was reserved for this.
                let refused = unsafe { mapped.reserve_at(at, GRANULE, false, Provenance::Tool) };
                assert_eq!(refused.unwrap_err().kind(), ErrorKind::Gone);
            }
            assert_eq!((tier.health(), len()), (Health::Failed, 4096), "{kind}");
            tier.release(extent).unwrap();
            drop(tier);
            for again in [spec.to_string(), format!("f={kind}:{}", path.display())] {
                let error = provider::open(&again.parse().unwrap(), TierId(0)).err().unwrap();
                assert_eq!(error.obstacle(), Obstacle::Unsuitable, "{error}");
                assert!(error.to_string().contains("was cut"), "{error}");
            }
            assert_eq!(len(), 4096, "{kind}");
        }
    }

    fn obstacle(text: String) -> (Obstacle, String) {
        let error = open(&text.parse().unwrap(), TierId(0)).unwrap_err();
        (error.obstacle(), error.to_string())
    }

    #[test]
    fn errors_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let expect = |text: String, obstacle_wanted, word: &str| {
            let (found, shown) = obstacle(text);
            assert_eq!(found, obstacle_wanted, "{shown}");
            assert!(shown.contains(word), "{shown}");
        };
        expect(format!("a=dax-file:{at}/none"), Obstacle::Missing, "size=");
        expect(format!("a=dax-file:{at}/no/such,size=4M"), Obstacle::Missing, "folder");
        expect(format!("a=dax-file:{at},size=4M"), Obstacle::Unsuitable, "folder");
        expect("a=dax-file:memfd".into(), Obstacle::BadSize, "size=");
        std::fs::write(folder.path().join("diary"), vec![b'x'; 4 << 20]).unwrap();
        expect(format!("a=dax-file:{at}/diary"), Obstacle::Unsuitable, "holds data");
        assert_eq!(std::fs::read(folder.path().join("diary")).unwrap(), vec![b'x'; 4 << 20]);
        std::fs::write(folder.path().join("small"), vec![0; 4 << 20]).unwrap();
        expect(format!("a=dax-file:{at}/small,size=8M"), Obstacle::BadSize, "truncate");
        std::os::unix::fs::symlink(folder.path().join("small"), folder.path().join("link")).unwrap();
        expect(format!("a=dax-file:{at}/link"), Obstacle::Unsuitable, "symbolic link");
        std::fs::write(folder.path().join("small.extents"), "something else, long enough to be read in full").unwrap();
        expect(format!("a=dax-file:{at}/small"), Obstacle::Unsuitable, "extent table");
    }
}
