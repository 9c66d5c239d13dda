//! What `/proc/PID/smaps` says about a file's mappings.

use std::path::Path;

/// Bytes of a process's mappings of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileUse {
    /// Address space.
    pub mapped: u64,
    /// In memory now.
    pub resident: u64,
}

/// How much of `file` the process has mapped and resident.
///
/// # Errors
/// The process does not exist or belongs to another user.
pub fn of_file(pid: u32, file: &Path) -> std::io::Result<FileUse> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    Ok(sum(&text, |name| Path::new(name) == file))
}

/// How much anonymous memory (no file behind it) the process has mapped and resident.
///
/// # Errors
/// As [`of_file`].
pub fn of_anonymous(pid: u32) -> std::io::Result<FileUse> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    Ok(sum(&text, |name| !name.starts_with('/') && name != "[stack]"))
}

/// All that the process has mapped and resident.
///
/// # Errors
/// As [`of_file`].
pub fn of_all(pid: u32) -> std::io::Result<FileUse> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    Ok(sum(&text, |_| true))
}

fn sum(smaps: &str, wanted: impl Fn(&str) -> bool) -> FileUse {
    let mut total = FileUse::default();
    let mut counting = false;
    for line in smaps.lines() {
        if let Some((_, kilobytes)) = line.split_once(':').filter(|(key, _)| {
            key.chars().all(char::is_alphanumeric) && key.chars().next().is_some_and(char::is_uppercase)
        }) {
            let bytes = kilobytes.trim().strip_suffix(" kB").and_then(|n| n.parse::<u64>().ok()).map_or(0, |n| n << 10);
            match line.split(':').next() {
                Some("Size") if counting => total.mapped += bytes,
                Some("Rss") if counting => total.resident += bytes,
                _ => {}
            }
        } else if line.split('-').next().is_some_and(|start| u64::from_str_radix(start, 16).is_ok()) {
            // "start-end rights offset device inode   name": the name may hold blanks and may be missing.
            let name = line.splitn(6, char::is_whitespace).nth(5).unwrap_or("").trim_start();
            counting = wanted(name);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
7f0000000000-7f0000400000 rw-p 00000000 00:1a 5    /dev/shm/a b/slow\nSize:               4096 kB\n\
KernelPageSize:        4 kB\nRss:                1024 kB\nVmFlags: rd wr mr\n\
7f0000400000-7f0000600000 rw-p 00000000 00:00 0 \nSize:               2048 kB\nRss:                   8 kB\n\
7f0000600000-7f0000800000 rw-p 00400000 00:1a 5    /dev/shm/a b/slow\nSize:               2048 kB\nRss: 0 kB\n\
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0    [stack]\nSize: 132 kB\nRss: 12 kB\n";

    #[test]
    fn sums_only_the_wanted_mappings() {
        let of = |path: &str| sum(SMAPS, |name| name == path);
        assert_eq!(of("/dev/shm/a b/slow"), FileUse { mapped: 6 << 20, resident: 1 << 20 });
        assert_eq!(of(""), FileUse { mapped: 2 << 20, resident: 8 << 10 });
        assert_eq!(of("/dev/shm/other"), FileUse::default());
    }

    #[test]
    fn reads_this_process() {
        let mine = of_anonymous(std::process::id()).expect("a process may read its own smaps");
        assert!(mine.resident > 0 && mine.mapped >= mine.resident);
        let all = of_all(std::process::id()).expect("a process may read its own smaps");
        assert!(all.mapped > mine.mapped, "its code is no anonymous memory");
    }
}
