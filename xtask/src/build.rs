//! Building what people use: the preload, the run time of instrumented programs and tierctl, optimised.

use std::process::Command;

use crate::failure::{Context, Failure, Result};
use crate::workspace::Workspace;

/// The builds, one after the other. Apart, because cargo joins the features of what it builds together, and the preload
/// must not carry what tierctl needs.
pub fn commands(workspace: &Workspace) -> [Command; 3] {
    ["tiermem-preload", "tiermem-instrument", "tierctl"]
        .map(|package| workspace.cargo(["build", "--release", "--package", package]))
}

/// Builds all, showing cargo's own progress.
pub fn release(workspace: &Workspace) -> Result<()> {
    for mut command in commands(workspace) {
        if !command.status().while_doing("cargo build")?.success() {
            return Err(Failure::new("the build failed"));
        }
    }
    Ok(())
}
