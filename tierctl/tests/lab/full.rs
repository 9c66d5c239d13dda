//! What `cargo xtask test --lab` looks at beside the short set.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use tiermem_sys::signal::kill;
use tiermem_sys::signal::number::{SIGINT, SIGKILL};

use crate::tools::{Own, PHASE, Set, is_wanted, lab, scratch_folders, until};

/// The trace is shown, and nothing is tried again: the guest's first program had run.
#[test]
fn a_kernel_that_panics() {
    if !is_wanted(Set::Full) {
        return;
    }
    let own = Own::new("panic");
    let topology = own.topology();
    let script = "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger";
    let output = lab(&["run", "--boot-timeout", PHASE, &topology, "--", "sh", "-c", script]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{errors}");
    assert!(errors.contains("kernel panicked") && errors.contains("sysrq"), "{errors}");
    assert!(errors.contains("Call Trace") && !errors.contains("trying again"), "{errors}");
    own.leaves_nothing();
}

/// A program that hangs, a kernel that does nothing else any more: the limit ends both.
#[test]
fn a_guest_that_hangs() {
    if !is_wanted(Set::Full) {
        return;
    }
    let own = Own::new("hang");
    let topology = own.topology();
    let output = lab(&["run", "--boot-timeout", PHASE, "--timeout", "2", &topology, "--", "sleep", "100000"]);
    let output = { output }.output().unwrap();
    assert_eq!(output.status.code(), Some(124), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the program took more than 2 s"));
    own.leaves_nothing();
}

/// `^C` while a program runs, and the worst end of a keeper: nothing is left either time.
#[test]
fn signals_leave_nothing() {
    if !is_wanted(Set::Full) {
        return;
    }
    let own = Own::new("signals");
    let topology = own.topology();
    let before = scratch_folders();
    let start = |arguments: &[&str]| {
        let mut command = lab(arguments);
        command.args([&topology, "--", "sh", "-c", "echo started; sleep 100000"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "started\n");
        child
    };
    let mut run = start(&["run", "--boot-timeout", PHASE]);
    kill(run.id(), SIGINT).unwrap();
    assert_eq!(run.wait().unwrap().signal(), Some(SIGINT));
    own.leaves_nothing();

    let mut exec = start(&["exec", "--boot-timeout", PHASE, "--topology"]);
    let keepers = own.keepers();
    assert_eq!(keepers.len(), 1);
    kill(keepers[0], SIGKILL).unwrap();
    let output = exec.wait().unwrap();
    assert_eq!(output.code(), Some(125));
    own.leaves_nothing();
    // Others' guests may come and go meanwhile; what was this test's is gone.
    until(
        || scratch_folders().iter().all(|folder| before.contains(folder) || folder.join("lock").exists()),
        String::new,
    );
}

/// Programs that ignore signals are killed with their clients; the guest serves on, and ends with whom it was for.
#[test]
fn a_guest_outlives_its_clients_and_not_its_owner() {
    if !is_wanted(Set::Full) {
        return;
    }
    let own = Own::new("owner");
    let runner = format!("{} qemu exec --boot-timeout {PHASE} --topology {}", crate::tools::TIERCTL, own.topology());
    // The shell is the owner: there is cargo above this test, but not above a session of its own.
    let script = format!(
        "{runner} -- sh -c 'trap \"\" TERM; echo deaf; sleep 100000' & deaf=$!
         sleep 1; {runner} -- true; kill -KILL $deaf
         until test $({runner} -- sh -c 'ps | grep -c \"[s]leep 100000\"') = 0; do sleep 0.2; done
         {runner} -- sh -c 'exit 3'"
    );
    let status = std::process::Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(3));
    lab(&["stop", &own.topology()]).output().unwrap();
    own.leaves_nothing();
}

/// A client that does not read what its program writes stops the program, as a full pipe does: nobody keeps it all in memory.
#[test]
fn output_that_nobody_reads_is_not_piled_up() {
    const MIB: usize = 96;
    const PATIENT: Duration = Duration::from_secs(15);
    if !is_wanted(Set::Full) {
        return;
    }
    let own = Own::new("slow");
    let topology = own.topology();
    let mut command = lab(&["exec", "--idle", "600", "--boot-timeout", PHASE, "--topology", &topology, "--"]);
    assert!(command.arg("true").status().unwrap().success());
    let [keeper] = own.keepers()[..] else { panic!("one keeper") };
    let before = memory_peak(keeper);
    let mut command = lab(&["exec", "--boot-timeout", PHASE, "--topology", &topology, "--", "sh", "-c"]);
    command.arg(format!("head -c {} /dev/zero; echo end", MIB << 20)).stdout(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let mut output = client.stdout.take().unwrap();
    let mut first = [0; 4096];
    output.read_exact(&mut first).unwrap();
    // Nobody reads meanwhile: what the guest writes would pile up here.
    std::thread::sleep(PATIENT);
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len() + first.len(), (MIB << 20) + 4, "nothing is lost");
    assert!(rest.ends_with(b"end\n") && client.wait().unwrap().success());
    let grown = memory_peak(keeper) - before;
    assert!(grown < MIB << 10 >> 1, "the keeper grew by {grown} KiB");
    // One that leaves in the middle does not keep its program, nor the next one, waiting.
    let mut command = lab(&["exec", "--boot-timeout", PHASE, "--topology", &topology, "--", "cat", "/dev/zero"]);
    let mut client = command.stdout(Stdio::piped()).spawn().unwrap();
    client.stdout.take().unwrap().read_exact(&mut first).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    let mut command = lab(&["exec", "--boot-timeout", PHASE, "--topology", &topology, "--", "sh", "-c"]);
    command.arg("while ps | grep '[c]at /dev/zero'; do sleep 0.2; done");
    assert!(command.status().unwrap().success());
    lab(&["stop", &topology]).output().unwrap();
    own.leaves_nothing();
}

/// The most memory that a process has had, KiB.
fn memory_peak(pid: u32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
