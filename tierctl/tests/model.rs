//! `tierctl model` and `tierctl probe --emulated`, as a user or a script runs them.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn tierctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tierctl")).args(arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refusal(arguments: &[&str]) -> (i32, String) {
    let output = tierctl(arguments);
    assert!(output.stdout.is_empty(), "nothing is printed that looks like a result");
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_figure_says_what_it_is_worth() {
    let list = json(&tierctl(&["model", "list"]));
    assert_eq!(list["format"], "tiermem-device-profiles/1");
    let profiles = list["profiles"].as_array().unwrap();
    assert_eq!(profiles.len(), 16);
    for figure in profiles.iter().flat_map(|profile| profile["figures"].as_array().unwrap()) {
        assert!(["measured", "simulated", "vendor", "assumed"].contains(&figure["status"].as_str().unwrap()));
        assert!(figure["source"].as_str().unwrap().len() > 10, "{figure}");
    }
}

/// The picture in the book is what the command draws.
#[test]
fn the_picture_in_the_book_is_up_to_date() {
    let folder = TempDir::new().unwrap();
    let drawn = folder.path().join("curves.svg");
    assert!(tierctl(&["model", "plot", "--out", drawn.to_str().unwrap()]).status.success());
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images/loaded-latency.svg");
    let same = std::fs::read(drawn).unwrap() == std::fs::read(book).unwrap();
    assert!(same, "draw it again: tierctl model plot --out docs/images/loaded-latency.svg");
}

#[test]
fn a_probe_in_virtual_time_agrees_with_the_profile() {
    let probed = json(&tierctl(&["probe", "--emulated", "cxl-asic"]));
    assert_eq!(
        (probed["format"].as_str(), probed["mode"].as_str()),
        (Some("tiermem-emulated-probe/1"), Some("virtual"))
    );
    assert!(probed["error_max"].as_f64().unwrap() <= 0.01);
    let tier = &probed["tiers"][0];
    assert!((tier["read_latency_ns"].as_f64().unwrap() / 213.204 - 1.0).abs() < 0.01, "{tier}");
    let one = json(&tierctl(&["probe", "--emulated", "inference-server", "--tier", "gpu0"]));
    assert_eq!(one["tiers"].as_array().unwrap().len(), 1);
    let other = json(&tierctl(&["probe", "--emulated", "pool-2", "--host", "host1", "--tier", "shared"]));
    assert_eq!(other["host"], "host1");
}

#[test]
fn a_profile_that_is_written_is_read_again() {
    let folder = TempDir::new().unwrap();
    let shown = tierctl(&["model", "show", "cxl-fpga", "--toml"]);
    let file = folder.path().join("mine.toml");
    std::fs::write(&file, &shown.stdout).unwrap();
    let again = tierctl(&["model", "show", file.to_str().unwrap(), "--toml"]);
    assert_eq!(String::from_utf8_lossy(&again.stdout), String::from_utf8_lossy(&shown.stdout));
    std::fs::write(&file, String::from_utf8_lossy(&shown.stdout).replace("measured", "guessed")).unwrap();
    let (code, text) = refusal(&["model", "show", file.to_str().unwrap()]);
    assert!(code == 6 && text.contains("mine.toml:9:10: unknown status `guessed`"), "{code} {text}");
}

#[test]
fn what_this_machine_measures_becomes_a_profile() {
    let folder = TempDir::new().unwrap();
    let profiles = folder.path().join("profiles");
    let arguments = ["probe", "--quick", "--size", "16M", "--tier", "dram0", "--profiles", profiles.to_str().unwrap()];
    let probed = Command::new(env!("CARGO_BIN_EXE_tierctl"))
        .args(arguments)
        .env("XDG_CACHE_HOME", folder.path())
        .output()
        .unwrap();
    let latency = json(&probed)["tiers"][0]["read_latency_ns"]["median"].as_f64().unwrap();
    let file = profiles.join("dram0.toml");
    let shown = json(&tierctl(&["model", "show", file.to_str().unwrap()]));
    let figure = &shown["figures"][0];
    assert_eq!((figure["key"].as_str(), figure["status"].as_str()), (Some("read_latency_ns"), Some("measured")));
    assert!((figure["value"].as_str().unwrap().parse::<f64>().unwrap() - latency).abs() < 1e-9);
    // A noisy curve may have cliffs that no probe finds exactly; latency without load has none.
    let again = tierctl(&["probe", "--emulated", file.to_str().unwrap()]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    let found = again["tiers"][0]["read_latency_ns"].as_f64().unwrap();
    assert!(
        (found / latency - 1.0).abs() < 0.01,
        "the model of this machine's DRAM is as slow as it is: {found} {latency}"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let cases: [(&[&str], i32, &str); 6] = [
        (&["model", "show", "cxl-nothing"], 3, "neither a shipped profile"),
        (&["model", "predict", "cxl-nothing"], 3, "neither a shipped topology or profile"),
        (&["probe", "--emulated", "pcie5-x8"], 5, "is a link and holds nothing"),
        (&["probe", "--emulated", "one-expander", "--host", "nobody"], 3, "no host nobody in this topology: server"),
        (
            &["probe", "--emulated", "one-expander", "--tier", "nothing"],
            3,
            "no tier nothing in this topology: dram, cxl0",
        ),
        (&["model", "predict", "nvme-gen5"], 5, "reaches no memory"),
    ];
    for (arguments, code, words) in cases {
        let (found, text) = refusal(arguments);
        assert!(found == code && text.contains(words), "{arguments:?}: {found} {text}");
    }
}
