//! Where a process's memory is, as the kernel counts it: a second opinion beside the allocator's own figures.

use std::fs;
use std::path::Path;

use crate::failure::{Context, Result};

/// Resident memory of one process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Residence {
    /// OS pages of the slow tier's file.
    pub slow: u64,
    /// Anonymous OS pages, private copies of file OS pages included: ordinary DRAM.
    pub dram: u64,
    /// Programs, libraries and other files.
    pub files: u64,
}

impl Residence {
    /// Asks the kernel about process `pid`, whose slow tier lives in the file `tier`.
    pub fn of(pid: u32, tier: &Path) -> Result<Self> {
        let path = format!("/proc/{pid}/smaps");
        Ok(Self::parse(&fs::read_to_string(&path).while_doing(&path)?, &tier.to_string_lossy()))
    }

    /// The slow tier's share of the data, from 0 to 1. Programs and libraries are not data.
    pub fn slow_share(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a share for people")]
        let share = self.slow as f64 / (self.slow + self.dram).max(1) as f64;
        share
    }

    fn parse(smaps: &str, tier: &str) -> Self {
        let mut residence = Self::default();
        let mut on_tier = false;
        let mut resident = 0;
        for line in smaps.lines() {
            if let Some(path) = mapping(line) {
                on_tier = path.strip_suffix(" (deleted)").unwrap_or(path) == tier;
            } else if let Some(kib) = field(line, "Rss:") {
                resident = kib * 1024;
            } else if let Some(kib) = field(line, "Anonymous:") {
                // Follows `Rss:` of the same mapping.
                let anonymous = kib * 1024;
                residence.dram += anonymous;
                *(if on_tier { &mut residence.slow } else { &mut residence.files }) +=
                    resident.saturating_sub(anonymous);
            }
        }
        residence
    }
}

/// The path in the line that begins a mapping (empty if it has none); `None` for any other line.
fn mapping(line: &str) -> Option<&str> {
    let mut rest = line;
    for column in 0..5 {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let range = |word: &str| word.split_once('-').is_some_and(|(a, b)| is_hex(a) && is_hex(b));
        if column == 0 && !range(word) {
            return None;
        }
        rest = after.trim_start();
    }
    Some(rest)
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The number of KiB in the line of field `name`.
fn field(line: &str, name: &str) -> Option<u64> {
    line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0c0000000-55d0c0001000 r-xp 00000000 fe:00 1234                       /usr/bin/redis-server
Size:                  4 kB
Rss:                   4 kB
Pss:                   4 kB
Anonymous:             0 kB
7f0000000000-7f0000200000 rw-s 00000000 00:1a 42                         /dev/shm/demo tier (deleted)
Rss:                2048 kB
Anonymous:             0 kB
7f0000200000-7f0000400000 rw-p 00200000 00:1a 42                         /dev/shm/demo tier (deleted)
Rss:                1024 kB
Anonymous:           100 kB
7f0000400000-7f0000600000 rw-p 00000000 00:00 0 
Rss:                 300 kB
Anonymous:           300 kB
VmFlags: rd wr mr mw me ac
";

    #[test]
    fn private_copies_of_the_tier_count_as_dram() {
        let got = Residence::parse(SMAPS, "/dev/shm/demo tier");
        assert_eq!(got, Residence { slow: (2048 + 924) << 10, dram: 400 << 10, files: 4 << 10 });
    }

    #[test]
    fn another_tiers_files_do_not_count() {
        let got = Residence::parse(SMAPS, "/dev/shm/demo");
        assert_eq!((got.slow, got.files), (0, (4 + 2048 + 924) << 10));
        assert!(got.slow_share() < f64::EPSILON);
    }

    #[test]
    fn this_process_is_resident_in_dram() {
        let got = Residence::of(std::process::id(), Path::new("/dev/shm/no-such-tier")).unwrap();
        assert!(got.dram > 0 && got.slow == 0);
    }
}
