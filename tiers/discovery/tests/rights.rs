//! The mechanisms that depend on rights change with them: the same trials, once with ours and once without.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use tiermem_discovery::mechanism::{Mechanisms, Verdict};
use tiermem_discovery::{Roots, machine};

const CHILD: &str = "TIERMEM_TEST_PRINT_MECHANISMS";
const NOBODY: u32 = 65534;

fn verdict(mechanisms: &Mechanisms, name: &str) -> Verdict {
    let all = mechanisms.telemetry.iter().chain(&mechanisms.migration);
    all.clone().find(|m| m.name == name).unwrap_or_else(|| panic!("{name} is not listed")).verdict
}

/// Prints the verdicts for `without_rights_the_verdicts_change`, which runs this test in a child.
#[test]
fn print_mechanisms() {
    if std::env::var_os(CHILD).is_some() {
        let mechanisms = machine(&Roots::host()).mechanisms.unwrap();
        println!("\nMECHANISMS {}", serde_json::to_string(&mechanisms).unwrap());
    }
}

#[test]
fn without_rights_the_verdicts_change() {
    let ours = machine(&Roots::host()).mechanisms.unwrap();
    for mechanism in ours.telemetry.iter().chain(&ours.migration) {
        let explained = mechanism.reason.is_some() || mechanism.verdict == Verdict::Works;
        assert!(explained, "{} says why it does not work", mechanism.name);
    }
    // The build folder may be closed to others, so the child runs a copy.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("rights");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut child = Command::new(&copy);
    child
        .args(["--exact", "print_mechanisms", "--nocapture"])
        .env(CHILD, "1")
        .current_dir("/")
        .stderr(Stdio::inherit());
    let output = match child.uid(NOBODY).gid(NOBODY).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("SKIP without_rights_the_verdicts_change: cannot run a child as another user ({error})");
            return;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("MECHANISMS ")).expect("the child prints its mechanisms");
    let theirs: Mechanisms = serde_json::from_str(line).unwrap();
    if verdict(&ours, "userfaultfd-wp") == Verdict::Works && !unprivileged_userfaultfd() {
        assert_eq!(verdict(&theirs, "userfaultfd-wp"), Verdict::Limited);
        assert_eq!(verdict(&theirs, "userfaultfd-minor"), Verdict::Limited);
        let reason = |m: &Mechanisms| m.migration.iter().find(|m| m.name == "userfaultfd-wp").unwrap().remedy.clone();
        assert!(reason(&theirs).unwrap().contains("CAP_SYS_PTRACE"));
    } else {
        eprintln!(
            "SKIP userfaultfd in without_rights_the_verdicts_change: it is the same with and without rights here"
        );
    }
    if verdict(&ours, "damon") != Verdict::Absent {
        assert_eq!(verdict(&theirs, "damon"), Verdict::Absent);
    }
    // What needs no rights stays.
    for name in ["pagemap-scan", "mremap-dontunmap", "collapse", "clear-refs", "userfaultfd-move"] {
        assert_eq!(verdict(&theirs, name), verdict(&ours, name), "{name}");
    }
}

fn unprivileged_userfaultfd() -> bool {
    let setting = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd");
    let device = std::fs::metadata("/dev/userfaultfd").is_ok_and(|m| m.permissions().mode() & 0o006 == 0o006);
    device || setting.is_ok_and(|text| text.trim() == "1")
}
