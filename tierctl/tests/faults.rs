//! `tierctl fault` and `tierctl run --faults` as their callers see them: exit codes, messages, what is passed on.
//!
//! Any library serves as a preload here; what the faults do in a program is tested beside the allocator.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const TIERCTL: &str = env!("CARGO_BIN_EXE_tierctl");
const GOOD: &str = "version = 1\nseed = 5\n[[fault]]\nkind = \"full\"\ntier = \"slow\"\nat_operation = 3\n";

fn harmless_library() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps.lines().filter_map(|l| l.split_whitespace().nth(5)).find(|p| p.contains("/libc.so"));
    PathBuf::from(path.expect("the test is linked with a shared C library"))
}

fn tierctl(arguments: &[&str]) -> Output {
    let mut command = Command::new(TIERCTL);
    command.args(arguments).stdin(Stdio::null()).env("TIERMEM_PRELOAD", harmless_library());
    command.env_remove("LD_PRELOAD").output().unwrap()
}

fn plan(folder: &Path, text: &str) -> String {
    let path = folder.join("plan.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_plan_is_shown_checked_and_written_on_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), GOOD);
    let script = tierctl(&["fault", &plan, "--script"]);
    assert_eq!(String::from_utf8_lossy(&script.stdout).trim_end(), "seed=5;full tier=slow at-op=3");
    let checked = tierctl(&["fault", &plan, "--check"]);
    assert_eq!((checked.status.code(), checked.stdout.as_slice()), (Some(0), b"".as_slice()));
    let json = tierctl(&["fault", &plan]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&value["format"], &value["faults"][0]["at_operation"]), (&"tiermem-fault-plan/1".into(), &3.into()));
}

#[test]
fn a_program_gets_the_script_and_an_outer_one_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), GOOD);
    let show = ["--", "sh", "-c", "echo [$TIERMEM_FAULTS]"];
    let tier = ["run", "--quiet", "--tier", "slow=dax-file:memfd,size=8M"];
    let output = tierctl(&[&tier, ["--faults", &plan].as_slice(), &show].concat());
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(0), b"[seed=5;full tier=slow at-op=3]\n".as_slice())
    );
    let mut command = Command::new(TIERCTL);
    command.args([&tier, show.as_slice()].concat()).env("TIERMEM_PRELOAD", harmless_library());
    let output = command.env("TIERMEM_FAULTS", "full at-op=1").output().unwrap();
    assert_eq!(output.stdout, b"[]\n");
}

#[test]
fn what_cannot_happen_is_said_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let tier = ["--tier", "slow=dax-file:memfd,size=8M"];
    let run = |text: &str, tier: &[&str]| {
        let plan = plan(folder.path(), text);
        tierctl(&[&["run", "--quiet", "--faults", &plan], tier, &["--", "true"]].concat())
    };
    let refused = |output: &Output, word: &str| {
        assert_eq!(output.status.code(), Some(6), "{}", stderr(output));
        assert!(stderr(output).contains(word), "{}", stderr(output));
    };
    refused(
        &run(&GOOD.replace("full", "fall"), &tier),
        "plan.toml:4:8: there is no fault `fall`; did you mean `full`?",
    );
    refused(&run(&GOOD.replace("slow", "far"), &tier), "the tiers that can fail here are slow");
    refused(&run(GOOD, &[]), "add one with --tier");
    let crash = "version = 1\n[[fault]]\nkind = \"crash\"\nat_persist_point = 2\n";
    refused(&run(crash, &tier), "at_persist_point");
    let slow = run(&GOOD.replace("kind = \"full\"", "kind = \"slow\"\nfactor = 2"), &tier);
    assert_eq!(slow.status.code(), Some(0));
    assert!(stderr(&slow).contains("models in virtual time"), "{}", stderr(&slow));
    let missing = tierctl(&["run", "--faults", "/nowhere/plan.toml", "--", "true"]);
    assert_eq!(missing.status.code(), Some(3), "{}", stderr(&missing));
    assert_eq!(tierctl(&["fault", "/nowhere/plan.toml"]).status.code(), Some(3));
}
