//! Opening a file as a tier without ever destroying anybody's data: a file that tiermem does not know must be blank.
//! May allocate.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tiermem_sys::Errno;
use tiermem_sys::file::{self, Existing, FileType};

use super::backing_file::BackingFile;
use super::extent_table::{Past, Sidecar};
use super::open::{Obstacle, OpenError};
use crate::{Bytes, GRANULE, TierSpec};

/// A file that may serve as a tier.
pub(super) struct Opened {
    pub file: BackingFile,
    pub size: Bytes,
    pub past: Past,
    /// Whether tiermem made it, now or earlier.
    pub made_here: bool,
}

/// Opens or makes the sidecar.
pub(super) fn open_sidecar(spec: &TierSpec, path: &Path) -> Result<Sidecar, OpenError> {
    Sidecar::named(path).map_err(|errno| explain(spec, errno, path))
}

pub(super) fn explain(spec: &TierSpec, errno: Errno, path: &Path) -> OpenError {
    let shown = path.display();
    let (obstacle, advice) = match errno {
        Errno::ENOENT => (Obstacle::Missing, format!("the folder of {shown} does not exist: make it")),
        Errno::EACCES | Errno::EPERM | Errno::EROFS => {
            (Obstacle::NoRights, format!("no rights to write {shown}: take another path or change its rights"))
        }
        Errno::ELOOP => (Obstacle::Unsuitable, format!("{shown} is a symbolic link: name the file that it leads to")),
        Errno::EISDIR => (Obstacle::Unsuitable, format!("{shown} is a folder: name a file in it")),
        Errno::ENOSPC | Errno::EDQUOT => (Obstacle::BadSize, format!("no space for {shown}")),
        Errno::EBADMSG => (
            Obstacle::Unsuitable,
            format!("{shown} is not an extent table of this version: remove it when no program uses the tier"),
        ),
        errno => (Obstacle::System(errno as i32), format!("{shown}: {}", errno.desc())),
    };
    OpenError::new(spec, obstacle, advice)
}

/// Opens the file, or makes it; the sidecar's lock keeps other openers away meanwhile.
pub(super) fn open_file(
    spec: &TierSpec,
    path: &Path,
    sidecar: &mut Sidecar,
    direct: bool,
) -> Result<Opened, OpenError> {
    let failed = |errno| explain(spec, errno, path);
    let c_path = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed(Errno::EINVAL))?;
    let (fd, made_now) = match (file::open(&c_path, Existing::Required, direct), spec.size()) {
        (Ok(fd), _) => (fd, false),
        (Err(Errno::ENOENT), None) => {
            let advice = format!("{} does not exist: give size= to have it made", path.display());
            return Err(OpenError::new(spec, Obstacle::Missing, advice));
        }
        (Err(Errno::ENOENT), Some(size)) => (make(&c_path, size, direct).map_err(failed)?, true),
        (Err(errno), _) => return Err(failed(errno)),
    };
    let past = sidecar.past(fd.as_fd()).map_err(|errno| explain(spec, errno, path))?;
    if past != Past::Unknown {
        must_not_be_cut(spec, path, sidecar, fd.as_fd())?;
    }
    let size = check_size(spec, fd.as_fd())?;
    match past {
        Past::Unknown if !made_now => must_be_blank(spec, fd.as_fd())?,
        Past::Stale { .. } => file::punch_hole(fd.as_fd(), 0, size.0).map_err(failed)?,
        _ => {}
    }
    if !matches!(past, Past::Known { .. }) {
        must_promise_space(spec, fd.as_fd())?;
    }
    let file = BackingFile::new(fd, Some(c_path), direct).map_err(failed)?;
    Ok(Opened { file, size, past, made_here: made_now || past.made_here() })
}

fn make(path: &CString, size: Bytes, direct: bool) -> Result<OwnedFd, Errno> {
    let fd = file::open(path, Existing::Forbidden, direct)?;
    file::set_size(fd.as_fd(), size.0)?;
    Ok(fd)
}

/// Refuses a file that is shorter than it was when it served as a tier: others may still use the part that is missing.
fn must_not_be_cut(spec: &TierSpec, path: &Path, sidecar: &Sidecar, fd: BorrowedFd<'_>) -> Result<(), OpenError> {
    let failed = |errno| explain(spec, errno, path);
    let had = Bytes(sidecar.granules_known().map_err(failed)?.saturating_mul(GRANULE.0));
    let has = Bytes(file::status(fd).map_err(failed)?.size);
    if has >= had {
        return Ok(());
    }
    let advice = format!(
        "the file was cut to {has} and was a tier of {had}: end the programs that use it, then remove it and {}.extents",
        path.display()
    );
    Err(OpenError::new(spec, Obstacle::Unsuitable, advice))
}

/// The capacity: what is asked for, or else what the file has.
fn check_size(spec: &TierSpec, fd: BorrowedFd<'_>) -> Result<Bytes, OpenError> {
    let status = file::status(fd).map_err(|errno| OpenError::system(spec, "fstat", errno))?;
    if status.file_type != FileType::Regular {
        return Err(OpenError::new(spec, Obstacle::Unsuitable, "not a regular file: for /dev/daxX.Y write devdax"));
    }
    let has = Bytes(status.size);
    let size = spec.size().unwrap_or(has);
    if size > has {
        let advice =
            format!("the file has {has}, less than size={size}: give a smaller size or enlarge it with truncate -s");
        return Err(OpenError::new(spec, Obstacle::BadSize, advice));
    }
    if size < GRANULE {
        let advice = format!("the file has {has}, less than one granule: it needs at least 2M");
        return Err(OpenError::new(spec, Obstacle::BadSize, advice));
    }
    Ok(Bytes(size.0 / GRANULE.0 * GRANULE.0))
}

/// Refuses a file in which there is anything but zeroes.
fn must_be_blank(spec: &TierSpec, fd: BorrowedFd<'_>) -> Result<(), OpenError> {
    // Through a description without O_DIRECT, which would ask for an aligned buffer.
    let failed = |errno| OpenError::system(spec, "looking for data in the file", errno);
    let plain = file::reopen(fd).map_err(failed)?;
    let mut block = vec![0u8; 1 << 20];
    let mut at = 0;
    while let Some(data) = file::next_data(plain.as_fd(), at).map_err(failed)? {
        let got = file::read_at(plain.as_fd(), &mut block, data).map_err(failed)?;
        if block.iter().take(got).any(|&byte| byte != 0) {
            let advice = "the file holds data that tiermem did not put there, and would be erased: \
                          name another file, or remove this one if its data is not needed";
            return Err(OpenError::new(spec, Obstacle::Unsuitable, advice));
        }
        if got == 0 {
            break;
        }
        at = data + got as u64;
    }
    Ok(())
}

/// A file system that cannot promise space, or not take it back, is no home for a tier.
pub(super) fn must_promise_space(spec: &TierSpec, fd: BorrowedFd<'_>) -> Result<(), OpenError> {
    let tried = file::reserve_space(fd, 0, GRANULE.0).and_then(|()| file::punch_hole(fd, 0, GRANULE.0));
    match tried {
        Ok(()) | Err(Errno::ENOSPC) => Ok(()),
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Err(OpenError::new(
            spec,
            Obstacle::Unsupported,
            "this file system cannot reserve space or punch holes (fallocate): use tmpfs, ext4, xfs or btrfs",
        )),
        Err(errno) => Err(OpenError::system(spec, "fallocate", errno)),
    }
}
