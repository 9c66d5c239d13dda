//! Files stay small enough to be read in one go; those that cannot say why.

use super::Finding;
use super::tree::{File, Tree};

/// More lines than this are warned of.
const LINES_GOOD_MAX: usize = 400;
/// More lines than this need a reason.
const LINES_MAX: usize = 600;
/// Files that may be longer, each with its reason.
const LONGER: &[(&str, &str)] = &[];

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust().filter_map(|file| judge(file, LONGER)).collect()
}

/// One line about all sources.
pub fn summary(tree: &Tree) -> String {
    let lines: usize = tree.rust().map(length).sum();
    let largest = tree.rust().max_by_key(|file| length(file));
    let largest = largest.map_or(String::new(), |file| format!(", longest {} with {}", file.path, length(file)));
    format!("{} Rust files, {lines} lines{largest}", tree.rust().count())
}

fn judge(file: &File, longer: &[(&str, &str)]) -> Option<Finding> {
    let lines = length(file);
    if longer.iter().any(|(path, _)| *path == file.path) || lines <= LINES_GOOD_MAX {
        return None;
    }
    let message = format!("{lines} lines; split it by idea (good: up to {LINES_GOOD_MAX}, most: {LINES_MAX})");
    Some(if lines > LINES_MAX {
        Finding::error(&file.path, 0, message)
    } else {
        Finding::warning(&file.path, 0, message)
    })
}

fn length(file: &File) -> usize {
    file.text.lines().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(lines: usize) -> File {
        File { path: "sys/src/map.rs".to_owned(), text: "//\n".repeat(lines) }
    }

    #[test]
    fn long_files_are_warned_of_and_longer_ones_fail() {
        assert!(judge(&file(LINES_GOOD_MAX), &[]).is_none());
        assert!(judge(&file(LINES_GOOD_MAX + 1), &[]).is_some_and(|finding| !finding.fatal));
        assert!(judge(&file(LINES_MAX + 1), &[]).is_some_and(|finding| finding.fatal));
        assert!(judge(&file(LINES_MAX + 1), &[("sys/src/map.rs", "a table")]).is_none());
    }
}
