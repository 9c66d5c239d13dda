//! The dependency arrows of `docs/architecture.md`, and who may use which third-party library.

use std::collections::BTreeSet;

use cargo_metadata::Metadata;

use super::Finding;
use crate::failure::{Failure, Result};
use crate::step::captured;
use crate::workspace::Workspace;

/// One package: its manifest, its name and the names of what it depends on, in whatever way.
#[derive(Clone, Debug)]
pub struct Package {
    pub manifest: String,
    pub name: String,
    pub depends_on: BTreeSet<String>,
}

/// Who may use which packages of this project.
const ARROWS: &[(&str, &[&str])] = &[
    ("tiermem-sys", &[]),
    ("tiermem-complaint", &[]),
    ("tiermem-trace", &[]),
    ("tiermem-placement", &["tiermem-complaint"]),
    ("tiermem-tiers", &["tiermem-complaint", "tiermem-sys"]),
    ("tiermem-discovery", &["tiermem-tiers", "tiermem-sys"]),
    ("tiermem-topology", &["tiermem-tiers", "tiermem-complaint"]),
    (
        "tiermem-emulator",
        &[
            "tiermem-topology",
            "tiermem-placement",
            "tiermem-complaint",
            "tiermem-trace",
            "tiermem-tiers",
            "tiermem-sys",
        ],
    ),
    ("tiermem-instrument", &["tiermem-emulator", "tiermem-sys"]),
    ("tiermem-qemu", &["tiermem-topology", "tiermem-sys"]),
    ("tiermem", &["tiermem-placement", "tiermem-trace", "tiermem-tiers", "tiermem-sys"]),
    ("tiermem-preload", &["tiermem"]),
    (
        "tierctl",
        &[
            "tiermem",
            "tiermem-discovery",
            "tiermem-emulator",
            "tiermem-placement",
            "tiermem-qemu",
            "tiermem-sys",
            "tiermem-tiers",
            "tiermem-topology",
        ],
    ),
];
/// These use anything and are used by nothing.
const OUTERMOST: &[&str] = &["tiermem-tests", "tiermem-benches", "tiermem-fuzz", "xtask"];
/// Libraries that only some rooms may use.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("libc", &["tiermem-sys"]),
    ("nix", &["tiermem-sys"]),
    ("rustix", &["tiermem-sys"]),
    ("io-uring", &["tiermem-sys"]),
    ("memmap2", &["tiermem-sys"]),
    ("hwlocality", &["tiermem-discovery"]),
    ("cudarc", &["tiermem-tiers"]),
    ("libloading", &["tiermem-tiers"]),
];
/// What a preloaded allocator must never bring into a program.
const PRELOAD_FORBIDDEN: &[&str] = &["hwlocality", "hwlocality-sys", "cudarc", "libloading", "tiermem-discovery"];

/// What cargo says about the packages of the workspace.
pub fn from_metadata(metadata: &Metadata) -> Vec<Package> {
    let root = &metadata.workspace_root;
    let packages = metadata.workspace_packages().into_iter().map(|package| Package {
        manifest: package.manifest_path.strip_prefix(root).unwrap_or(&package.manifest_path).to_string(),
        name: package.name.to_string(),
        depends_on: package.dependencies.iter().map(|dependency| dependency.name.clone()).collect(),
    });
    packages.collect()
}

pub fn check(packages: &[Package]) -> Vec<Finding> {
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = package.name.as_str();
        let mut complain = |message: String| findings.push(Finding::error(&package.manifest, 0, message));
        let outermost = OUTERMOST.contains(&name);
        let allowed = ARROWS.iter().find(|(from, _)| *from == name).map(|(_, to)| *to);
        if allowed.is_none() && !outermost {
            complain(format!("{name} is in no picture: draw its arrows in docs/architecture.md and in xtask's tidy"));
            continue;
        }
        for to in package.depends_on.iter().map(String::as_str) {
            if OUTERMOST.contains(&to) {
                complain(format!("{name} → {to}: nothing may depend on {to}"));
            } else if !outermost && ours.contains(to) && !allowed.unwrap_or_default().contains(&to) {
                complain(format!("{name} → {to}: no such arrow in docs/architecture.md"));
            }
            let users = LIBRARIES.iter().find(|(library, _)| *library == to).map(|(_, users)| *users);
            if let Some(users) = users.filter(|users| !outermost && !users.contains(&name)) {
                complain(format!("{name} → {to}: only {} may use it", users.join(", ")));
            }
        }
    }
    findings
}

/// Every package that ends up in `libtiermem.so`, one name a line.
pub fn preload_tree(workspace: &Workspace) -> Result<String> {
    let args = ["tree", "-p", "tiermem-preload", "-e", "normal,build", "--prefix", "none", "--format", "{p}"];
    let (ok, output) = captured(&mut workspace.cargo(args));
    if ok { Ok(output) } else { Err(Failure::new(output)) }
}

pub fn check_preload(tree: &str) -> Vec<Finding> {
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let forbidden = PRELOAD_FORBIDDEN.iter().filter(|name| names.contains(**name));
    forbidden
        .map(|name| Finding::error("allocator/preload/Cargo.toml", 0, format!("libtiermem.so would carry {name}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(packages: &[(&str, &[&str])]) -> Vec<String> {
        let package = |&(name, to): &(&str, &[&str])| Package {
            manifest: format!("{name}/Cargo.toml"),
            name: name.to_owned(),
            depends_on: to.iter().map(|&to| to.to_owned()).collect(),
        };
        check(&packages.iter().map(package).collect::<Vec<_>>()).into_iter().map(|f| f.message).collect()
    }

    #[test]
    fn arrows_that_are_not_drawn_are_caught() {
        let found = found(&[("tiermem-placement", &["tiermem-sys"]), ("tiermem-sys", &[])]);
        assert_eq!(found, ["tiermem-placement → tiermem-sys: no such arrow in docs/architecture.md"]);
    }

    #[test]
    fn the_outermost_rooms_are_used_by_nothing() {
        assert_eq!(found(&[("tiermem", &["xtask"])]).len(), 1);
        assert_eq!(found(&[("tiermem-benches", &["tiermem-tests"])]).len(), 1);
        assert!(found(&[("tiermem-tests", &["tiermem", "libc"]), ("tiermem", &[])]).is_empty());
    }

    #[test]
    fn libraries_stay_in_their_rooms() {
        assert_eq!(
            found(&[("tiermem-tiers", &["libc", "cudarc"])]),
            ["tiermem-tiers → libc: only tiermem-sys may use it"]
        );
        assert_eq!(found(&[("tierctl", &["hwlocality"])]).len(), 1);
        assert!(found(&[("tiermem-sys", &["libc", "nix", "io-uring"])]).is_empty());
    }

    #[test]
    fn an_unknown_room_is_caught() {
        assert_eq!(found(&[("common", &[])]).len(), 1);
    }

    #[test]
    fn the_preload_stays_light() {
        assert!(check_preload("tiermem-preload v0.1.0\ntiermem v0.1.0\nlibc v0.2.0\n").is_empty());
        assert_eq!(check_preload("tiermem v0.1.0\ncudarc v0.19.0\n").len(), 1);
    }
}
