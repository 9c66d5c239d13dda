//! `tierctl sample`: right within its own band where it gives a figure, and silent where it cannot tell.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

const TIERCTL: &str = env!("CARGO_BIN_EXE_tierctl");

/// Each run samples for seconds; one at a time, so that they do not take the machine from one another.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tierctl(arguments: &[&str]) -> Output {
    Command::new(TIERCTL).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The program in `programs/kernels.c`; `None`, said aloud, without a C compiler.
fn kernels(folder: &tempfile::TempDir) -> Option<PathBuf> {
    let program = folder.path().join("kernels");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/kernels.c");
    let built = Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(source).status();
    if built.is_ok_and(|status| status.success()) {
        return Some(program);
    }
    eprintln!("SKIP tierctl sample: there is no C compiler");
    None
}

/// Samples the program; `None`, said aloud, where the machine has no timer for it or is too busy to be calibrated.
fn sampled(kernel: &str, mib: u64, seconds: &str, topology: &str) -> Option<(Output, serde_json::Value)> {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let program = kernels(&folder)?;
    let (program, mib) = (program.to_str().unwrap(), mib.to_string());
    let output = tierctl(&["--json", "sample", "--topology", topology, "--", program, kernel, &mib, seconds]);
    let text = stderr(&output);
    if text.contains("software timer") || text.contains("x86-64 with perf") || text.contains("machine is idle") {
        eprintln!("SKIP tierctl sample: {text}");
        return None;
    }
    let document = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    Some((output, document))
}

/// Beyond the last-level cache, whatever it is, as far as the calibration itself goes.
fn beyond_caches() -> u64 {
    let list: serde_json::Value = serde_json::from_slice(&tierctl(&["list"]).stdout).unwrap();
    let caches = list["machine"]["last_level_cache_bytes"].as_u64().unwrap_or(32 << 20);
    (caches >> 20).max(8).next_power_of_two() * 8
}

/// Long enough for the samples that show that a chase is beyond the caches: as many as the calibration takes.
const SECONDS: &str = "3";

#[test]
fn a_chase_and_half_a_chase_are_found_within_the_band() {
    for kernel in ["chase", "mixed"] {
        let Some((output, found)) = sampled(kernel, beyond_caches(), SECONDS, "one-expander") else { return };
        assert_eq!(output.status.code(), Some(0), "{found}");
        assert_eq!((&found["format"], &found["mode"]), (&"tiermem-sampled/1".into(), &"sampled".into()));
        assert_eq!(found["experimental"], true);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let share: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
        let ratio = found["latency_ratio"].as_f64().unwrap();
        assert!((2.1..2.3).contains(&ratio), "{ratio}");
        let truth = 1.0 + share * (ratio - 1.0);
        let of = |name: &str| found["slowdown"][name].as_f64().unwrap();
        // Making the memory is in the program's time, and not in its own account of it: two in a hundred.
        let slack = 0.02 * ratio;
        assert!(of("low") - slack <= truth && truth <= of("high") + slack, "{truth}: {found}");
        assert!(of("high") - of("low") < 0.35, "a band that says nothing: {found}");
        assert!(of("low") <= of("likely") && of("likely") <= of("high"), "{found}");
    }
}

#[track_caller]
fn refused(found: &(Output, serde_json::Value), share: &str, word: &str) {
    let (output, found) = found;
    assert_eq!(output.status.code(), Some(5), "{found}");
    assert!(found["slowdown"].is_null(), "{found}");
    assert!(found["refusal"].as_str().unwrap().contains(word), "{found}");
    assert!(found[share].as_f64().unwrap() > 0.4, "{found}");
}

#[test]
fn a_stream_is_refused() {
    let Some(found) = sampled("stream", 64, "1", "one-expander") else { return };
    refused(&found, "in_order", "reads memory in order");
}

#[test]
fn a_loop_in_the_caches_is_refused() {
    let Some(found) = sampled("chase", 1, "1", "one-expander") else { return };
    refused(&found, "perhaps_cached", "the caches may have answered");
}

#[test]
fn a_short_program_is_refused_and_arithmetic_is_not_slowed_down() {
    let Some((output, found)) = sampled("compute", 0, "0.01", "one-expander") else { return };
    assert_eq!(output.status.code(), Some(5), "{found}");
    assert!(found["refusal"].as_str().unwrap().contains("too few"), "{found}");
    let Some((output, found)) = sampled("compute", 0, "1", "pool-4-coherent") else { return };
    assert_eq!(output.status.code(), Some(0), "{found}");
    assert!(found["latency_ratio"].as_f64().unwrap() > 2.5, "a pool behind a switch: {found}");
    assert!(found["slowdown"]["high"].as_f64().unwrap() < 1.2, "{found}");
}

#[test]
fn bad_input_is_refused_before_anything_is_measured() {
    for (arguments, code, word) in [
        (&["sample"][..], 2, "CMD"),
        (&["sample", "--topology", "no-such", "--", "true"], 3, "no-such"),
        (&["sample", "--tier", "cxl9", "--", "true"], 3, "there are dram, cxl0"),
        (&["sample", "--topology", "inference-server", "--tier", "ssd0", "--", "true"], 3, "that loads can reach"),
        (&["sample", "--", "no-such-command"], 127, "not found"),
    ] {
        let output = tierctl(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(word), "{arguments:?}: {}", stderr(&output));
    }
}
