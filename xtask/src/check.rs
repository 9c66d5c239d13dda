//! `cargo xtask check`: what is judged before anything is run.

use std::path::PathBuf;
use std::process::Command;

use crate::failure::Result;
use crate::packages;
use crate::step::{Outcome, Steps, captured, succeeds};
use crate::tidy;
use crate::workspace::Workspace;

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
    let venv = workspace.target("tools");
    let program = venv.join("bin/typos");
    if program.exists() {
        return Ok(program);
    }
    let make = || captured(workspace.command("python3").args(["-m", "venv"]).arg(&venv)).0;
    // Debian has it in a package of its own.
    let made = make() || (packages::ensure(&["python3-venv"]).is_ok() && make());
    if !made {
        return Err("no spelling checked: install typos, or python3 with its venv module".to_owned());
    }
    let pip = ["install", "--quiet", "--disable-pip-version-check", TYPOS];
    let (installed, _) = captured(workspace.command(venv.join("bin/pip")).args(pip));
    if installed && program.exists() {
        Ok(program)
    } else {
        Err(format!("no spelling checked: pip could not install {TYPOS} (no network?)"))
    }
}
