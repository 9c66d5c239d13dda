//! The QEMU lab's tests: what guests are made of is fetched first, and where it cannot be had that is said.

use std::process::Command;

use crate::step::{Outcome, captured};
use crate::workspace::Workspace;

/// The name of the test programs that start guests, in whatever package they are.
const TESTS: &str = "lab";
/// Says to the tests which of them are wanted.
const VARIABLE: &str = "TIERMEM_LAB";
/// How long fetching may take before the tests go on without the lab: 75 MiB, or 110 with the older kernel.
const FETCH_LIMIT: &str = "900";

/// Fetches what the lab needs, unless it is there. Where all tests are asked for, it is a failure if it cannot be had.
pub fn packages(workspace: &Workspace, all: bool) -> Outcome {
    let mut command = workspace.command("timeout");
    command.args(["--kill-after=10", FETCH_LIMIT]).arg(workspace.target("release/tierctl")).args(["qemu", "fetch"]);
    command.args(all.then_some("--older-kernel"));
    match captured(&mut command) {
        (true, _) => Outcome::Passed(String::new()),
        (false, said) if all => Outcome::Failed(said),
        (false, said) => {
            let why = said.lines().filter(|line| !line.starts_with("$ ") && !line.trim().is_empty());
            let why: Vec<_> = why.collect();
            Outcome::Skipped(format!("NO GUEST IS STARTED: the QEMU lab's packages cannot be had: {}", why.join(" ")))
        }
    }
}

/// The tests that start guests; the short set, or all.
pub fn tests(workspace: &Workspace, all: bool) -> Command {
    let nextest = workspace.cargo(["nextest", "--version"]).output().is_ok_and(|output| output.status.success());
    let packages = ["--package", "tierctl", "--package", "tiermem-tests", "--test", TESTS, "--no-fail-fast"];
    let mut command = workspace.cargo(if nextest { ["nextest", "run"] } else { ["test", "--quiet"] });
    command.args(packages);
    if nextest {
        command.args(["--success-output", "immediate", "--failure-output", "final", "--color", "never"]);
    } else {
        // One guest after the other.
        command.args(["--", "--show-output", "--test-threads=1"]);
    }
    command.env(VARIABLE, if all { "full" } else { "short" });
    command
}

/// For a run of everything: these tests have a step of their own.
pub fn leave_out(command: &mut Command) {
    command.env(VARIABLE, "off");
}

/// Whether a test was skipped because of [`leave_out`].
pub fn was_left_out(skip: &str) -> bool {
    skip.contains(&format!("{VARIABLE}=off"))
}
