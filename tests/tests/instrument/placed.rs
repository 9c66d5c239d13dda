//! Where policies put blocks.

use std::collections::BTreeMap;
use std::fs;

use crate::harness::Program;

/// Where a live process would find them does not matter.
const TIERS: &str = "version = 1\n[tier.dram]\n[tier.cxl0]\nsource = \"cxl-node:1\"\n";

/// Blocks on each tier, by the function that asked for them.
fn placed(program: &Program, rules: &str, words: &[&str]) -> BTreeMap<(String, String), u64> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    fs::write(&file, format!("{TIERS}{rules}")).unwrap();
    let report = program.report_with(&["--policy", file.to_str().unwrap()], words);
    let mut found = BTreeMap::new();
    for site in report["processes"][0]["sites"].as_array().unwrap() {
        let function = site["stack"][0].as_str().unwrap_or("").split('+').next().unwrap().to_owned();
        let tier = site["tier"].as_str().unwrap().to_owned();
        *found.entry((function, tier)).or_default() += site["allocations"].as_u64().unwrap();
    }
    found
}

fn on(found: &BTreeMap<(String, String), u64>, function: &str, tier: &str) -> u64 {
    found.get(&(function.to_owned(), tier.to_owned())).copied().unwrap_or(0)
}

#[test]
fn rules_of_size_and_of_sites_place_blocks() {
    let program = Program::c("clang", &["-O2"]);
    let blocks = |rules: &str| {
        let found = placed(&program, rules, &["blocks", "100"]);
        ["near_blocks", "far_blocks"].map(|function| ["dram", "cxl0"].map(|tier| on(&found, function, tier)))
    };
    assert_eq!(blocks(""), [[100, 0], [100, 0]]);
    assert_eq!(blocks("[[rule]]\nsize = \">= 64 KiB\"\ntier = \"cxl0\"\n"), [[100, 0], [50, 50]]);
    assert_eq!(blocks("[[rule]]\nsymbol = \"far_*\"\ntier = \"cxl0\"\n"), [[100, 0], [0, 100]]);
    let both = "[[rule]]\nsymbol = \"far_*\"\nsize = \">= 64 KiB\"\ntier = \"cxl0\"\n";
    assert_eq!(blocks(both), [[100, 0], [50, 50]]);
    // The caller of both is one frame further out.
    assert_eq!(blocks("[[rule]]\nsymbol = \"main\"\ntier = \"cxl0\"\n"), [[0, 100], [0, 100]]);
    assert_eq!(blocks("[[rule]]\nsymbol = \"main\"\ndepth = 1\ntier = \"cxl0\"\n"), [[100, 0], [100, 0]]);
    // The first that matches counts.
    let first =
        "[[rule]]\nsymbol = \"near_blocks\"\ntier = \"dram\"\n[[rule]]\nmodule = \"counted\"\ntier = \"cxl0\"\n";
    assert_eq!(blocks(first), [[100, 0], [0, 100]]);
    assert_eq!(blocks("[[rule]]\nmodule = \"libother*\"\ntier = \"cxl0\"\n"), [[100, 0], [100, 0]]);
}

#[test]
fn rules_know_rust_by_its_names_and_libraries_that_come_later() {
    let rust = Program::rust();
    let found = placed(&rust, "[[rule]]\nsymbol = \"counted::blocks\"\ntier = \"cxl0\"\n", &["blocks", "1000"]);
    let far: u64 = found.iter().filter(|((_, tier), _)| tier == "cxl0").map(|(_, blocks)| blocks).sum();
    assert!((1000..1010).contains(&far), "{found:?}");

    let source = ("counted.c", include_str!("counted.c"));
    let library = ["clang", "-O2", "-shared", "-fPIC", "counted.c", "-o", "libwork.so"];
    let program = Program::built(&[source], &[&library, &["clang", "-O2", "counted.c", "-o", "counted"]]);
    let path = program.beside("libwork.so");
    let words = ["library", "1", path.to_str().unwrap()];
    let found = placed(&program, "[[rule]]\nmodule = \"libwork.so\"\ntier = \"cxl0\"\n", &words);
    assert_eq!((on(&found, "work", "cxl0"), on(&found, "main", "cxl0")), (1, 0), "{found:?}");
}
