//! Traces on the command line: imported, shown, checked, damaged, replayed.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tiermem_topology::{Profile, ProfileFigures};

fn tierctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tierctl")).args(arguments).output().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

const LOADS: u64 = 50_000;

/// Loads of a line each, far apart, as lackey prints them; imported to `trace`.
fn imported(folder: &Path, trace: &str) {
    let mut text = String::from("==7== Lackey\n");
    for n in 0..LOADS {
        writeln!(text, " L {:x},8", 0x1000_0000 + n * 4160).unwrap();
    }
    let input = folder.join("lackey.txt");
    fs::write(&input, text).unwrap();
    let done = json(&tierctl(&["trace", "import", "--from", "lackey", input.to_str().unwrap(), "-o", trace]));
    assert_eq!((done["events"].as_u64(), done["skipped"].as_u64()), (Some(LOADS), Some(0)));
}

fn latency_ns(profile: &str) -> f64 {
    match Profile::builtin(profile).unwrap().figures {
        ProfileFigures::Memory(memory) => memory.read_latency_ns.value,
        other => panic!("{other:?}"),
    }
}

/// Dependent loads take the latency of the tier that they go to, on an idle machine.
#[test]
fn a_chase_is_slower_by_the_ratio_of_the_latencies() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("run.tmt").display().to_string();
    imported(folder.path(), &trace);
    let arguments = ["replay", &trace, "--dependent", "all", "--place", "all=cxl0", "--topology", "one-expander"];
    let report = json(&tierctl(&arguments));
    assert_eq!(report["accesses"].as_u64(), Some(LOADS));
    assert_eq!(report["misses"].as_u64(), Some(LOADS));
    let near = |figure: &serde_json::Value, expected: f64| {
        let found = figure.as_f64().unwrap();
        assert!((found / expected - 1.0).abs() < 0.02, "{found} instead of {expected}");
    };
    let (dram, cxl) = (latency_ns("dram-ddr5"), latency_ns("cxl-asic"));
    near(&report["time_ns"], LOADS as f64 * cxl);
    near(&report["baseline_ns"], LOADS as f64 * dram);
    near(&report["slowdown"], cxl / dram);
    // Where nothing waits for anything, sixteen lines are on their way at once.
    let arguments = ["replay", &trace, "--dependent", "none", "--place", "all=cxl0"];
    assert!(json(&tierctl(&arguments))["time_ns"].as_f64().unwrap() < LOADS as f64 * cxl / 4.0);
}

#[test]
fn damage_is_told_and_passed_over_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("run.tmt").display().to_string();
    imported(folder.path(), &trace);
    let good = tierctl(&["trace", "check", &trace]);
    assert!(good.status.success());
    assert_eq!(json(&good)["good"].as_bool(), Some(true));
    // One byte in the middle, and the end missing.
    let mut bytes = fs::read(&trace).unwrap();
    let (middle, end) = (bytes.len() / 2, bytes.len() - 10);
    bytes[middle] ^= 1;
    bytes.truncate(end);
    let damaged = folder.path().join("damaged.tmt").display().to_string();
    fs::write(&damaged, &bytes).unwrap();
    let check = tierctl(&["trace", "check", &damaged]);
    assert_eq!(check.status.code(), Some(6));
    let found = json(&check);
    assert_eq!(found["damage"].as_array().unwrap().len(), 2, "{found}");
    let readable = found["records"].as_u64().unwrap();
    assert!(readable > 0 && readable < LOADS + 10);
    assert!(String::from_utf8_lossy(&check.stderr).contains("can be read"));
    let strict = tierctl(&["replay", &damaged]);
    assert_eq!(strict.status.code(), Some(6), "{strict:?}");
    let salvaged = tierctl(&["replay", &damaged, "--salvage"]);
    let report = json(&salvaged);
    assert!(report["accesses"].as_u64().unwrap() < LOADS);
    assert!(!report["damage"].as_array().unwrap().is_empty());
    assert!(String::from_utf8_lossy(&salvaged.stderr).contains("left out"));
}

#[test]
fn what_cannot_be_done_leaves_no_file_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("perf.txt"), folder.path().join("out.tmt"));
    fs::write(&input, "program 7 12.5: 250000 cpu-clock:  55f4b0e1d1a9 main+0x19 (/bin/program)\n").unwrap();
    let (input, out) = (input.to_str().unwrap(), out.to_str().unwrap());
    let refused = tierctl(&["trace", "import", "--from", "perf", input, "-o", out]);
    assert_eq!(refused.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("perf mem record"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // A trace of keys without times, sizes, or blocks that could be placed.
    fs::write(input, "key,op\n1,get\n").unwrap();
    assert!(tierctl(&["trace", "import", "--from", "csv", input, "-o", out]).status.success());
    let again = tierctl(&["trace", "import", "--from", "csv", input, "-o", out]);
    assert_eq!(again.status.code(), Some(2), "nothing is written over");
    for (arguments, code, why) in [
        (&[][..], 6, "--clients N"),
        (&["--clients", "1"], 6, "--value-size SIZE"),
        (&["--place", "all=cxl0"], 2, "--tiers says where values go"),
        (&["--tiers", "moon"], 2, "the host reaches dram, cxl0"),
        (&["--tiers", "cxl0=0"], 2, "at least a byte"),
        (&["--miss-us=-1"], 2, "--miss-us"),
    ] {
        let replay = tierctl(&[&["replay", out], arguments].concat());
        let said = String::from_utf8_lossy(&replay.stderr);
        assert!(replay.status.code() == Some(code) && said.contains(why), "{arguments:?}: {said}");
    }
    let lackey = folder.path().join("lackey.tmt").display().to_string();
    imported(folder.path(), &lackey);
    assert_eq!(tierctl(&["replay", &lackey, "--tiers", "dram"]).status.code(), Some(2));
    assert_eq!(tierctl(&["replay", "/nonexistent"]).status.code(), Some(3));
    assert_eq!(tierctl(&["replay", input]).status.code(), Some(6));
    assert_eq!(tierctl(&["replay", out, "--place", "all=moon"]).status.code(), Some(2));
}

/// A store with room for two values on the first tier: what is asked for thrice, in turns, is always found on the second.
#[test]
fn a_trace_of_keys_tells_what_a_store_on_two_tiers_would_do() {
    let folder = tempfile::tempdir().unwrap();
    let (input, trace) = (folder.path().join("keys.csv"), folder.path().join("keys.tmt").display().to_string());
    let lines: String = (0..300).map(|n| format!("{},{},4096\n", n * 10, n % 3)).collect();
    fs::write(&input, format!("time,key,size\n{lines}")).unwrap();
    let input = input.to_str().unwrap();
    assert!(tierctl(&["trace", "import", "--from", "csv", "--time-unit", "us", input, "-o", &trace]).status.success());
    let report = |tiers: &str| json(&tierctl(&["replay", &trace, "--topology", "one-expander", "--tiers", tiers]));
    let small = report("dram=8K,cxl0");
    assert_eq!(
        (small["gets"].as_u64(), small["misses"].as_u64(), small["first"].as_u64()),
        (Some(300), Some(3), Some(3))
    );
    let hits = |report: &serde_json::Value, tier: usize| report["tiers"][tier]["hits"].as_u64();
    assert_eq!((hits(&small, 0), hits(&small, 1)), (Some(0), Some(297)));
    let large = report("dram=12K,cxl0");
    assert_eq!((hits(&large, 0), hits(&large, 1)), (Some(297), Some(0)));
    // One value at a time: what a read of 4 KiB takes on an idle machine, on either tier.
    let p50 = |report: &serde_json::Value| report["get"]["p50_ns"].as_f64().unwrap();
    assert!(p50(&small) - p50(&large) > 0.9 * (latency_ns("cxl-asic") - latency_ns("dram-ddr5")));
    assert!(p50(&large) > latency_ns("dram-ddr5") && p50(&large) < 4.0 * latency_ns("dram-ddr5"), "{large}");
    let larger = report("dram=9T");
    assert!(larger["assumptions"].to_string().contains("dram has room for 9 TiB, not"), "{larger}");
}

/// What `tierctl run --trace` records has no accesses: a replay tells where the memory would lie.
#[test]
fn allocations_alone_are_placed_and_not_timed() {
    use tiermem_emulator::trace::{
        Allocate, Completeness, Definition, Event, Free, Provenance, StreamId, TierTag, Writer,
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.tmt");
    let from = Provenance { allocations: Completeness::Exact, common_clock: true, ..Provenance::default() };
    let mut writer = Writer::new(fs::File::create(&file).unwrap(), &from).unwrap();
    for (tag, name) in [(0, "dram"), (1, "far")] {
        writer.define(&Definition::Tier { tag: TierTag(tag), name: name.to_owned() }).unwrap();
    }
    for n in 0..100 {
        let tier = TierTag(u8::from(n % 4 == 0));
        let block = Allocate { at: n, address: n << 20, size: 1000 * (n % 2 + 1), tier, ..Allocate::default() };
        writer.event(StreamId(1), &Event::Allocate(block)).unwrap();
    }
    (0..50).for_each(|n| writer.event(StreamId(1), &Event::Free(Free { at: 100 + n, address: n << 20 })).unwrap());
    writer.finish().unwrap();
    let file = file.to_str().unwrap();
    let tiers = |places: &[&str]| {
        let places: Vec<&str> = places.iter().flat_map(|place| ["--place", place]).collect();
        let report = json(&tierctl(&[&["replay", file], &places[..]].concat()));
        assert_eq!(
            (report["format"].as_str(), report["mode"].as_str()),
            (Some("tiermem-replay-tally/1"), Some("functional"))
        );
        let tier = |row: &serde_json::Value| {
            let figure = |name: &str| row[name].as_u64().unwrap();
            (row["tier"].as_str().unwrap().to_owned(), figure("blocks"), figure("bytes_max"), figure("bytes_left"))
        };
        report["tiers"].as_array().unwrap().iter().map(tier).collect::<Vec<_>>()
    };
    assert_eq!(tiers(&[]), [("dram".to_owned(), 100, 150_000, 75_000)]);
    let by_size = [("dram".to_owned(), 50, 50_000, 25_000), ("cxl0".to_owned(), 50, 100_000, 50_000)];
    assert_eq!(tiers(&["size:1500-3000=cxl0"]), by_size);
    let recorded = [("dram".to_owned(), 75, 125_000, 63_000), ("cxl0".to_owned(), 25, 25_000, 12_000)];
    assert_eq!(tiers(&["as-recorded", "recorded:far=cxl0"]), recorded);
    let unknown = tierctl(&["replay", file, "--place", "as-recorded"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("--place recorded:far=TIER"));
}

/// What a recording tells of looks at memory is shown, and goes to the sites and tiers whose memory it was.
#[test]
fn what_was_seen_is_shared_out_over_sites_and_tiers() {
    use tiermem_emulator::trace::{
        Allocate, Completeness, Counts, Event, Interval, Provenance, SiteId, StreamId, TierTag, Writer,
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.tmt");
    let from = Provenance {
        accesses: Completeness::Aggregated,
        allocations: Completeness::Exact,
        common_clock: true,
        ..Provenance::default()
    };
    let mut writer = Writer::new(fs::File::create(&file).unwrap(), &from).unwrap();
    let extent = 2 << 20;
    for (n, site) in [(0, 1), (1, 2)] {
        let block = Allocate { at: n, site: SiteId(site), address: n * extent, size: extent, tier: TierTag(0) };
        writer.event(StreamId(1), &Event::Allocate(block)).unwrap();
    }
    // In two looks: an eighth of the first block each time; of the second one, nothing.
    for n in 1..3 {
        for (address, hits) in [(0, 64), (extent, 0)] {
            let counts = Counts::Seen { hits, looks: 512 };
            let seen = Interval { at: n * 100, ticks: 50, address, len: extent, counts };
            writer.event(StreamId(2), &Event::Interval(seen)).unwrap();
        }
    }
    writer.finish().unwrap();
    let file = file.to_str().unwrap();
    let shown = json(&tierctl(&["trace", "show", file]));
    assert_eq!(shown["accesses"].as_str(), Some("counted by extent and interval"));
    assert_eq!(shown["kinds"]["interval"].as_u64(), Some(4));
    let report = json(&tierctl(&["replay", file, "--place", "addr:0x0-0x1fffff=cxl0"]));
    assert_eq!((report["mode"].as_str(), report["accesses"].as_str()), (Some("functional"), Some("counted")));
    let seen = |rows: &str, key: &str, value: serde_json::Value| {
        let row = report[rows].as_array().unwrap().iter().find(|row| row[key] == value).unwrap();
        row["bytes_seen"].as_f64().unwrap()
    };
    let quarter = (extent / 4) as f64;
    assert_eq!((seen("tiers", "tier", "cxl0".into()), seen("tiers", "tier", "dram".into())), (quarter, 0.0));
    assert_eq!((seen("sites", "site", 1.into()), seen("sites", "site", 2.into())), (quarter, 0.0));
}
