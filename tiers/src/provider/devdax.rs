//! A DAX device (`/dev/daxX.Y`) as a tier: CXL or persistent memory that no file system and no kernel allocator owns.
//!
//! The extent table lies in /dev/shm, for a device has no room for it.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tiermem_sys::file::{self, Existing, FileType};
use tiermem_sys::{Errno, process};

use super::backing_file::BackingFile;
use super::blank;
use super::mapped::{Mapped, Medium, Parts};
use super::open::{Obstacle, OpenError};
use crate::{Bytes, GRANULE, TierId, TierSpec};

const DEVICES: &str = "/sys/bus/dax/devices";

/// Opens the device.
pub(super) fn open(spec: &TierSpec, id: TierId) -> Result<Mapped, OpenError> {
    let name = device_name(spec)?;
    let size = size(spec, &name)?;
    let path = Path::new("/dev").join(&name);
    let c_path = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| OpenError::new(spec, Obstacle::Unsuitable, "bad device name"))?;
    let fd = file::open(&c_path, Existing::Required, false).map_err(|errno| explain(spec, &name, errno))?;
    let status = file::status(fd.as_fd()).map_err(|errno| explain(spec, &name, errno))?;
    if status.file_type != FileType::CharDevice {
        return Err(OpenError::new(spec, Obstacle::Unsuitable, "not a character device: for a file write dax-file"));
    }
    let mut sidecar = blank::open_sidecar(spec, &sidecar_path(&name))?;
    let failed = |errno| OpenError::system(spec, "reading the extent table", errno);
    let past = sidecar.past(fd.as_fd()).map_err(failed)?;
    let file = BackingFile::new(fd, Some(c_path), false).map_err(failed)?;
    Mapped::new(spec, id, Parts { medium: Medium::Device, file, sidecar, size, past, made_here: false })
}

/// `dax0.0` from `/dev/dax0.0` or `dax0.0`.
fn device_name(spec: &TierSpec) -> Result<String, OpenError> {
    let name = spec.location.strip_prefix("/dev/").unwrap_or(&spec.location);
    let form_fits = name
        .strip_prefix("dax")
        .is_some_and(|rest| rest.contains('.') && rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    if form_fits {
        Ok(name.to_owned())
    } else {
        Err(OpenError::new(spec, Obstacle::Unsuitable, "a DAX device is named like /dev/dax0.0"))
    }
}

/// One table per user and device.
fn sidecar_path(name: &str) -> PathBuf {
    format!("/dev/shm/tiermem-{}-{name}.extents", process::user()).into()
}

/// What sysfs says about the device, in whole granules.
fn size(spec: &TierSpec, name: &str) -> Result<Bytes, OpenError> {
    let folder = Path::new(DEVICES).join(name);
    if !folder.exists() {
        let there = fs::read_dir(DEVICES).map(|entries| {
            entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect::<Vec<_>>().join(", ")
        });
        let there = there.ok().filter(|list| !list.is_empty()).unwrap_or_else(|| "none".to_owned());
        let advice = format!("there is no device {name}; DAX devices here: {there}");
        return Err(OpenError::new(spec, Obstacle::Missing, advice));
    }
    let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    let align = number("align").unwrap_or(GRANULE.0);
    if !GRANULE.0.is_multiple_of(align) {
        let advice = format!("its alignment is {}, above 2 MiB: make it anew with daxctl --align=2M", Bytes(align));
        return Err(OpenError::new(spec, Obstacle::Unsuitable, advice));
    }
    let has = Bytes(number("size").unwrap_or(0));
    let size = spec.size().unwrap_or(has);
    if size > has || size < GRANULE {
        let advice = format!("the device has {has}: give a size from 2M up to that");
        return Err(OpenError::new(spec, Obstacle::BadSize, advice));
    }
    Ok(Bytes(size.0 / GRANULE.0 * GRANULE.0))
}

fn explain(spec: &TierSpec, name: &str, errno: Errno) -> OpenError {
    let driver = fs::read_link(Path::new(DEVICES).join(name).join("driver")).ok();
    let driver = driver.as_deref().and_then(Path::file_name).and_then(|name| name.to_str().map(str::to_owned));
    match (errno, driver.as_deref()) {
        (_, Some("kmem")) => OpenError::new(
            spec,
            Obstacle::Unsuitable,
            format!(
                "{name} is bound to kmem, so it is ordinary memory of a node: use cxl-node, or daxctl reconfigure-device --mode=devdax {name}"
            ),
        ),
        (Errno::EACCES | Errno::EPERM, _) => OpenError::new(
            spec,
            Obstacle::NoRights,
            format!("no rights on /dev/{name}: run as root, or give the user rights on it (chown or a udev rule)"),
        ),
        (Errno::ENOENT | Errno::ENXIO | Errno::ENODEV, _) => OpenError::new(
            spec,
            Obstacle::Missing,
            format!("/dev/{name} has no driver (device_dax): daxctl reconfigure-device --mode=devdax {name}"),
        ),
        _ => OpenError::system(spec, "opening the device", errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_missing_devices() {
        let open = |text: &str| open(&text.parse().unwrap(), TierId(0)).err().unwrap();
        assert_eq!(open("d=devdax:/dev/sda").obstacle(), Obstacle::Unsuitable);
        assert_eq!(open("d=devdax:/dev/../dax0.0").obstacle(), Obstacle::Unsuitable);
        let missing = open("d=devdax:/dev/dax99.7");
        assert_eq!(missing.obstacle(), Obstacle::Missing);
        assert!(missing.to_string().contains("no device dax99.7"), "{missing}");
    }
}
