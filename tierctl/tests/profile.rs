//! `tierctl profile` with a real program under the real preload: what it shows is what the program did, and other tools read
//! it. Skipped where there is no preload (`cargo build --release -p tiermem-preload`) or no C compiler.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

const TIERCTL: &str = env!("CARGO_BIN_EXE_tierctl");

/// Blocks and their size, as in `profiled.c`.
const SMALL: (f64, f64) = (400_000.0, 48.0);
const MIDDLING: (f64, f64) = (8000.0, 5000.0);
const LARGE: (f64, f64) = (20.0, 3145728.0);

fn skip(why: &str) {
    eprintln!("SKIP {}: {why}", std::thread::current().name().unwrap_or("test"));
}

fn preload() -> Option<PathBuf> {
    let target = Path::new(TIERCTL).parent()?.parent()?;
    let built = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).ok();
    let found = ["debug", "release"].map(|profile| target.join(profile).join("libtiermem.so"));
    let newest = found.into_iter().filter(|path| built(path).is_some()).max_by_key(built);
    if newest.is_none() {
        skip(&format!("there is no libtiermem.so in {}/debug or release", target.display()));
    }
    newest
}

/// The program, at work.
struct Profiled {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    scratch: tempfile::TempDir,
}

impl Profiled {
    fn start(interval: &str) -> Option<Self> {
        let library = preload()?;
        let scratch = tempfile::tempdir().unwrap();
        let program = scratch.path().join("profiled");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/programs/profiled.c");
        let compiled = Command::new("cc").args(["-O1", "-g", "-fno-builtin", "-o"]).arg(&program).arg(source).status();
        let Ok(status) = compiled else {
            skip("there is no C compiler");
            return None;
        };
        assert!(status.success());
        let mut command = Command::new(&program);
        command.env("LD_PRELOAD", library).env("TIERMEM_PROFILE", interval).env("TIERMEM_LIMITS", "dram=32M");
        command.env("TIERMEM_TIERS", "slow=dax-file:memfd,size=512M").env_remove("TIERMEM_CONTROL_DIR");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut profiled = Self { child, input, output, scratch };
        profiled.wait_until_ready();
        Some(profiled)
    }

    fn wait_until_ready(&mut self) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
    }

    /// Has the program do it all again.
    fn again(&mut self) {
        self.input.as_mut().unwrap().write_all(b"\n").unwrap();
        self.wait_until_ready();
    }

    fn file(&self, name: &str) -> String {
        self.scratch.path().join(name).to_str().unwrap().to_owned()
    }

    fn tierctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(TIERCTL);
        command.arg("profile").arg(self.child.id().to_string()).args(arguments);
        command
    }

    #[track_caller]
    fn profile(&self, arguments: &[&str]) -> Output {
        let output = self.tierctl(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output
    }
}

impl Drop for Profiled {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Sum of a figure over the sites that have a call of this name.
fn sum(profile: &serde_json::Value, function: &str, figure: &str) -> f64 {
    let sites = profile["sites"].as_array().unwrap().iter();
    let named = sites.filter(|site| site["stack"].as_array().unwrap().iter().any(|call| call["symbol"] == function));
    named.flat_map(|site| site["tiers"].as_array().unwrap()).map(|tier| tier[figure].as_f64().unwrap()).sum()
}

/// Fails unless an estimate of `(blocks, bytes each)` is within five standard errors, at an interval of 64 KiB.
#[track_caller]
fn assert_near(got: f64, (count, size): (f64, f64)) {
    let p = -(-size / 65536.0f64).exp_m1();
    let error = size * (count * (1.0 - p) / p).sqrt();
    assert!((got - count * size).abs() <= 5.0 * error + 0.002 * count * size, "{got} of {}, ±{error}", count * size);
}

/// Small blocks come from fresh memory in the first round, so the slow path sees all of them.
#[test]
fn the_three_sites_are_found_with_their_amounts() {
    let Some(profiled) = Profiled::start("64K") else { return };
    let profile = json(&profiled.profile(&[]));
    assert_eq!((profile["format"].as_str(), profile["interval"].as_u64()), (Some("tiermem-profile/1"), Some(65536)));
    assert_near(sum(&profile, "small_ones", "allocated"), SMALL);
    assert_near(sum(&profile, "middling_ones", "allocated"), MIDDLING);
    assert_near(sum(&profile, "large_ones", "allocated"), LARGE);
    assert_near(sum(&profile, "large_ones", "live"), (LARGE.0 / 2.0, LARGE.1));
    let covers = profile["coverage"][0].as_str().unwrap();
    assert!(covers.starts_with("sampling began 0."), "{covers}");
}

#[test]
fn a_process_that_does_not_sample_is_told_to_and_stops_again() {
    let Some(mut profiled) = Profiled::start("off") else { return };
    let looking =
        profiled.tierctl(&["--seconds", "1.5"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // What is done before the process has heard of it is not in the profile; some of what comes after is.
    let until = std::time::Instant::now() + std::time::Duration::from_millis(1000);
    let mut rounds = 0.0;
    while std::time::Instant::now() < until {
        profiled.again();
        rounds += 1.0;
    }
    let output = looking.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not sample; sampling it for 1.5 s"));
    let allocated = sum(&json(&output), "large_ones", "allocated");
    assert!(allocated > 0.0 && allocated <= rounds * LARGE.0 * LARGE.1 * 1.01, "{allocated} in {rounds} rounds");
    // It stops with its next publication.
    std::thread::sleep(std::time::Duration::from_millis(60));
    profiled.again();
    let output = profiled.profile(&["--seconds", "0.1"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not sample"));
}

/// A reader of our own, in another language and with no library for it, sees the same.
#[test]
fn python_reads_the_pprof_file() {
    let Some(profiled) = Profiled::start("64K") else { return };
    let file = profiled.file("heap.pb.gz");
    profiled.profile(&["--allocated", "--output", &file]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pprof_walk.py");
    let Ok(walked) = Command::new("python3").arg(script).arg(&file).output() else {
        return skip("there is no python3");
    };
    assert!(walked.status.success(), "{walked:?}");
    let text = String::from_utf8_lossy(&walked.stdout).into_owned();
    let value = |line: &str, kind: &str| -> f64 {
        line.split(' ').find_map(|word| word.strip_prefix(kind)?.strip_prefix('=')).unwrap().parse().unwrap()
    };
    let large: Vec<&str> = text.lines().filter(|line| line.contains("block;large_ones;main")).collect();
    let of = |kind: &str| large.iter().map(|line| value(line, kind)).sum::<f64>();
    assert_near(of("alloc_space"), LARGE);
    assert_near(of("inuse_space"), (LARGE.0 / 2.0, LARGE.1));
    assert!((of("alloc_objects") - LARGE.0).abs() <= 1.0, "{text}");
    assert!(text.lines().all(|line| line.starts_with("tier=dram ") || line.starts_with("tier=slow ")), "{text}");
    assert!(large.iter().any(|line| line.starts_with("tier=slow")), "it does not fit into 32 MiB of DRAM: {text}");
}

/// pprof itself reads the file, by function and by tier.
#[test]
fn go_reads_the_pprof_file() {
    let Some(profiled) = Profiled::start("64K") else { return };
    let file = profiled.file("heap.pb.gz");
    profiled.profile(&["--output", &file]);
    let pprof = |arguments: &[&str]| {
        let mut command = Command::new("go");
        command.args(["tool", "pprof"]).args(arguments).arg(&file).env("HOME", profiled.scratch.path());
        command.output().ok().map(|output| {
            assert!(output.status.success(), "{output:?}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    };
    let Some(top) = pprof(&["-top", "-sample_index=alloc_space", "-unit=B"]) else {
        return skip("go is not installed");
    };
    let cumulative = |function: &str| -> f64 {
        let line = top.lines().find(|line| line.ends_with(&format!(" {function}"))).unwrap_or_else(|| panic!("{top}"));
        line.split_whitespace().nth(3).unwrap().trim_end_matches('B').parse().unwrap()
    };
    assert_near(cumulative("large_ones"), LARGE);
    assert_near(cumulative("middling_ones"), MIDDLING);
    assert!(pprof(&["-tags"]).unwrap().contains(": slow"));
    assert!(pprof(&["-top"]).unwrap().contains("Type: inuse_space"));
}

#[test]
fn pictures_and_texts_are_written_by_extension() {
    let Some(profiled) = Profiled::start("64K") else { return };
    for (name, holds) in [
        ("p.svg", "<svg"),
        ("p.folded", ";main;large_ones;block "),
        ("p.txt", "block from large_ones"),
        ("p.json", "tiermem-profile/1"),
    ] {
        let file = profiled.file(name);
        profiled.profile(&["--output", &file]);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(holds), "{name}: {text}");
    }
    let code = |arguments: &[&str]| profiled.tierctl(arguments).output().unwrap().status.code();
    assert_eq!(code(&["--output", "x.png"]), Some(2));
    assert_eq!(code(&["--interval", "1"]), Some(2));
    assert_eq!(code(&["--live", "--allocated"]), Some(2));
    assert_eq!(code(&["--output", "/no/such/folder/p.svg"]), Some(3));
    let none = Command::new(TIERCTL).args(["profile", "4294967295"]).output().unwrap();
    assert_eq!(none.status.code(), Some(3));
}
