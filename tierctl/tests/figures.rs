//! `run`, `ps`, `stat` and the report with a real program under the real preload, the newest one of the debug and release
//! builds. Skipped where there is neither (`cargo build --release -p tiermem-preload`).

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const TIERCTL: &str = env!("CARGO_BIN_EXE_tierctl");

/// Awk holds what it is told to and can wait: a small program that every system has.
const PROGRAM: &str = r#"
BEGIN {
    for (i = 0; i < 60000; i++) a[i] = sprintf("%0200d", i)
    print "ready"; fflush()
    getline line < "/dev/stdin"
}"#;

fn preload(test: &str) -> Option<PathBuf> {
    let target = Path::new(TIERCTL).parent()?.parent()?;
    let built = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).ok();
    let found = ["debug", "release"].map(|profile| target.join(profile).join("libtiermem.so"));
    let newest = found.into_iter().filter(|path| built(path).is_some()).max_by_key(built);
    if newest.is_none() {
        eprintln!("SKIP {test}: there is no libtiermem.so in {}/debug or release", target.display());
    }
    newest
}

/// Starts awk under `tierctl run` and waits until it holds its memory. It ends when its input does.
fn start(library: &Path, report: &Path) -> Child {
    let mut command = Command::new(TIERCTL);
    command.args(["run", "--json", "--tier", "more=dram:0", "--limit", "dram=8M", "--report"]).arg(report);
    command.arg("--preload").arg(library).args(["--", "awk", PROGRAM]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until the program, which now idles, has published all that it holds, and gives its figures.
fn settled(pid: &str) -> serde_json::Value {
    const HELD: u64 = 60_000 * 200;
    let start = std::time::Instant::now();
    loop {
        let seen = json(&tierctl(&["stat", pid]));
        let live: u64 = seen["tiers"].as_array().unwrap().iter().filter_map(|tier| tier["live"].as_u64()).sum();
        if live >= HELD {
            return seen;
        }
        assert!(start.elapsed().as_secs() < 60, "an idle program never published its last figures: {seen:#}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn tierctl(arguments: &[&str]) -> Output {
    Command::new(TIERCTL).args(arguments).output().unwrap()
}

/// The process that `tierctl run` started.
fn program_of(child: &Child) -> String {
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    fs::read_to_string(children).unwrap().trim().to_owned()
}

#[test]
fn a_running_program_is_listed_watched_and_reported() {
    let Some(library) = preload("a_running_program_is_listed_watched_and_reported") else { return };
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("r.html");
    let child = start(&library, &report);
    let pid = program_of(&child);

    let listed = json(&tierctl(&["ps"]));
    let is_it = |p: &&serde_json::Value| p["pid"].as_u64() == pid.parse().ok();
    let entry = listed["processes"].as_array().unwrap().iter().find(is_it).expect("ps lists it");
    assert!(entry["command"].as_str().unwrap().contains("awk"));

    let seen = settled(&pid);
    let tiers = seen["tiers"].as_array().unwrap();
    let figure = |tier: usize, key: &str| tiers[tier][key].as_u64().unwrap();
    assert_eq!((&tiers[0]["name"], &tiers[1]["name"]), (&"dram".into(), &"more".into()));
    assert_eq!(figure(0, "limit"), 8 << 20);
    assert!(figure(0, "committed") <= 8 << 20, "{seen:#}");
    assert!(figure(1, "live") > 1 << 20, "12 MB do not fit into 8 MiB: {seen:#}");
    assert!(figure(0, "fallbacks") > 0);

    let policy = json(&tierctl(&["policy", "show", &pid]));
    assert_eq!(policy["chain"], serde_json::json!(["dram", "more"]));
    assert_eq!(policy["tiers"][0]["limit"], 8 << 20);

    // Anybody else may not.
    let mut other = Command::new("setpriv");
    other.args(["--reuid=65534", "--clear-groups", TIERCTL, "stat", &pid]);
    match other.output() {
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("belongs to user") => {
            assert_eq!(output.status.code(), Some(4));
        }
        _ => eprintln!("SKIP the check of another user's rights: needs root, setpriv and a readable build folder"),
    }

    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let summary: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    let more = &summary["tiers"][1];
    assert!(more["live_max"].as_u64().unwrap() > 1 << 20, "{summary:#}");
    assert!(more["allocations"].as_u64().unwrap() > 1000);
    assert!(summary["events"].as_array().unwrap().iter().any(|e| e["kind"] == "spilled"), "{summary:#}");
    assert_eq!(summary["processes"], 1);
    let page = fs::read_to_string(&report).unwrap();
    for part in ["tiers", "timeline", "sizes", "events"] {
        assert!(page.contains(&format!(r#"id="{part}""#)), "section {part} is missing");
    }
    let gone = tierctl(&["stat", &pid]);
    assert_eq!(gone.status.code(), Some(3));
}

#[test]
fn a_killed_program_leaves_its_last_figures_and_no_files() {
    let Some(library) = preload("a_killed_program_leaves_its_last_figures_and_no_files") else { return };
    let dir = tempfile::tempdir().unwrap();
    let child = start(&library, &dir.path().join("r.html"));
    let environment = fs::read(format!("/proc/{}/environ", program_of(&child))).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    let control = environment.split('\0').find_map(|v| v.strip_prefix("TIERMEM_CONTROL_DIR=")).unwrap();
    assert!(Path::new(control).join(program_of(&child)).exists());
    settled(&program_of(&child));
    assert!(Command::new("kill").args(["-KILL", &program_of(&child)]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(137));
    let summary: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((&summary["signal"], &summary["processes"]), (&9.into(), &1.into()));
    assert!(summary["tiers"][0]["allocations"].as_u64().unwrap() > 1000, "{summary:#}");
    assert!(!Path::new(control).exists());
}
