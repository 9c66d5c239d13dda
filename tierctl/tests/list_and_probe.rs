//! `tierctl list` and `tierctl probe`, as a user or a script runs them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// Runs tierctl with a cache of its own.
fn tierctl(cache: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tierctl")).args(arguments).env("XDG_CACHE_HOME", cache.path()).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refusal(output: &Output) -> (i32, String) {
    assert!(output.stdout.is_empty(), "nothing is printed that looks like a result");
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tiers/discovery/tests/fixtures").join(name)
}

#[test]
fn list_shows_this_machine_as_versioned_json() {
    let cache = TempDir::new().unwrap();
    let list = json(&tierctl(&cache, &["list"]));
    assert_eq!(list["format"], "tiermem-list/1");
    let tiers = list["tiers"].as_array().unwrap();
    assert!(tiers.iter().any(|tier| tier["kind"] == "dram"), "every machine has DRAM");
    for mechanism in list["mechanisms"]["telemetry"].as_array().unwrap() {
        let verdict = mechanism["verdict"].as_str().unwrap();
        assert!(verdict == "works" || mechanism["reason"].is_string(), "{mechanism}");
    }
}

#[test]
fn list_shows_another_machine_and_refuses_what_is_none() {
    let cache = TempDir::new().unwrap();
    let list = json(&tierctl(&cache, &["list", "--from", fixture("lstopo-cxl-node.xml").to_str().unwrap()]));
    assert_eq!(list["tiers"][1]["name"], "cxl1");
    assert!(list["mechanisms"].is_null());
    let (code, text) = refusal(&tierctl(&cache, &["list", "--from", "/nonexistent.xml"]));
    assert!(code == 3 && text.contains("/nonexistent.xml"), "{code} {text}");
    let (code, text) = refusal(&tierctl(&cache, &["list", "--from", fixture("vm.tree").to_str().unwrap()]));
    assert!(code == 6 && text.contains("lstopo --of xml"), "{code} {text}");
}

#[test]
fn what_probe_measures_list_shows() {
    let cache = TempDir::new().unwrap();
    let picture = cache.path().join("curve.svg");
    let arguments = ["probe", "--quick", "--size", "32M", "--tier", "dram0", "--plot", picture.to_str().unwrap()];
    let probed = tierctl(&cache, &arguments);
    if probed.status.code() == Some(3) {
        eprintln!("SKIP what_probe_measures_list_shows: no node 0 ({})", String::from_utf8_lossy(&probed.stderr));
        return;
    }
    let probed = json(&probed);
    assert_eq!(probed["tiers"][0]["location"], "0");
    assert!(std::fs::read_to_string(picture).unwrap().contains("latency of a dependent load, ns"));
    let list = json(&tierctl(&cache, &["list"]));
    let dram = list["tiers"].as_array().unwrap().iter().find(|tier| tier["name"] == "dram0").unwrap();
    let latency = &dram["attributes"]["read_latency_ns"];
    assert_eq!(latency["source"], "measured");
    assert_eq!(latency["value"], probed["tiers"][0]["read_latency_ns"]["median"]);
    assert!(latency["why"].is_string() && !latency["others"].as_array().unwrap().is_empty(), "the other figure stays");
}

#[test]
fn probe_refuses_what_it_cannot_measure() {
    let cache = TempDir::new().unwrap();
    let (code, text) = refusal(&tierctl(&cache, &["probe", "--tier", "nonsuch"]));
    assert!(code == 3 && text.contains("tierctl list"), "{code} {text}");
    let (code, _) = refusal(&tierctl(&cache, &["probe", "--spec", "x=nonsuch:1"]));
    assert_eq!(code, 6);
    let (code, _) = refusal(&tierctl(&cache, &["probe", "--size", "1M"]));
    assert_eq!(code, 2);
    assert!(!cache.path().join("tiermem").exists(), "nothing was measured, so nothing is kept");
}
