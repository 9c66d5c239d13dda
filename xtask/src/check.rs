//! `cargo xtask check`: what is judged before anything is run.

use std::path::PathBuf;
use std::process::Command;

use crate::failure::Result;
use crate::step::{Outcome, Steps, succeeds};
use crate::workspace::Workspace;
use crate::{packages, tidy, tools};

/// The spell checker's release, a Python wheel that holds one native program.
const TYPOS: &str = "typos==1.52.0";

/// Runs all checks; whether all passed.
pub fn run(workspace: &Workspace) -> Result<bool> {
    packages::ensure(packages::BUILD)?;
    let mut steps = Steps::default();
    steps.run("fmt", || succeeds(&mut workspace.cargo(["fmt", "--all", "--check"])));
    steps.run("clippy", || {
        succeeds(&mut workspace.cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
    steps.run("tidy", || tidy::step(workspace));
    steps.run("rustdoc", || {
        succeeds(workspace.cargo(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
    });
    steps.run("typos", || typos(workspace));
    Ok(steps.finish())
}

/// Checks the spelling with the spell checker from the PATH, or else with one installed under the target folder.
fn typos(workspace: &Workspace) -> Outcome {
    match typos_program(workspace) {
        Ok(program) => succeeds(workspace.command(program).args(["--config", "typos.toml", "--format", "brief"])),
        Err(why) => Outcome::Skipped(why),
    }
}

fn typos_program(workspace: &Workspace) -> std::result::Result<PathBuf, String> {
    if Command::new("typos").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok("typos".into());
    }
    let program = tools::program(workspace, "typos");
    if program.exists() {
        return Ok(program);
    }
    tools::install(workspace, TYPOS, None).map_err(|why| format!("no spelling checked: {why}; or install typos"))?;
    Ok(program)
}
