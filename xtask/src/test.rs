//! `cargo xtask test`: everything that can be run on this machine. What cannot be run here is skipped loudly.

use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use crate::failure::Result;
use crate::failures::failures;
use crate::step::{Outcome, Steps, succeeds};
use crate::tally::{Tally, skips};
use crate::watch::watched;
use crate::workspace::Workspace;
use crate::{build, fuzz, gate, lab, packages};

/// The exit code with which a script says that it cannot run here.
const SKIPPED: i32 = 77;

/// Options of `cargo xtask test`.
#[derive(Debug, Args)]
pub struct Test {
    /// Leave out what needs builds of its own: doc tests, loom, AddressSanitizer, the gate on instruction counts,
    /// fuzzing, the QEMU lab.
    #[arg(long)]
    quick: bool,
    /// Ten times the counts in every test, and ThreadSanitizer on top: hours.
    #[arg(long, conflicts_with = "quick")]
    long: bool,
    /// The QEMU lab's whole set of tests, not only the short one; its packages must be to be had.
    #[arg(long, conflicts_with = "quick")]
    lab: bool,
}

/// By how much `--long` multiplies the counts of the tests.
const LONG_SCALE: u32 = 10;

/// Runs all tests; whether all passed.
pub fn run(workspace: &Workspace, options: &Test) -> Result<bool> {
    packages::ensure(packages::TEST)?;
    packages::offer_python_tests();
    packages::offer_gcc_plugins();
    let mut run = Run { workspace, steps: Steps::default(), tally: Tally::default(), skips: Vec::new() };
    for mut command in build::commands(workspace) {
        let name = format!("build {}", command.get_args().last().unwrap_or_default().to_string_lossy());
        run.steps.run(&name, || succeeds(&mut command));
    }
    let scale = if options.long { LONG_SCALE } else { 1 };
    let scaled = |mut command: Command| {
        command.env("TIERMEM_TEST_SCALE", scale.to_string());
        command
    };
    let mut everything = scaled(all_tests(workspace, options.long));
    lab::leave_out(&mut everything);
    run.tests("tests", &mut everything);
    if !options.quick {
        run.tests("doc tests", &mut workspace.cargo(["test", "--workspace", "--doc", "--", "--show-output"]));
        run.tests("loom", &mut loom(workspace));
        run.tests("asan", &mut scaled(sanitizer(workspace, "asan")));
        if options.long {
            // Without the scale: under the sanitizer the tests take a hundred times as long.
            run.tests("tsan", &mut sanitizer(workspace, "tsan"));
        }
        lab(&mut run, options.lab);
        run.step("instruction gate", || gate::run(workspace));
        for target in fuzz::targets(workspace)? {
            run.step(&format!("fuzz {target}"), || fuzz::smoke(workspace, &target));
        }
    }
    Ok(run.conclude())
}

/// The QEMU lab: its packages, then its tests.
fn lab(run: &mut Run<'_>, all: bool) {
    let (mut there, workspace) = (false, run.workspace);
    run.step("lab packages", || {
        let outcome = lab::packages(workspace, all);
        there = matches!(outcome, Outcome::Passed(_));
        outcome
    });
    if there {
        // Left out of the run of everything, and not out of this one.
        let before = run.skips.len();
        run.skips.retain(|skip| !lab::was_left_out(skip));
        run.tally.skipped -= before - run.skips.len();
        run.tests("lab", &mut lab::tests(workspace, all));
    }
}

struct Run<'a> {
    workspace: &'a Workspace,
    steps: Steps,
    tally: Tally,
    skips: Vec<String>,
}

impl Run<'_> {
    /// Runs a test runner as one step. A run without a single test is a failure: its tests have been lost.
    fn tests(&mut self, name: &str, command: &mut Command) {
        let log = self.log(name);
        let mut tally = Tally::default();
        let mut skips_here = Vec::new();
        self.steps.run(name, || match watched(command, &log) {
            Err(failure) => Outcome::Failed(failure.to_string()),
            Ok((Some(SKIPPED), output)) => Outcome::Skipped(skips(&output).into_iter().collect()),
            Ok((code, output)) => {
                tally = Tally::of(&output);
                skips_here.extend(skips(&output));
                if code == Some(0) && tally != Tally::default() {
                    Outcome::Passed(tally.to_string())
                } else {
                    let why = if code == Some(0) { "no test was found" } else { "failed" };
                    Outcome::Failed(format!("{}\n{why}; all of it is in {}", failures(&output), log.display()))
                }
            }
        });
        self.tally += tally;
        self.skips.extend(skips_here);
    }

    /// Runs a step that counts as one test.
    fn step(&mut self, name: &str, step: impl FnOnce() -> Outcome) {
        let (failed, skipped) = (self.steps.failed(), self.steps.skipped());
        self.steps.run(name, step);
        self.tally.passed += usize::from((self.steps.failed(), self.steps.skipped()) == (failed, skipped));
    }

    fn log(&self, name: &str) -> PathBuf {
        self.workspace.target("test-logs").join(format!("{}.log", name.replace(' ', "-")))
    }

    /// Prints what was skipped, what failed and the closing line; whether nothing failed.
    fn conclude(mut self) -> bool {
        if !self.skips.is_empty() {
            println!("\nskipped, because this machine cannot run them:");
            self.skips.iter().for_each(|skip| println!("  {skip}"));
        }
        let well = self.steps.finish();
        // A build or a runner that failed without naming a test is a failure all the same.
        self.tally.failed = self.tally.failed.max(self.steps.failed());
        self.tally.skipped += self.steps.skipped();
        println!("\n{}", self.tally);
        well && self.tally.failed == 0
    }
}

/// The script that runs the allocator's tests under a sanitizer.
fn sanitizer(workspace: &Workspace, name: &str) -> Command {
    let mut command = workspace.command(format!("xtask/scripts/{name}.sh"));
    command.arg(workspace.target(name));
    command
}

/// All tests of the workspace, with nextest if it is there.
fn all_tests(workspace: &Workspace, long: bool) -> Command {
    let nextest = workspace.cargo(["nextest", "--version"]).output().is_ok_and(|output| output.status.success());
    if nextest {
        let args = ["nextest", "run", "--workspace", "--no-fail-fast", "--success-output", "immediate"];
        let mut command = workspace.cargo(args);
        command.args(["--failure-output", "final", "--color", "never"]);
        command.args(["--profile", if long { "long" } else { "default" }]);
        command
    } else {
        workspace.cargo(["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests", "--", "--show-output"])
    }
}

/// The models of the lock-free parts, where loom tries every order of their steps.
fn loom(workspace: &Workspace) -> Command {
    let args = ["test", "--package", "tiermem", "--release", "--lib", "loom", "--", "--show-output"];
    let mut command = workspace.cargo(args);
    command.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", workspace.target("loom"));
    command
}
