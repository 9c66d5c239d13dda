//! `tierctl run` as its callers see it: exit codes, signals, files left behind, the environment that it passes on.
//!
//! Any library serves as a preload here; the C library, which every program has anyway, changes nothing.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const TIERCTL: &str = env!("CARGO_BIN_EXE_tierctl");

/// A library that can be preloaded into anything without effect.
fn harmless_library() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps.lines().filter_map(|l| l.split_whitespace().nth(5)).find(|p| p.contains("/libc.so"));
    PathBuf::from(path.expect("the test is linked with a shared C library"))
}

/// The tests may have been started with signals ignored (in the background of a script), or in a process group that the
/// kernel never stops (an orphaned one, as under many CI runners). So each run gets signals at their defaults, through
/// `env`, and a group of its own.
fn tierctl(arguments: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal", TIERCTL]).process_group(0);
    command.args(arguments).stdin(Stdio::null()).env("TIERMEM_PRELOAD", harmless_library());
    command.env_remove("LD_PRELOAD");
    command
}

fn run(arguments: &[&str]) -> Output {
    tierctl(&[&["run", "--quiet"], arguments].concat()).output().unwrap()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_programs_own_code_comes_back() {
    for expected in [0, 1, 6, 77, 255] {
        let output = run(&["--", "sh", "-c", &format!("echo out; echo err >&2; exit {expected}")]);
        assert_eq!(code(&output), Some(expected));
        assert_eq!((output.stdout.as_slice(), stderr(&output).as_str()), (b"out\n".as_slice(), "err\n"));
    }
}

#[test]
fn a_killed_program_gives_128_and_its_signal() {
    for (name, number) in [("TERM", 15), ("SEGV", 11), ("KILL", 9)] {
        let output = run(&["--", "sh", "-c", &format!("ulimit -c 0; kill -{name} $$")]);
        assert_eq!(code(&output), Some(128 + number), "{}", stderr(&output));
    }
    // Death by ^C is passed on as what it is.
    assert_eq!(run(&["--", "sh", "-c", "kill -INT $$"]).status.signal(), Some(2));
}

#[test]
fn what_cannot_be_run_has_its_codes() {
    let cases: &[(&[&str], i32, &str)] = &[
        (&[], 2, "CMD"),
        (&["--bogus", "--", "true"], 2, "--bogus"),
        (&["--", "no-such-command-anywhere"], 127, "not found"),
        (&["--", "/etc/passwd"], 126, "not an executable"),
        (&["--tier", "slow", "--", "true"], 3, "NAME=KIND:WHERE"),
        (&["--tier", "slow=tape:0", "--", "true"], 6, "tape"),
        (&["--limit", "dram=lots", "--", "true"], 6, "lots"),
        (&["--limit", "drum=1M", "--", "true"], 6, "the tiers are dram"),
        (&["--policy", "/no/such/policy", "--", "true"], 3, "/no/such/policy"),
        (&["--preload", "/no/such.so", "--", "true"], 125, "--preload"),
        (&["--report", "/no/such/folder/r.html", "--", "true"], 3, "r.html"),
    ];
    for (arguments, expected, part) in cases {
        let output = run(arguments);
        let text = stderr(&output);
        assert_eq!(code(&output), Some(*expected), "{arguments:?}: {text}");
        assert!(text.starts_with("tierctl: ") && text.contains(part), "{arguments:?}: {text}");
    }
}

#[test]
fn a_bad_policy_is_shown_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("p.toml");
    fs::write(&policy, "version = 1\n\n[placement]\nchain = [\"drum\"]\n").unwrap();
    let output = run(&["--policy", policy.to_str().unwrap(), "--", "true"]);
    assert_eq!(code(&output), Some(6));
    assert!(stderr(&output).contains("p.toml:4:"), "{}", stderr(&output));
    assert!(stderr(&output).contains('^'));
}

#[test]
fn programs_that_ignore_the_preload_need_force() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("main.c");
    let program = dir.path().join("static");
    fs::write(&source, "int main(void) { return 3; }\n").unwrap();
    let built = Command::new("cc").arg("-static").arg("-o").args([&program, &source]).output();
    if !built.is_ok_and(|o| o.status.success()) {
        eprintln!("SKIP programs_that_ignore_the_preload_need_force: cc cannot build a static program here");
        return;
    }
    let refused = run(&["--", program.to_str().unwrap()]);
    assert_eq!(code(&refused), Some(5));
    assert!(stderr(&refused).contains("statically linked") && stderr(&refused).contains("--force"));
    assert_eq!(code(&run(&["--force", "--", program.to_str().unwrap()])), Some(3));
}

#[test]
fn the_environment_tells_the_preload_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("p.toml");
    fs::write(&policy, "version = 1\n").unwrap();
    let mut command = tierctl(&["run", "--quiet", "--policy", "p.toml", "--tier", "slow=dax-file:sub/file,size=4M"]);
    command.args(["--tier", "far=cxl-node:1", "--limit", "dram=64M", "--limit", "slow=2M", "--", "env"]);
    let library = harmless_library().canonicalize().unwrap();
    let also = library.to_str().unwrap();
    let output = command.current_dir(dir.path()).env("LD_PRELOAD", also).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let value = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('=')).unwrap_or("(unset)");
    assert_eq!(value("TIERMEM_POLICY"), policy.canonicalize().unwrap().to_str().unwrap());
    let file = dir.path().canonicalize().unwrap().join("sub/file");
    let tiers: Vec<&str> = value("TIERMEM_TIERS").split(';').collect();
    assert!(tiers[0].starts_with(&format!("slow=dax-file:{},size=", file.display())), "{tiers:?}");
    assert_eq!(tiers[1], "far=cxl-node:1");
    assert_eq!(value("TIERMEM_LIMITS"), "dram=67108864;slow=2097152");
    assert_eq!(value("LD_PRELOAD"), format!("{also}:{also}"));
    let control = Path::new(value("TIERMEM_CONTROL_DIR"));
    assert!(control.starts_with("/dev/shm") && !control.exists(), "{} is left", control.display());

    let plain = run(&["--", "env"]);
    let text = String::from_utf8(plain.stdout).unwrap();
    assert!(!text.contains("TIERMEM_TIERS") && !text.contains("TIERMEM_POLICY"));
}

/// Starts a run whose program prints a line when it is ready, and waits for the line.
fn start(arguments: &[&str], script: &str) -> (Child, String, BufReader<std::process::ChildStdout>) {
    let mut command = tierctl(&[&["run", "--quiet"], arguments, &["--", "bash", "-c", script]].concat());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    (child, line.trim().to_owned(), reader)
}

fn send(signal: &str, pid: u32) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn signals_go_on_to_the_program() {
    for signal in ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH"] {
        let script = format!("trap 'echo got {signal}; exit 9' {signal}; echo ready; while :; do sleep 0.05; done");
        let (mut child, _, mut reader) = start(&[], &script);
        send(signal, child.id());
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest.trim(), format!("got {signal}"));
        assert_eq!(child.wait().unwrap().code(), Some(9));
    }
}

#[test]
fn a_stop_is_shared_and_so_is_going_on() {
    let state = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().trim().chars().next().unwrap()
    };
    let wait_for = |pid: &str, wanted: &dyn Fn(char) -> bool| {
        let start = std::time::Instant::now();
        while !wanted(state(pid)) {
            assert!(start.elapsed().as_secs() < 60, "process {pid} is in state {}", state(pid));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    let (mut child, pid, mut reader) = start(&[], "trap 'exit 4' TERM; echo $$; while :; do sleep 0.05; done");
    let own = child.id().to_string();
    send("TSTP", child.id());
    wait_for(&pid, &|s| s == 'T');
    wait_for(&own, &|s| s == 'T');
    send("CONT", child.id());
    wait_for(&own, &|s| s != 'T');
    wait_for(&pid, &|s| s != 'T');
    send("TERM", child.id());
    reader.read_to_string(&mut String::new()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

#[test]
fn ignored_signals_stay_ignored() {
    let mut command = Command::new("sh");
    let script = r#"trap '' HUP; exec "$0" run --quiet -- sh -c 'kill -HUP $$; kill -HUP $PPID; sleep 0.2; exit 5'"#;
    let status = command.args(["-c", script, TIERCTL]).env("TIERMEM_PRELOAD", harmless_library()).status().unwrap();
    assert_eq!(status.code(), Some(5));
}

#[test]
fn files_of_tiers_made_for_the_run_go_away_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let [new, old] = ["new", "old"].map(|n| dir.path().join(n));
    fs::write(&old, "keep").unwrap();
    let specs = [&new, &old].map(|f| format!("{}=dax-file:{},size=4M", f.file_name().unwrap().display(), f.display()));
    let tiers = ["--tier", &specs[0], "--tier", &specs[1]];
    let make = format!("touch {0} {0}.extents", new.display());

    let output = run(&[&tiers[..], &["--", "sh", "-c", &make]].concat());
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(!new.exists() && !dir.path().join("new.extents").exists() && old.exists());

    for signal in ["INT", "TERM", "HUP"] {
        // Only for bash's own wait to end at once: its `sleep` gets the signal too from a terminal, not from kill.
        let script = format!("{make}; echo $TIERMEM_CONTROL_DIR; exec sleep 1000");
        let (mut child, control, _) = start(&tiers, &script);
        assert!(new.exists() && Path::new(&control).exists());
        send(signal, child.id());
        let status = child.wait().unwrap();
        assert!(status.signal() == Some(2) || status.code().is_some_and(|c| c > 128), "{status}");
        assert!(!new.exists() && old.exists() && !Path::new(&control).exists(), "left after {signal}");
    }
}

#[test]
fn summaries_and_reports_are_written_even_without_figures() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("r.html");
    let output = tierctl(&["run", "--summary", "--report", report.to_str().unwrap(), "--", "true"]).output().unwrap();
    assert_eq!(code(&output), Some(0));
    assert!(stderr(&output).contains("exit code 0") && stderr(&output).contains("no process published figures"));
    assert!(fs::read_to_string(&report).unwrap().starts_with("<!doctype html>"));

    let output = tierctl(&["--json", "run", "--", "sh", "-c", "exit 3"]).output().unwrap();
    assert_eq!(code(&output), Some(3));
    let value: serde_json::Value = serde_json::from_str(&stderr(&output)).unwrap();
    assert_eq!((&value["format"], &value["exit_code"]), (&"tiermem-run/1".into(), &3.into()));
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 12, "{keys:?}");
}

#[test]
fn a_folder_that_cannot_be_a_report_is_refused_before_the_program_starts() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    let output = run(&["--report", dir.path().to_str().unwrap(), "--", "touch", mark.to_str().unwrap()]);
    assert_eq!(code(&output), Some(125));
    assert!(!mark.exists());
}

#[test]
fn a_trace_that_cannot_be_written_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let notes = folder.path().join("notes.txt");
    fs::write(&notes, "keep me").unwrap();
    let missing = folder.path().join("no/such/folder/run.tmt");
    for (file, expected, why) in [
        (notes.as_path(), 2, "no trace"),
        (folder.path(), 2, "not a regular file"),
        (Path::new("/dev/null"), 2, "not a regular file"),
        (missing.as_path(), 3, "cannot write the trace"),
    ] {
        let output = run(&["--trace", file.to_str().unwrap(), "--", "sh", "-c", "echo it ran"]);
        assert_eq!(code(&output), Some(expected), "{}", stderr(&output));
        assert!(output.stdout.is_empty() && stderr(&output).contains(why), "{}", stderr(&output));
    }
    assert_eq!(fs::read_to_string(&notes).unwrap(), "keep me");
}

/// The library of these tests records nothing, and that is said.
#[test]
fn sources_of_accesses_are_checked_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.tmt");
    let file = file.to_str().unwrap();
    let program = ["--", "sh", "-c", "echo it ran $TIERMEM_TRACE_ACCESSES"];
    for (option, complaint) in
        [("--trace-accesses=perhaps", "clear-refs or pagemap-scan"), ("--trace-accesses=auto,", "every=MS")]
    {
        let output = run(&[&["--trace", file, option], &program[..]].concat());
        assert_eq!((code(&output), output.stdout.as_slice()), (Some(2), b"".as_slice()));
        assert!(stderr(&output).contains(complaint), "{}", stderr(&output));
    }
    assert_eq!(code(&run(&[&["--trace-accesses"], &program[..]].concat())), Some(2), "without --trace");
    for (option, told) in [("--trace-accesses", "it ran auto\n"), ("--trace-accesses=off", "it ran off\n")] {
        let output = run(&[&["--trace", file, option], &program[..]].concat());
        assert_eq!(String::from_utf8_lossy(&output.stdout), told, "{}", stderr(&output));
    }
}

/// Where no source works, each is told with its reason, and the program does not run.
#[test]
fn without_any_source_of_accesses_the_program_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.tmt");
    // A mount namespace of its own, in which /proc is empty.
    let hidden = |script: &str| {
        let script = format!("mount -t tmpfs none /proc && {script}");
        Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .env("TIERMEM_PRELOAD", harmless_library())
            .output()
    };
    if !hidden("true").is_ok_and(|output| output.status.success()) {
        return eprintln!("SKIP without_any_source_of_accesses: only root can have a /proc of its own");
    }
    let output =
        hidden(&format!("exec {TIERCTL} run --quiet --trace {} --trace-accesses -- echo it ran", file.display()));
    let output = output.unwrap();
    assert_eq!((code(&output), output.stdout.as_slice()), (Some(5), b"".as_slice()), "{}", stderr(&output));
    for part in ["  clear-refs: ", "  pagemap-scan: ", "No such file"] {
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
    assert!(!file.exists());
}

#[test]
fn a_trace_that_is_not_made_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.tmt");
    let command = ["--trace", file.to_str().unwrap(), "--", "sh", "-c", "echo $TIERMEM_TRACE"];
    let output = run(&command);
    assert_eq!(code(&output), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), file.to_str().unwrap());
    assert!(stderr(&output).contains("nothing was recorded"), "{}", stderr(&output));
    assert!(!file.exists());
}
