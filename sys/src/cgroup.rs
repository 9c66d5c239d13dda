//! Control groups: how much memory this process's group may have. May allocate.

use std::path::{Path, PathBuf};

/// A group's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the group may have before the kernel ends one of its processes.
    pub limit: u64,
    /// What its processes have now that the kernel cannot drop: anonymous and shared memory.
    pub used: u64,
}

/// The tightest limit on the memory of this process's control group or of a group above it; `None` without a limit, or
/// where there are no control groups. Reads both versions of the interface (the kernel's *Control Group v2* and
/// *Memory Resource Controller* documents).
pub fn memory() -> Option<Memory> {
    memory_in(&std::fs::read_to_string("/proc/self/cgroup").ok()?, Path::new("/sys/fs/cgroup"))
}

fn memory_in(own: &str, root: &Path) -> Option<Memory> {
    own.lines()
        .filter_map(|line| {
            // "0::/path" is version 2, "4:memory:/path" version 1.
            let mut parts = line.splitn(3, ':').skip(1);
            let (top, limit, used): (PathBuf, _, &[&str]) = match parts.next()? {
                "" => (root.to_owned(), "memory.max", &["anon ", "shmem "]),
                controllers if controllers.split(',').any(|name| name == "memory") => {
                    (root.join("memory"), "memory.limit_in_bytes", &["total_rss ", "total_shmem "])
                }
                _ => return None,
            };
            // In a container the path may be the host's: then what can be seen starts at the top.
            let below = top.join(parts.next()?.trim_start_matches('/'));
            let group = if below.is_dir() { below } else { top.clone() };
            let groups = group.ancestors().take_while(|group| group.starts_with(&top));
            groups.filter_map(|group| of_group(group, limit, used)).min_by_key(|memory| memory.limit)
        })
        .min_by_key(|memory| memory.limit)
}

fn of_group(group: &Path, limit: &str, used: &[&str]) -> Option<Memory> {
    // Version 1 has no word for "none" but the largest number of whole OS pages.
    const NONE_FROM: u64 = 1 << 60;
    let text = std::fs::read_to_string(group.join(limit)).ok()?;
    let limit = text.trim().parse().ok().filter(|&limit| limit < NONE_FROM)?;
    let statistics = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let number = |line: &str| used.iter().find_map(|name| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    Some(Memory { limit, used: statistics.lines().filter_map(number).sum() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("tiermem-cgroup-{name}-{}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = tree(
            "v2",
            &[
                ("a/memory.max", "1000000\n"),
                ("a/memory.stat", "anon 300\nfile 70000\nshmem 50\n"),
                ("a/b/memory.max", "max\n"),
                ("a/b/memory.stat", "anon 100\n"),
            ],
        );
        assert_eq!(memory_in("0::/a/b\n", &root), Some(Memory { limit: 1_000_000, used: 350 }));
        assert_eq!(memory_in("0::/elsewhere\n", &root), None);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn version_1_is_read() {
        let root = tree(
            "v1",
            &[
                ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory/c/memory.limit_in_bytes", "4096000\n"),
                ("memory/c/memory.stat", "rss 1\ntotal_rss 4096\ntotal_shmem 0\n"),
            ],
        );
        let own = "5:cpu,cpuacct:/c\n4:memory:/c\n0::/c\n";
        assert_eq!(memory_in(own, &root), Some(Memory { limit: 4_096_000, used: 4096 }));
        assert_eq!(memory_in("4:memory:/\n", &root), None);
        std::fs::remove_dir_all(root).unwrap();
    }
}
