//! Where the kernel's files are, and how they are read.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The trees that discovery reads. [`Roots::host`] is this machine; tests point them at fixtures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Stands for `/sys`.
    pub sys: PathBuf,
    /// Stands for `/proc`.
    pub proc: PathBuf,
    /// Stands for `/dev`.
    pub dev: PathBuf,
    /// Put before a mount point when its free space is asked for; `/` on a real machine.
    pub files: PathBuf,
}

impl Roots {
    /// This machine's own.
    pub fn host() -> Self {
        Self::under(Path::new("/"))
    }

    /// All trees below one folder: `ROOT/sys`, `ROOT/proc`, `ROOT/dev`, mount points below `ROOT`.
    pub fn under(root: &Path) -> Self {
        Self { sys: root.join("sys"), proc: root.join("proc"), dev: root.join("dev"), files: root.to_path_buf() }
    }

    /// Whether these are the trees of the machine that this program runs on.
    pub fn is_host(&self) -> bool {
        *self == Self::host()
    }

    /// A mount point as a path that can be asked for its space.
    pub(crate) fn file(&self, mount_point: &Path) -> PathBuf {
        self.files.join(mount_point.strip_prefix("/").unwrap_or(mount_point))
    }
}

/// The text of a small kernel file without surrounding white space; `None` if it is missing, unreadable or empty.
pub(crate) fn text(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A number, decimal or with `0x`.
pub(crate) fn number(path: impl AsRef<Path>) -> Option<u64> {
    let text = text(path)?;
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A number that may be negative; `None` also for the kernel's "no such node", −1.
pub(crate) fn node_number(path: impl AsRef<Path>) -> Option<u32> {
    text(path)?.parse::<i64>().ok().and_then(|n| u32::try_from(n).ok())
}

/// Names of the entries of a folder, sorted; empty if there is no such folder.
pub(crate) fn entries(folder: impl AsRef<Path>) -> Vec<String> {
    let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = listing.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort_by_key(|name| natural_key(name));
    names
}

/// `name` if it is `prefix` followed by a number only, as that number.
pub(crate) fn numbered<T: FromStr>(name: &str, prefix: &str) -> Option<T> {
    let digits = name.strip_prefix(prefix)?;
    (digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// Sorts `node2` before `node10`.
fn natural_key(name: &str) -> (String, u64, String) {
    let digits_at = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let (head, tail) = name.split_at(digits_at);
    let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
    (head.to_owned(), tail[..end].parse().unwrap_or(0), tail[end..].to_owned())
}

/// The kernel's list format, `0-2,4`: ranges and single numbers. Anything malformed is left out.
pub(crate) fn number_list(text: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('-') {
            Some((low, high)) => {
                if let (Ok(low), Ok(high)) = (low.parse::<u32>(), high.parse::<u32>()) {
                    // A corrupt file must not make us build a list of four billion.
                    numbers.extend(low..=high.min(low.saturating_add(1 << 16)));
                }
            }
            None => numbers.extend(part.parse::<u32>()),
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_ranges_and_numbers() {
        assert_eq!(number_list("0-2,4\n"), [0, 1, 2, 4]);
        assert_eq!(number_list(""), [0u32; 0]);
        assert_eq!(number_list("x,3-,7"), [7]);
    }

    #[test]
    fn names_sort_by_their_numbers() {
        let mut names = ["node10", "node2", "dax1.0", "dax0.0"].map(str::to_owned);
        names.sort_by_key(|n| natural_key(n));
        assert_eq!(names, ["dax0.0", "dax1.0", "node2", "node10"]);
        assert_eq!(numbered::<u32>("node7", "node"), Some(7));
        assert_eq!(numbered::<u32>("node_x", "node"), None);
    }
}
