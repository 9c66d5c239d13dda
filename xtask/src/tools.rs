//! Programs and libraries that come as Python wheels, installed below the target folder, so that nothing of the system
//! is changed.

use std::path::{Path, PathBuf};

use crate::packages;
use crate::step::captured;
use crate::workspace::Workspace;

/// The folder of a Python environment of our own.
fn environment(workspace: &Workspace) -> PathBuf {
    workspace.target("tools")
}

/// Where a wheel's `program` lies once it is installed.
pub fn program(workspace: &Workspace, program: &str) -> PathBuf {
    environment(workspace).join("bin").join(program)
}

/// Installs `wheel` (`name==version`), into the environment or into the folder `into`. Or says why it is not there.
pub fn install(workspace: &Workspace, wheel: &str, into: Option<&Path>) -> Result<(), String> {
    let venv = environment(workspace);
    let pip = venv.join("bin/pip");
    let make = || captured(workspace.command("python3").args(["-m", "venv"]).arg(&venv)).0;
    // Debian has venv in a package of its own.
    let there = pip.exists() || make() || (packages::ensure(&["python3-venv"]).is_ok() && make());
    if !there {
        return Err("python3 with its venv module is missing".to_owned());
    }
    let mut command = workspace.command(pip);
    command.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", wheel]);
    if let Some(folder) = into {
        command.arg("--upgrade").arg("--target").arg(folder);
    }
    let (installed, _) = captured(&mut command);
    if installed { Ok(()) } else { Err(format!("pip could not install {wheel} (no network?)")) }
}
