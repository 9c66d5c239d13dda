//! What every run of the tests looks at.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::mpsc;

use tiermem_sys::child::on_its_own_terminal;
use tiermem_sys::terminal::{Pair, set_size};

use crate::tools::{Own, PHASE, SOON, Set, TIERCTL, is_wanted, lab, package};
use std::os::fd::AsFd;

const MANIFEST: &str = "[package]\nname = \"guest-tested\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
const PROGRAM: &str = "fn main() { println!(\"a program of the package\"); }\n";
/// What cargo promises to tests, and what only the guest has. The kernel's number of the boot goes to the output.
const FIRST: &str = r#"
fn boot() -> String { std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap() }
#[test]
fn files_variables_and_programs_are_there() {
    assert_eq!(std::fs::read_to_string("tests/data/greeting").unwrap(), "hello");
    assert_eq!(std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/greeting")).unwrap(), "hello");
    assert_eq!(std::env::var("CARGO_PKG_NAME").unwrap(), "guest-tested");
    assert_eq!(std::env::var("OF_THE_USER").unwrap(), "1");
    let said = std::process::Command::new(env!("CARGO_BIN_EXE_guest-tested")).output().unwrap().stdout;
    assert_eq!(said, b"a program of the package\n");
}
#[test]
fn this_is_a_guest_with_cxl_memory() {
    println!("boot {}", boot());
    assert_eq!(std::env::var("TIERMEM_LAB_TIERS").unwrap(), "cxl0=cxl-node:1");
    assert!(std::path::Path::new("/sys/bus/cxl/devices/mem0").exists());
}
"#;
const SECOND: &str = r#"
#[test]
fn another_binary() { println!("boot {}", std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap()); }
#[test]
fn a_failure() { assert!(std::env::var("FAIL").is_err(), "as asked for"); }
"#;

/// `cargo test` of any package, with the lab as its runner: two test binaries share one boot, failures are cargo's, and with
/// cargo the guest ends.
#[test]
fn cargo_runs_a_packages_tests_in_one_guest() {
    if !is_wanted(Set::Short) {
        return;
    }
    let own = Own::new("cargo");
    let files = [
        ("Cargo.toml", MANIFEST),
        ("src/main.rs", PROGRAM),
        ("tests/first.rs", FIRST),
        ("tests/second.rs", SECOND),
        ("tests/data/greeting", "hello"),
    ];
    let folder = own.path("package");
    package(&folder, &files);
    // A shell keeps the guest for both calls of cargo, as a person's terminal would not: so it is asked for.
    let runner = format!("{TIERCTL} qemu exec --idle 600 --boot-timeout {PHASE} --topology {}", own.topology());
    let cargo = |fail: bool| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["test", "--offline", "--no-fail-fast", "--tests", "--", "--nocapture"]).current_dir(&folder);
        command.env("CARGO_TARGET_DIR", own.path("target")).env("OF_THE_USER", "1").env_remove("RUSTFLAGS");
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", &runner).env_remove("LD_PRELOAD");
        if fail {
            command.env("FAIL", "1");
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said, errors) = cargo(false);
    assert_eq!(code, Some(0), "{said}{errors}");
    let boots: Vec<&str> = said.lines().filter_map(|line| Some(line.split_once("boot ")?.1)).collect();
    assert_eq!(boots.len(), 2, "{said}");
    assert_eq!(boots[0], boots[1], "two boots");
    let keepers = own.keepers();
    assert_eq!(keepers.len(), 1);

    let (code, said, errors) = cargo(true);
    assert_eq!(code, Some(101), "{said}{errors}");
    assert!(errors.contains("as asked for"), "{errors}");
    assert_eq!(own.keepers(), keepers, "the guest was found again");

    let stopped = lab(&["stop", &own.topology()]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    own.leaves_nothing();
}

/// Keys go to the guest and its screen comes back, in the size of this terminal; the shell's exit code is tierctl's.
#[test]
fn a_shell_on_a_terminal() {
    if !is_wanted(Set::Short) {
        return;
    }
    let own = Own::new("shell");
    let pair = Pair::open((31, 97)).unwrap();
    let end = || pair.programs.try_clone().unwrap();
    let mut command = lab(&["shell", "--boot-timeout", PHASE, &own.topology()]);
    command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "dumb");
    let mut shell = on_its_own_terminal(&mut command).spawn().unwrap();
    drop(command);
    let mut screen = Screen::of(File::from(pair.screen.try_clone().unwrap()));
    screen.wait_for(":/# ");
    screen.types("stty size; tty\n", "31 97");
    set_size(pair.screen.as_fd(), (40, 120)).unwrap();
    // The size follows within a moment.
    screen.types("until stty size | grep -q '40 120'; do sleep .1; done; echo re''sized\n", "resized");
    // Keys that are typed before the program runs are the shell's: so the program itself must have spoken.
    screen.types("sh -c 'echo rea\"\"dy; exec cat'\n", "ready");
    screen.types("\u{3}", ":/# ");
    screen.types("tierctl list | head -3; echo $TIERMEM_LAB_TIERS\n", "cxl0=cxl-node:1");
    screen.types("exit 5\n", "");
    assert_eq!(shell.wait().unwrap().code(), Some(5), "{}", screen.seen);
    own.leaves_nothing();
}

/// What a terminal shows.
struct Screen {
    keyboard: File,
    pieces: mpsc::Receiver<String>,
    seen: String,
    at: usize,
}

impl Screen {
    fn of(mut screen: File) -> Self {
        let keyboard = screen.try_clone().unwrap();
        let (sender, pieces) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                if sender.send(String::from_utf8_lossy(&buffer[..count]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { keyboard, pieces, seen: String::new(), at: 0 }
    }

    #[track_caller]
    fn types(&mut self, keys: &str, awaited: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.wait_for(awaited);
    }

    /// Waits for a text after the last one that was waited for.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        loop {
            if let Some(at) = self.seen[self.at..].find(text) {
                self.at += at + text.len();
                return;
            }
            let piece = self.pieces.recv_timeout(SOON);
            self.seen.push_str(&piece.unwrap_or_else(|e| panic!("no `{text}` ({e}) in:\n{}", self.seen)));
        }
    }
}
