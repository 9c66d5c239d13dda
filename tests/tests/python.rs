//! Python's own regression tests give under the preload the results that they give without it. Some fail or are skipped
//! for reasons of their own (rights, no network), so each module that does not pass wholly is compared with a bare run.
//! `PYTHONMALLOC=malloc` sends every object through malloc instead of Python's own pools.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tiermem_tests::{Run, Tiering, in_every_setup, in_setups, remembered, repeated, scratch, skip};

const MODULES: [&str; 5] = ["test_json", "test_pickle", "test_re", "test_ctypes", "test_mmap"];

/// The parts of the long multiprocessing tests that share memory, pass objects and end processes.
const PARALLEL: [&str; 6] =
    ["*Process.test_active*", "*TestPool*", "*TestQueue*", "*TestHeap*", "*TestSharedMemory*", "*TestManager*"];

/// A Python that has the module. Distributions ship Python without its tests (Debian: libpython3-testsuite), so all
/// that are installed are asked.
fn python_with(module: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["python3".to_owned()].into_iter().chain((8..=14).rev().map(|minor| format!("python3.{minor}")));
    let mut candidates: Vec<PathBuf> = names
        .flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(&name)).collect::<Vec<_>>())
        .collect();
    if let Some(home) = std::env::home_dir() {
        let versions = home.join(".pyenv/versions").read_dir().into_iter().flatten().flatten();
        candidates.extend(versions.map(|version| version.path().join("bin/python3")));
    }
    let found = candidates.into_iter().filter(|candidate| candidate.is_file()).find_map(|candidate| {
        // The real program rather than a wrapper script around it.
        let print = format!("import sys, importlib.util as u\nfrom test import libregrtest\nprint(sys.executable if u.find_spec('test.{module}') else '')");
        let finished = Run::new(&candidate).args(["-c", &print]).finish();
        let path = PathBuf::from(finished.text().trim());
        (finished.status.success() && path.is_file()).then_some(path)
    });
    if found.is_none() {
        skip(&format!("no Python here has its regression test {module} (Debian: libpython3-testsuite)"));
    }
    found
}

/// Result of each test by its name.
type Results = BTreeMap<String, String>;

fn run(python: &Path, tiering: Option<&Tiering>, module: &str, matching: &[&str]) -> (Results, String) {
    let folder = scratch();
    let report = folder.path().join("report.xml");
    let mut run =
        Run::new(python).args(["-m", "test", "--junit-xml"]).arg(&report).current_dir(folder.path()).limit(200);
    for pattern in matching {
        run = run.args(["-m", pattern]);
    }
    run = run.arg(module).env("PYTHONMALLOC", "malloc").env("TMPDIR", folder.path());
    if let Some(tiering) = tiering {
        run = run.under(tiering);
    }
    let finished = run.finish();
    let xml = std::fs::read_to_string(&report).unwrap_or_default();
    let results = results_of(&xml);
    assert!(!results.is_empty(), "{module} ran no test: {}", finished.describe());
    (results, finished.describe())
}

/// Reads the JUnit report: one `testcase` element a test, with an element inside where it did not pass.
fn results_of(xml: &str) -> Results {
    let mut results = Results::new();
    for case in xml.split("<testcase ").skip(1) {
        let Some((attributes, rest)) = case.split_once('>') else { continue };
        let Some(name) = attributes.split("name=\"").nth(1).and_then(|text| text.split('"').next()) else { continue };
        let inside = if attributes.ends_with('/') { "" } else { rest.split("</testcase>").next().unwrap_or("") };
        let kinds = ["failure", "error", "skipped"].map(|kind| (kind, inside.contains(&format!("<{kind}"))));
        let result = kinds.iter().find(|(_, found)| *found).map_or("passed", |(kind, _)| kind);
        // Subtests share a name: the worst one stands.
        let entry = results.entry(name.to_owned()).or_insert_with(|| result.to_owned());
        if result != "passed" {
            result.clone_into(entry);
        }
    }
    results
}

fn as_text(results: &Results) -> String {
    results.iter().map(|(name, result)| format!("{name} {result}\n")).collect()
}

/// Runs a module under the preload; a hang is shown and tried once more.
///
/// The tests of multiprocessing's pools have hung once in some thirty runs, with a worker waiting for work and the parent for
/// the queue's semaphore, and not in as many runs meant to show it. Two hangs in a row are a failure.
fn run_patiently(python: &Path, tiering: &Tiering, module: &str, matching: &[&str]) -> (Results, String) {
    let first = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(python, Some(tiering), module, matching)));
    first.unwrap_or_else(|_| {
        eprintln!("{module} did not finish; trying once more");
        run(python, Some(tiering), module, matching)
    })
}

fn same_results(tiering: &Tiering, modules: &[&str], matching: &[&str]) {
    repeated(|| same_results_once(tiering, modules, matching));
}

fn same_results_once(tiering: &Tiering, modules: &[&str], matching: &[&str]) {
    for module in modules {
        let Some(python) = python_with(module) else { return };
        let (tiered, described) = run_patiently(&python, tiering, module, matching);
        if tiered.values().all(|result| result == "passed") {
            continue;
        }
        let key = (module, matching, "python");
        let bare = remembered(&python, key, || as_text(&run(&python, None, module, matching).0).into_bytes());
        let bare = String::from_utf8_lossy(&bare);
        let worse: Vec<_> = as_text(&tiered)
            .lines()
            .filter(|line| !line.ends_with(" passed") && !bare.lines().any(|other| other == *line))
            .map(str::to_owned)
            .collect();
        assert!(worse.is_empty(), "{module}: not so without the preload: {worse:#?}\n{described}");
    }
}

in_every_setup!(json_pickle_re_ctypes_mmap, same_results, &super::MODULES, &[]);
in_every_setup!(threading, same_results, &["test_threading"], &[]);
in_setups!([two_tiers TwoTiers, tight Tight] multiprocessing_fork, same_results, &["test_multiprocessing_fork"], &super::PARALLEL);
in_setups!([one_tier OneTier, interleaved Interleaved] multiprocessing_spawn, same_results, &["test_multiprocessing_spawn"], &["*TestQueue*", "*TestHeap*"]);

#[test]
fn report_is_read_rightly() {
    let xml = "<testsuite><testcase name=\"a.b\" status=\"run\" time=\"1\"/><testcase name=\"c\" status=\"run\">\
               <failure>x</failure></testcase><testcase name=\"d\"><system-out>error</system-out></testcase>\
               <testcase name=\"c\" /></testsuite>";
    assert_eq!(as_text(&results_of(xml)), "a.b passed\nc failure\nd passed\n");
}
