//! The command line as a whole: help, man pages, completions, and the verbs that look at files and processes.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::process::{Command, Output};

fn tierctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tierctl")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn help_and_man_page_name_the_exit_codes() {
    let help = stdout(&tierctl(&["--help"]));
    assert!(help.contains("6  bad input") && help.contains("128+N"), "{help}");
    let dir = tempfile::tempdir().unwrap();
    let man = dir.path().join("man1");
    assert!(tierctl(&["man", man.to_str().unwrap()]).status.success());
    let page = fs::read_to_string(man.join("tierctl.1")).unwrap();
    assert!(page.contains("bad input") && page.contains(".TH tierctl 1"));
    for verb in ["run", "ps", "stat", "policy", "completions", "man"] {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb} is not in the help");
        assert!(man.join(format!("tierctl-{verb}.1")).exists(), "{verb} has no page");
    }
}

#[test]
fn completions_know_the_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&tierctl(&["completions", shell]));
        for word in ["run", "policy", "stat"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    assert_eq!(tierctl(&["completions", "cmd.exe"]).status.code(), Some(2));
}

#[test]
fn wrong_usage_is_code_2_and_says_so_in_our_name() {
    for arguments in [&["bogus"][..], &["stat"], &["stat", "x"], &["stat", "1", "--watch=0"], &[]] {
        let output = tierctl(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    assert!(String::from_utf8_lossy(&tierctl(&["bogus"]).stderr).starts_with("tierctl: unrecognized"));
}

#[test]
fn the_example_policy_is_good_and_is_shown_in_full() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    let file = file.to_str().unwrap();
    fs::write(file, stdout(&tierctl(&["policy", "example"]))).unwrap();
    let value = json(&tierctl(&["policy", "check", file]));
    assert_eq!((&value["format"], &value["valid"]), (&"tiermem-policy/1".into(), &true.into()));
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["chain", "file", "format", "rules", "strategy", "tiers", "toml", "valid"]);

    let shown = json(&tierctl(&["policy", "show", file]));
    let again = dir.path().join("again.toml");
    fs::write(&again, shown["toml"].as_str().unwrap()).unwrap();
    let again = json(&tierctl(&["policy", "show", again.to_str().unwrap()]));
    assert_eq!(again["toml"], shown["toml"]);
    assert_eq!(json(&tierctl(&["policy", "show"]))["chain"], serde_json::json!(["dram"]));
}

#[test]
fn bad_policies_and_missing_processes_have_their_codes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    fs::write(&file, "version = 1\n[tier.dram]\nlimit = 0\n").unwrap();
    let output = tierctl(&["policy", "check", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&output.stderr).contains("policy.toml:3:"));
    assert_eq!(tierctl(&["policy", "check", "/no/such/file"]).status.code(), Some(3));
    assert_eq!(tierctl(&["stat", "4294967295"]).status.code(), Some(3));
    assert_eq!(tierctl(&["policy", "show", "4294967295"]).status.code(), Some(3));
    assert_eq!(tierctl(&["stat", &std::process::id().to_string()]).status.code(), Some(3));
}

#[test]
fn ps_lists_in_a_stable_form() {
    let value = json(&tierctl(&["ps"]));
    assert_eq!(value["format"], "tiermem-ps/1");
    assert!(value["processes"].is_array() && value["unreadable"].is_array());
}
