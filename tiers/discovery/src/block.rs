//! The block devices behind a file system, followed down through partitions, device mapper and md to real disks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Roots;
use crate::roots::{entries, number, text};

/// A whole disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Disk {
    /// `nvme0n1`, `vda`.
    pub name: String,
    /// What it is.
    pub kind: DiskKind,
    /// The model that it reports.
    pub model: Option<String>,
}

/// What a disk hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskKind {
    /// NVMe, local or over fabrics.
    Nvme,
    /// A disk of a virtual machine; what is behind it is the host's secret.
    Virtio,
    /// Persistent memory as a block device.
    Pmem,
    /// A file of another file system.
    Loop,
    /// RAM (brd, zram).
    Ram,
    /// SATA, SAS, USB without rotating parts.
    SolidState,
    /// Rotating.
    Rotating,
    /// Anything else.
    Other,
}

impl DiskKind {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nvme => "NVMe",
            Self::Virtio => "virtio disk",
            Self::Pmem => "persistent memory",
            Self::Loop => "loop device",
            Self::Ram => "RAM disk",
            Self::SolidState => "solid-state disk",
            Self::Rotating => "rotating disk",
            Self::Other => "block device",
        }
    }
}

/// The disks behind a mount: by its device number, or, for file systems with numbers of their own (btrfs), by the
/// name of its source.
pub fn disks_behind(roots: &Roots, device_number: &str, source: &str) -> Vec<Disk> {
    let by_number = roots.sys.join("dev/block").join(device_number);
    let start = if by_number.exists() {
        by_number
    } else {
        // A source may be a link such as /dev/mapper/x or /dev/disk/by-uuid/x.
        let real = source.strip_prefix("/dev/").and_then(|s| fs::canonicalize(roots.dev.join(s)).ok());
        let Some(name) = real.as_deref().and_then(Path::file_name) else { return Vec::new() };
        roots.sys.join("class/block").join(name)
    };
    let mut disks = BTreeSet::new();
    follow(roots, &start, 0, &mut disks);
    disks.into_iter().collect()
}

fn follow(roots: &Roots, device: &Path, depth: u32, into: &mut BTreeSet<Disk>) {
    const DEPTH_MAX: u32 = 16;
    let Ok(mut real) = fs::canonicalize(device) else { return };
    if real.join("partition").exists() {
        real = real.parent().map(PathBuf::from).unwrap_or(real);
    }
    let below = entries(real.join("slaves"));
    if below.is_empty() || depth == DEPTH_MAX {
        into.extend(disk(&real));
    }
    for name in below {
        follow(roots, &roots.sys.join("class/block").join(name), depth + 1, into);
    }
}

fn disk(home: &Path) -> Option<Disk> {
    let name = home.file_name()?.to_str()?.to_owned();
    let rotating = number(home.join("queue/rotational"));
    let kind = match name.trim_end_matches(|c: char| !c.is_alphabetic()) {
        _ if name.starts_with("nvme") => DiskKind::Nvme,
        _ if name.starts_with("vd") => DiskKind::Virtio,
        _ if name.starts_with("pmem") => DiskKind::Pmem,
        _ if name.starts_with("loop") => DiskKind::Loop,
        "ram" | "zram" => DiskKind::Ram,
        _ if rotating == Some(1) => DiskKind::Rotating,
        _ if rotating == Some(0) => DiskKind::SolidState,
        _ => DiskKind::Other,
    };
    Some(Disk { name, kind, model: text(home.join("device/model")) })
}
