//! Programs built by `tierctl instrument`: what they count against counts by hand and by valgrind, and what they do in
//! corners.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod compilers;
mod counts;
mod engine_thread;
mod harness;
mod placed;
mod processes;
mod strings;

use std::path::Path;
use std::process::Command;

use counts::Counted;
use harness::Program;

/// Each mode does `n` of one thing; the difference of two runs is what a thousand of them count, whatever the rest does.
fn thousand(program: &Program, mode: &str) -> Counted {
    let counts = |n: &str| program.counts(&[mode, n]);
    counts("2000").minus(counts("1000"))
}

#[test]
fn accesses_of_all_sizes_are_counted_exactly() {
    let program = Program::rust();
    for size in [1, 2, 4, 8, 16] {
        let loads = Counted { loads: 1000, bytes_loaded: 1000 * size, ..Counted::default() };
        assert_eq!(thousand(&program, &format!("load{size}")), loads);
        let stores = Counted { stores: 1000, bytes_stored: 1000 * size, ..Counted::default() };
        assert_eq!(thousand(&program, &format!("store{size}")), stores);
    }
    let crossing = Counted { loads: 1000, bytes_loaded: 8000, ..Counted::default() };
    assert_eq!(thousand(&program, "crossing"), crossing);
    let stack = Counted { loads: 1000, stores: 1000, bytes_loaded: 8000, bytes_stored: 8000, ..Counted::default() };
    assert_eq!(thousand(&program, "stack"), stack);
}

#[test]
fn an_atomic_change_is_one_store() {
    let atomic = Counted { stores: 1000, bytes_stored: 8000, ..Counted::default() };
    assert_eq!(thousand(&Program::rust(), "atomic"), atomic);
}

#[test]
fn copies_comparisons_and_fills_count_their_bytes() {
    let program = Program::rust();
    // 1 to 64 bytes, each a thousand times.
    let bytes = 1000 * (1..=64_u64).sum::<u64>();
    let copy = Counted {
        ranges_loaded: 64_000,
        ranges_stored: 64_000,
        range_bytes_loaded: bytes,
        range_bytes_stored: bytes,
        ..Counted::default()
    };
    assert_eq!(thousand(&program, "copy"), copy);
    assert_eq!(thousand(&program, "move"), copy);
    let fill = Counted { ranges_stored: 64_000, range_bytes_stored: bytes, ..Counted::default() };
    assert_eq!(thousand(&program, "fill"), fill);
    let compare = Counted { ranges_loaded: 128_000, range_bytes_loaded: 2 * bytes, ..Counted::default() };
    assert_eq!(thousand(&program, "compare"), compare);
}

#[test]
fn threads_count_together_and_apart() {
    let program = Program::rust();
    // How threads end and wait for one another differs from run to run by some accesses of the standard library's.
    let more = program.counts(&["threads", "2000"]).loads - program.counts(&["threads", "1000"]).loads;
    assert!(more.abs_diff(4000) < 100, "{more}");
    let report = program.report(&["threads", "5000"]);
    let threads = report["processes"][0]["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 5, "the first and four more");
    assert!(threads[1..].iter().all(|thread| thread["loads"].as_u64().unwrap() >= 5000), "{threads:?}");
}

#[test]
fn vectors_count_as_ranges_and_keep_their_registers() {
    if !std::arch::is_x86_feature_detected!("avx2") {
        eprintln!("SKIP vectors_count_as_ranges_and_keep_their_registers: this processor has no AVX2");
        return;
    }
    let vectors = Counted { ranges_loaded: 1000, range_bytes_loaded: 32_000, ..Counted::default() };
    assert_eq!(thousand(&Program::rust(), "vector"), vectors);
}

#[test]
fn valgrind_counts_the_same() {
    let program = Program::rust();
    for mode in ["load8", "store4", "mixed", "stack"] {
        let ours = thousand(&program, mode);
        let (loads, stores) = program.lackey(mode, &[mode, "2000"]);
        let (loads_before, stores_before) = program.lackey(mode, &[mode, "1000"]);
        assert_eq!((ours.loads, ours.stores), (loads - loads_before, stores - stores_before), "{mode}");
    }
}

/// A negative control: an executable whose checks of eight-byte loads return at once must not pass for a right one.
#[test]
fn a_check_that_does_nothing_is_noticed() {
    let program = Program::rust();
    let broken = program.with_empty_checks("__asan_check_load_add_8_");
    assert_eq!(thousand(&broken, "load8"), Counted::default());
    assert_eq!(thousand(&broken, "load4").loads, 1000);
}

/// What passes a check without a record is counted as if it had one: figures of all kinds are the same.
#[test]
fn what_needs_no_record_changes_no_figure() {
    let modes = ["load1", "store8", "load16", "crossing", "mixed", "stack", "copy", "move", "fill", "compare", "chase"];
    same_without("TIERMEM_INSTRUMENT_FILTER", &modes);
}

/// Figures of all kinds are the same where a variable is `off`.
fn same_without(variable: &str, modes: &[&str]) {
    // Containers may forbid it.
    let in_place = Command::new("setarch").args(["--addr-no-randomize", "true"]).status();
    if !in_place.is_ok_and(|status| status.success()) {
        eprintln!("SKIP with and without {variable}: `setarch --addr-no-randomize` does not work here");
        return;
    }
    let program = Program::rust();
    for mode in modes {
        let figures = |value: &str| {
            let report = program.report_in_place((variable, value), &[mode, "20000"]);
            let process = &report["processes"][0];
            ["threads", "tiers", "sites", "virtual_ns"].map(|name| process[name].to_string())
        };
        assert_eq!(figures("yes"), figures("off"), "{mode}");
    }
}

#[test]
fn a_storm_of_handlers_loses_nothing() {
    let program = Program::rust();
    let counts = |n: &str| {
        let report = program.report(&["storm", n]);
        assert_eq!(report["processes"][0]["lost"], 0);
        Counted::of(&report)
    };
    let (more, fewer) = (counts("8000000"), counts("1000000"));
    assert_eq!(more.loads - fewer.loads, 7_000_000);
    assert_eq!(more.bytes_loaded - fewer.bytes_loaded, 112_000_000);
    // Ten stores each, however many handlers run.
    assert!(more.stores >= 2_000, "{} stores: too few handlers ran to show anything", more.stores);
    assert_eq!(more.stores.abs_diff(fewer.stores) % 10, 0);
}

#[test]
fn checks_of_a_program_that_is_not_measured_return_at_once() {
    const RETURN: u8 = 0xc3;
    let firsts = Program::rust().checks_unmeasured();
    assert_eq!(firsts, vec![RETURN; 130]);
}

#[test]
fn children_ends_and_handlers_lose_nothing() {
    let program = Program::rust();
    // Parent and child read as much each; the child ends by _exit.
    let fork = program.report(&["fork", "3000"]);
    let mut ends: Vec<&str> = ends(&fork);
    ends.sort_unstable();
    assert_eq!(ends, ["_exit", "exit"]);
    for process in fork["processes"].as_array().unwrap() {
        let loads: u64 = process["threads"].as_array().unwrap().iter().map(|t| t["loads"].as_u64().unwrap()).sum();
        assert!((3000..8000).contains(&loads), "{process:#}");
    }
    assert_eq!(ends_of(&program, &["abort", "1000"]), ["signal 6"]);
    assert_eq!(ends_of(&program, &["kill", "1000"]), Vec::<String>::new());
    let killed = program.report(&["kill", "1000"]);
    assert_eq!(killed["without_report"].as_array().unwrap().len(), 1);
    // Five handlers of a thousand loads each, in a loop that makes none.
    assert_eq!(thousand(&program, "signals").loads, 5000);
}

fn ends(report: &serde_json::Value) -> Vec<&str> {
    report["processes"].as_array().unwrap().iter().map(|process| process["ended"].as_str().unwrap()).collect()
}

fn ends_of(program: &Program, words: &[&str]) -> Vec<String> {
    ends(&program.report(words)).into_iter().map(str::to_owned).collect()
}

#[test]
fn blocks_have_sites_and_tiers() {
    let program = Program::rust();
    let report = program.report_with(&["--tier", "cxl0"], &["blocks", "1000"]);
    let sites = report["processes"][0]["sites"].as_array().unwrap();
    let site = sites.iter().find(|site| site["allocations"] == 1000).expect("a site of a thousand blocks");
    assert_eq!(site["tier"], "cxl0");
    assert_eq!(site["bytes"], 1000 * 256);
    assert!(site["stack"].to_string().contains("counted::blocks"), "{site:#}");
}

#[test]
fn a_slower_tier_takes_longer() {
    let program = Program::rust();
    let time = |tier: &str| {
        let report =
            program.report_with(&["--tier", tier, "--cache", "48K/12@1.7,shared:256K/16@15"], &["chase", "20000"]);
        report["processes"][0]["virtual_ns"].as_f64().unwrap()
    };
    let (near, far) = (time("dram"), time("cxl0"));
    assert!(far > 1.5 * near, "{far} ns on cxl0, {near} on dram");
}

#[test]
fn a_trace_replays_to_the_same_counts() {
    let program = Program::rust();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.trace");
    let report = program.report_with(&["--trace", file.to_str().unwrap()], &["chase", "20000"]);
    let threads = &report["processes"][0]["threads"][0];
    let count = |name: &str| threads[name].as_u64().unwrap();
    let replayed = program.replay(&file);
    let accesses = count("loads") + count("stores") + count("ranges_loaded") + count("ranges_stored");
    assert_eq!(replayed["accesses"].as_u64().unwrap(), accesses);
    // The replay's caches see addresses, ours the order in which OS pages were first used.
    let (ours, theirs) = (count("misses") as f64, replayed["misses"].as_f64().unwrap());
    assert!((ours / theirs - 1.0).abs() < 0.02, "{ours} misses, replayed {theirs}");
}

#[test]
fn mistakes_are_told() {
    let tierctl = |words: &[&str]| Program::tierctl(words, Path::new("/"));
    let told = |words: &[&str], code: i32, text: &str| {
        let (ended, said) = tierctl(words);
        assert_eq!(ended, code, "{words:?}: {said}");
        assert!(said.contains(text), "{words:?}: {said}");
    };
    told(&["instrument", "--topology", "no-such-machine", "--", "true"], 6, "no-such-machine");
    told(&["instrument", "--tier", "attic", "--", "true"], 6, "there is dram, cxl0");
    told(&["instrument", "--cache", "48Q", "--", "true"], 2, "48Q");
    told(&["instrument", "--window", "0", "--", "true"], 2, "--window");
    told(&["instrument", "--policy", "/no/such/policy", "--", "true"], 3, "/no/such/policy");
    told(&["instrument", "--library", "/no/such.so", "--", "true"], 125, "/no/such.so");
    told(&["instrument", "--", "no-such-command"], 127, "no-such-command");
    told(&["instrument"], 2, "CMD");
    told(&["instrument", "--", "true"], 0, "no instrumented program ran");
}
