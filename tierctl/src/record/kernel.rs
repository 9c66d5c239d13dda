//! Where a process's memory is, as the kernel counts it (proc_pid_smaps(5)): a second opinion beside the allocator's own
//! figures, and the only one that knows the private copies that a fork leaves behind. It counts what the process has
//! mapped: a fork takes a file's OS pages out of the map, and they count again once the program touches them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use tiermem_tiers::{TierKind, TierSpec};

/// Time before the first count of a process, so that programs that live for a blink are left in peace.
const FIRST_AFTER: Duration = Duration::from_millis(200);
/// Time between two counts of a process, at least.
const INTERVAL: Duration = Duration::from_millis(500);
/// Counting walks the process's page tables while it wants to change them: at most this part of the time goes to it.
const SHARE_OF_TIME: u32 = 25;

/// A tier whose memory shows in the kernel's figures as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierFile {
    /// The tier's name.
    pub tier: String,
    /// The file or device.
    pub path: PathBuf,
}

/// The tiers of `specs` that the program maps by a path. Memory files have none.
pub fn mapped_files(specs: &[TierSpec]) -> Vec<TierFile> {
    let by_path = |s: &&TierSpec| matches!(s.kind, TierKind::DaxFile | TierKind::Devdax) && s.location != "memfd";
    let file = |s: &TierSpec| TierFile { tier: s.name.to_string(), path: as_the_kernel_names(Path::new(&s.location)) };
    specs.iter().filter(by_path).map(file).collect()
}

/// The path without symbolic links. The file itself may not exist yet, its folder does.
fn as_the_kernel_names(path: &Path) -> PathBuf {
    let through_folder = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(through_folder).unwrap_or_else(|| path.to_path_buf())
}

/// Resident memory of one process at one moment. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Residence {
    /// Milliseconds since the run began.
    pub at_ms: u64,
    /// Anonymous memory, which lies in DRAM or on NUMA nodes, `copied` included.
    pub anonymous: u64,
    /// The part of `anonymous` that replaces OS pages of a tier's file: made by writes after a fork.
    pub copied: u64,
    /// OS pages of the tiers' files.
    pub tiers: Vec<TierResidence>,
    /// Programs, libraries and all other files.
    pub files: u64,
}

/// What of one tier's file is resident in a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TierResidence {
    /// The tier.
    pub name: String,
    /// Bytes.
    pub resident: u64,
}

impl Residence {
    /// Asks the kernel. `None` if the process is gone, or belongs to somebody else.
    pub fn of(pid: u32, files: &[TierFile], at_ms: u64) -> Option<Self> {
        let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).ok()?;
        // A process that is just ending has no mappings.
        (!smaps.is_empty()).then(|| Self { at_ms, ..Self::parse(&smaps, files) })
    }

    /// Memory that a program filled: all but its program and library files.
    pub fn data(&self) -> u64 {
        self.anonymous + self.tiers.iter().map(|t| t.resident).sum::<u64>()
    }

    fn parse(smaps: &str, files: &[TierFile]) -> Self {
        let tiers = files.iter().map(|f| TierResidence { name: f.tier.clone(), resident: 0 }).collect();
        let mut sum = Self { tiers, ..Self::default() };
        let (mut tier, mut resident) = (None, 0);
        for line in smaps.lines() {
            if let Some(path) = mapping(line) {
                let path = Path::new(path.strip_suffix(" (deleted)").unwrap_or(path));
                tier = files.iter().position(|f| f.path == path);
            } else if let Some(bytes) = field(line, "Rss:") {
                resident = bytes;
            } else if let Some(anonymous) = field(line, "Anonymous:") {
                // Comes after `Rss:` of the same mapping.
                sum.anonymous += anonymous;
                let of_file = resident.saturating_sub(anonymous);
                match tier {
                    Some(tier) => {
                        sum.copied += anonymous;
                        sum.tiers[tier].resident += of_file;
                    }
                    None => sum.files += of_file,
                }
            }
        }
        sum
    }
}

/// The path in the line that begins a mapping (empty if it has none); `None` for any other line.
fn mapping(line: &str) -> Option<&str> {
    let (range, mut rest) = line.split_once(' ')?;
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    range.split_once('-').filter(|(start, end)| is_hex(start) && is_hex(end))?;
    // Rights, offset, device and inode come before the path.
    for _ in 0..4 {
        rest = rest.split_once(' ').map_or("", |(_, rest)| rest).trim_start();
    }
    Some(rest)
}

/// The bytes in the line of the field `name`, which counts in KiB.
fn field(line: &str, name: &str) -> Option<u64> {
    let kib: u64 = line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The kernel's counts of one process: when it had most, and the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The count with most data; of equals, the latest.
    pub most: Option<Residence>,
    /// The latest count.
    pub last: Option<Residence>,
}

impl Counts {
    fn add(&mut self, residence: Residence) {
        if self.most.as_ref().is_none_or(|most| residence.data() >= most.data()) {
            self.most = Some(residence.clone());
        }
        self.last = Some(residence);
    }

    /// The counts worth showing, in order of time.
    pub fn shown(&self) -> impl Iterator<Item = (&'static str, &Residence)> {
        let most = self.most.as_ref().filter(|_| self.most != self.last);
        most.map(|r| ("at its most", r)).into_iter().chain(self.last.as_ref().map(|r| ("at last", r)))
    }
}

/// Counts one process now and then.
#[derive(Debug)]
pub struct Counter {
    due: Instant,
    /// What was counted so far.
    pub counts: Counts,
}

impl Counter {
    /// For a process that was first seen now.
    pub fn new() -> Self {
        Self { due: Instant::now() + FIRST_AFTER, counts: Counts::default() }
    }

    /// Counts if that is due.
    pub fn tick(&mut self, pid: u32, files: &[TierFile], at_ms: u64) {
        let start = Instant::now();
        if start < self.due {
            return;
        }
        if let Some(residence) = Residence::of(pid, files, at_ms) {
            self.counts.add(residence);
        }
        self.due = start + INTERVAL.max(start.elapsed() * SHARE_OF_TIME);
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Residence, TierFile, TierResidence, mapped_files};
    use std::path::Path;

    const SMAPS: &str = "\
55d0c0000000-55d0c0001000 r-xp 00000000 fe:00 1234                       /usr/bin/redis-server
Rss:                   4 kB
Anonymous:             0 kB
7f0000000000-7f0000200000 rw-s 00000000 00:1a 42                         /dev/shm/a tier (deleted)
Rss:                2048 kB
Anonymous:             0 kB
7f0000200000-7f0000400000 rw-p 00200000 00:1a 42                         /dev/shm/a tier (deleted)
Size:               2048 kB
Rss:                1024 kB
Anonymous:           100 kB
7f0000400000-7f0000600000 rw-p 00000000 00:00 0 
Rss:                 300 kB
Anonymous:           300 kB
VmFlags: rd wr mr mw me ac
";

    fn file(tier: &str, path: &str) -> TierFile {
        TierFile { tier: tier.into(), path: path.into() }
    }

    #[test]
    fn private_copies_of_a_tiers_file_are_told_apart() {
        let got = Residence::parse(SMAPS, &[file("other", "/dev/shm/a"), file("slow", "/dev/shm/a tier")]);
        let tier = |name: &str, kib: u64| TierResidence { name: name.into(), resident: kib << 10 };
        let tiers = vec![tier("other", 0), tier("slow", 2048 + 924)];
        assert_eq!(got, Residence { at_ms: 0, anonymous: 400 << 10, copied: 100 << 10, tiers, files: 4 << 10 });
        assert_eq!(got.data(), (2048 + 924 + 400) << 10);
    }

    #[test]
    fn this_process_has_anonymous_memory_and_program_files() {
        let got = Residence::of(std::process::id(), &[], 7).unwrap();
        assert!(got.anonymous > 0 && got.files > 0 && got.copied == 0 && got.at_ms == 7);
        assert_eq!(Residence::of(u32::MAX, &[], 0), None);
    }

    #[test]
    fn only_tiers_with_a_path_are_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
        let specs = [format!("slow=dax-file:{}/link/tier,size=4M", real.display()), "m=dax-file:memfd,size=4M".into()];
        let specs = specs.map(|text: String| text.parse().unwrap());
        assert_eq!(mapped_files(&specs), [file("slow", real.join("tier").to_str().unwrap())]);
        assert_eq!(mapped_files(&specs)[0].path, Path::new(&real).join("tier"));
    }

    #[test]
    fn the_largest_and_the_last_count_are_kept() {
        let count = |at_ms, anonymous| Residence { at_ms, anonymous, ..Residence::default() };
        let mut counts = Counts::default();
        assert_eq!(counts.shown().count(), 0);
        counts.add(count(1, 5));
        counts.add(count(2, 5));
        assert_eq!(counts.shown().map(|(_, r)| r.at_ms).collect::<Vec<_>>(), [2]);
        counts.add(count(3, 4));
        assert_eq!(
            counts.shown().map(|(when, r)| (when, r.at_ms)).collect::<Vec<_>>(),
            [("at its most", 2), ("at last", 3)]
        );
    }
}
