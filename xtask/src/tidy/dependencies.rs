//! Every third-party library is explained in `docs/dependencies.md`, and every one that is declared is used.

use std::collections::BTreeSet;

use super::Finding;
use super::arrows::Package;
use super::tree::Tree;

/// The table of libraries.
const TABLE: &str = "docs/dependencies.md";
/// Workspaces: the main one and the fuzz targets'.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "fuzz/Cargo.toml"];

pub fn check(packages: &[Package], tree: &Tree) -> Vec<Finding> {
    let explained = explained(tree);
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let used: BTreeSet<&str> = packages.iter().flat_map(|package| &package.depends_on).map(String::as_str).collect();
    let mut findings = Vec::new();
    for library in used.iter().filter(|name| !ours.contains(**name) && !explained.contains(**name)) {
        findings.push(Finding::error(TABLE, 0, format!("say what `{library}` is for and why it was chosen")));
    }
    for manifest in MANIFESTS {
        let Some(file) = tree.get(manifest) else { continue };
        let shared = manifest == "Cargo.toml";
        for (line, name) in declared(&file.text) {
            if shared && !used.contains(name) && !ours.contains(name) {
                findings.push(Finding::warning(manifest, line, format!("`{name}` is declared and used by nobody")));
            } else if !shared && !ours.contains(name) && !explained.contains(name) {
                findings.push(Finding::error(TABLE, 0, format!("say what `{name}` is for and why it was chosen")));
            }
        }
    }
    findings
}

/// The libraries in the first column of the table.
fn explained(tree: &Tree) -> BTreeSet<&str> {
    let lines = tree.get(TABLE).map_or("", |file| &file.text).lines();
    let firsts = lines.filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    // Every second part stands between backticks.
    firsts.flat_map(|first| first.split('`').skip(1).step_by(2)).collect()
}

/// The names declared under `[dependencies]` or `[workspace.dependencies]`, each with its line.
fn declared(manifest: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut names = Vec::new();
    for (index, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            inside = matches!(line.trim(), "[dependencies]" | "[workspace.dependencies]");
        } else if let Some((name, _)) = line.split_once('=').filter(|_| inside) {
            names.push((index + 1, name.trim()));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, depends_on: &[&str]) -> Package {
        let depends_on = depends_on.iter().map(|&name| name.to_owned()).collect();
        Package { manifest: String::new(), name: name.to_owned(), depends_on }
    }

    const TABLE_TEXT: &str = "| library | used in |\n|---|---|\n| `libc`, `mio` | sys |\n";

    #[test]
    fn an_unexplained_library_is_caught() {
        let tree = Tree::of(&[(TABLE, TABLE_TEXT)]);
        let packages = [package("tiermem-sys", &["libc", "mio", "nix"]), package("tiermem-tiers", &["tiermem-sys"])];
        let found = check(&packages, &tree);
        assert_eq!(found.len(), 1);
        assert!(found[0].fatal && found[0].message.contains("`nix`"));
    }

    #[test]
    fn a_library_that_nobody_uses_is_warned_of() {
        let manifest = "[workspace.dependencies]\nlibc = \"0.2\"\nnix = \"0.31\"\n[profile.dev]\nopt-level = 1\n";
        let tree = Tree::of(&[(TABLE, TABLE_TEXT), ("Cargo.toml", manifest)]);
        let found = check(&[package("tiermem-sys", &["libc"])], &tree);
        assert_eq!(found, [Finding::warning("Cargo.toml", 3, "`nix` is declared and used by nobody")]);
    }
}
