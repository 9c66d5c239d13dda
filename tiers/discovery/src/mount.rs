//! File systems that can hold a tier: fsdax, tmpfs, and directories on NVMe or other local disks.
//!
//! Format of `mountinfo`: proc(5).

use std::path::{Path, PathBuf};

use tiermem_sys::fs::space;
use tiermem_tiers::{Attribute, Bytes, GRANULE, Source, TierKind};

use crate::Roots;
use crate::assumed;
use crate::block::{Disk, DiskKind, disks_behind};
use crate::report::{Figure, Figures, TierReport, tier_spec};
use crate::roots::text;

/// A line of `mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// `major:minor`.
    pub device_number: String,
    /// File system.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Options of the mount and of the file system, in one list.
    pub options: Vec<String>,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (head, tail) = line.split_once(" - ")?;
        let head: Vec<&str> = head.split(' ').collect();
        let tail: Vec<&str> = tail.split(' ').collect();
        let options = [head.get(5)?, *tail.get(2).unwrap_or(&"")];
        Some(Self {
            point: PathBuf::from(unescape(head.get(4)?)),
            device_number: (*head.get(2)?).to_owned(),
            kind: (*tail.first()?).to_owned(),
            source: unescape(tail.get(1)?),
            options: options.iter().flat_map(|o| o.split(',')).map(str::to_owned).collect(),
        })
    }

    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// Mounted with `dax`, `dax=always`: file mappings reach the memory itself. `dax=inode` and `dax=never` do not
    /// promise that.
    fn is_fsdax(&self) -> bool {
        self.has("dax") || self.has("dax=always")
    }
}

/// `\040` and its like.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        match (first, octal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The mounts of this process, without those that a later mount hides.
pub fn mounts(roots: &Roots) -> Vec<Mount> {
    let text = text(roots.proc.join("self/mountinfo")).unwrap_or_default();
    let mut seen: Vec<Mount> = Vec::new();
    for mount in text.lines().filter_map(Mount::parse) {
        seen.retain(|earlier| earlier.point != mount.point);
        seen.push(mount);
    }
    seen
}

/// The mounts that can hold a tier: writable, a directory, with room for a granule at least.
pub fn find(roots: &Roots) -> Vec<TierReport> {
    let mut found = Found::default();
    for mount in mounts(roots) {
        // The kernel's and the init system's own trees are no place for data.
        let internal = ["/sys", "/proc", "/run", "/boot"].iter().any(|top| mount.point.starts_with(top));
        if !internal && !mount.has("ro") && roots.file(&mount.point).is_dir() {
            found.consider(roots, &mount);
        }
    }
    found.tiers
}

#[derive(Default)]
struct Found {
    tiers: Vec<TierReport>,
    /// Device numbers seen, because one file system can be mounted in many places.
    devices: Vec<String>,
    counts: [u32; 4],
}

impl Found {
    fn consider(&mut self, roots: &Roots, mount: &Mount) {
        if mount.kind == "tmpfs" {
            self.add(roots, mount, 0, TierKind::DaxFile, "tmpfs (host DRAM)");
            return;
        }
        let disks = disks_behind(roots, &mount.device_number, &mount.source);
        if disks.is_empty() || self.devices.contains(&mount.device_number) {
            return;
        }
        self.devices.push(mount.device_number.clone());
        let names: Vec<&str> = disks.iter().map(|d| d.name.as_str()).collect();
        let what = format!("{} on {} ({})", mount.kind, names.join("+"), kinds(&disks));
        if mount.is_fsdax() {
            self.add(roots, mount, 1, TierKind::DaxFile, &format!("fsdax: {what}"));
        } else if disks.iter().all(|d| d.kind == DiskKind::Nvme) {
            self.add(roots, mount, 2, TierKind::Nvme, &what);
        } else if let Some(tier) = self.add(roots, mount, 3, TierKind::Nvme, &what) {
            tier.notes.push(format!("not NVMe but {}: usable in the same way, expect other figures", kinds(&disks)));
        }
    }

    fn add(&mut self, roots: &Roots, m: &Mount, slot: usize, kind: TierKind, what: &str) -> Option<&mut TierReport> {
        const NAMES: [&str; 4] = ["tmpfs", "fsdax", "nvme", "disk"];
        let space = space(&roots.file(&m.point)).ok().filter(|space| space.total >= GRANULE.0)?;
        let name = format!("{}{}", NAMES[slot], self.counts[slot]);
        self.counts[slot] += 1;
        let point = m.point.to_string_lossy().into_owned();
        let mut tier = TierReport::new(kind, name, point, what);
        tier.free_bytes = Some(space.available);
        #[expect(clippy::cast_precision_loss, reason = "no file system has 2^53 bytes")]
        let size = Figure::new(space.total as f64, Source::Kernel, "statvfs");
        Figures::add(&mut tier.attributes.capacity_bytes, size);
        // A tmpfs may promise more than there is memory for.
        let room = if m.kind == "tmpfs" { space.available.min(memory_available(roots)) } else { space.available };
        tier.spec = spec(kind, &tier.name, &m.point, room);
        if m.kind == "tmpfs" {
            assumed::fill(assumed::Kind::LocalDram, &mut tier.attributes);
            let huge = m.options.iter().find_map(|o| o.strip_prefix("huge="));
            tier.notes.push(match huge {
                Some(huge) => format!("huge OS pages: {huge}"),
                None => "small OS pages (mount with huge=always or huge=advise for huge ones)".to_owned(),
            });
            tier.notes.push("shares the host's DRAM: no extra capacity, good for emulated tiers".into());
        }
        self.tiers.push(tier);
        self.tiers.last_mut()
    }
}

/// A file tier needs a file name and a size; half of what is free is a start that leaves room for others.
fn spec(kind: TierKind, name: &str, point: &Path, room: u64) -> Option<String> {
    let half = Bytes(room / 2 / GRANULE.0 * GRANULE.0);
    let path = if kind == TierKind::Nvme { point.to_path_buf() } else { point.join("tiermem") };
    let capacity = (half >= GRANULE).then_some(Attribute::new(half, Source::Configured))?;
    tier_spec(kind, name, path.to_str()?, Some(capacity))
}

/// Memory that can be had without swapping, bytes; unlimited if the kernel does not say.
fn memory_available(roots: &Roots) -> u64 {
    let meminfo = text(roots.proc.join("meminfo")).unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: Option<u64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.map_or(u64::MAX, |kib| kib.saturating_mul(1024))
}

fn kinds(disks: &[Disk]) -> String {
    let mut words: Vec<&str> = disks.iter().map(|d| d.kind.as_str()).collect();
    words.dedup();
    words.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_understood() {
        let line = r"36 35 259:1 / /mnt/with\040space rw,noatime shared:1 - xfs /dev/pmem0 rw,attr2,dax=always,noquota";
        let mount = Mount::parse(line).unwrap();
        assert_eq!(mount.point, Path::new("/mnt/with space"));
        assert_eq!((mount.kind.as_str(), mount.device_number.as_str()), ("xfs", "259:1"));
        assert!(mount.is_fsdax());
    }

    #[test]
    fn dax_per_inode_is_not_taken_for_fsdax() {
        let line = "36 35 259:1 / /mnt rw - xfs /dev/pmem0 rw,dax=inode";
        assert!(!Mount::parse(line).unwrap().is_fsdax());
        assert_eq!(Mount::parse("nonsense"), None);
    }
}
