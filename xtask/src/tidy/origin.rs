//! The project speaks of itself alone: no paths of the machine it was written on, no registry's host.

use super::Finding;
use super::tree::Tree;

/// Written in two halves, so that this file does not find itself.
const FOREIGN: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of one particular machine"),
    (concat!("/ro", "ot/"), "a path of one particular machine"),
    (concat!("/ho", "me/"), "a path of one particular machine"),
    (concat!("../sha", "red/"), "a path outside of the project"),
    (concat!("crates", ".io"), "a registry's host"),
    (concat!("pypi", ".org"), "a registry's host"),
    (concat!("python", "hosted.org"), "a registry's host"),
    (concat!("npmjs", ".org"), "a registry's host"),
    (concat!("deb.", "debian.org"), "a registry's host"),
    (concat!("archive.", "ubuntu.com"), "a registry's host"),
];
/// Written by cargo, which names its registry.
const EXEMPT: &str = "Cargo.lock";

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| !file.path.ends_with(EXEMPT)) {
        for (index, line) in file.text.lines().enumerate() {
            for (text, what) in FOREIGN {
                if line.match_indices(text).any(|(at, _)| stands_alone(text, &line[..at])) {
                    findings.push(Finding::error(&file.path, index + 1, format!("`{text}` is {what}")));
                }
            }
        }
    }
    findings
}

/// Whether an absolute path really begins here, and not in the middle of a relative one.
fn stands_alone(text: &str, before: &str) -> bool {
    !text.starts_with('/')
        || !before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | ')'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> usize {
        check(&Tree::of(&[("docs/a.md", text)])).len()
    }

    #[test]
    fn foreign_paths_and_hosts_are_caught() {
        assert_eq!(found(&format!("see {}x", FOREIGN[0].0)), 1);
        assert_eq!(found(&format!("https://{}/y", FOREIGN[4].0)), 1);
        assert_eq!(found(&format!("{}a\nb\n{}c", FOREIGN[1].0, FOREIGN[2].0)), 2);
    }

    #[test]
    fn relative_paths_pass() {
        assert_eq!(found(&format!("team{}x and /dev/shm/x and /proc/self/maps", FOREIGN[0].0)), 0);
    }
}
