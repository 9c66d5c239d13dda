//! Atomics come from `tiermem_sys::sync`, so that loom replaces all of them at once.

use super::Finding;
use super::rust::lines;
use super::tree::Tree;

/// `sys` defines them; the others are never built for loom.
const EXEMPT: &[&str] = &["sys/", "tests/", "benches/", "fuzz/", "xtask/", "tierctl/", "tiers/discovery/"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust().filter(|file| !EXEMPT.iter().any(|folder| file.path.starts_with(folder))) {
        for (index, line) in lines(&file.text).iter().enumerate() {
            let code: String = line.code.split_whitespace().collect();
            if ["std::sync::atomic", "core::sync::atomic"].iter().any(|path| code.contains(path)) || grouped(&code) {
                let message = "take atomics from tiermem_sys::sync, which loom can replace";
                findings.push(Finding::error(&file.path, index + 1, message));
            }
        }
    }
    findings
}

/// Whether `use std::sync::{…, atomic…}` hides them in a group.
fn grouped(code: &str) -> bool {
    ["std::sync::{", "core::sync::{"].iter().any(|path| {
        code.split_once(path)
            .is_some_and(|(_, group)| group.split([',', '{', '}']).any(|item| item.starts_with("atomic")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caught(path: &str, source: &str) -> bool {
        !check(&Tree::of(&[(path, source)])).is_empty()
    }

    #[test]
    fn atomics_of_the_standard_library_are_caught() {
        assert!(caught("allocator/src/heap.rs", "use std::sync::atomic::AtomicU64;"));
        assert!(caught("tiers/src/tier.rs", "use std::sync::{Arc, atomic::AtomicU64};"));
        assert!(caught("placement/src/lib.rs", "let x = core::sync::atomic::AtomicU8::new(0);"));
    }

    #[test]
    fn sys_and_rooms_without_loom_may_use_them() {
        assert!(!caught("sys/src/sync.rs", "pub use std::sync::atomic;"));
        assert!(!caught("tests/tests/fork.rs", "use std::sync::atomic::AtomicU64;"));
        assert!(!caught("allocator/src/heap.rs", "use tiermem_sys::sync::atomic::AtomicU64; // std::sync::atomic"));
    }
}
