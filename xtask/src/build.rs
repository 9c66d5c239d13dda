//! Building what people use: the preload and tierctl, optimised.

use std::process::Command;

use crate::failure::{Context, Failure, Result};
use crate::workspace::Workspace;

/// The builds, one after the other. Two, because cargo joins the features of what it builds together, and the preload
/// must not carry what tierctl needs.
pub fn commands(workspace: &Workspace) -> [Command; 2] {
    ["tiermem-preload", "tierctl"].map(|package| workspace.cargo(["build", "--release", "--package", package]))
}

/// Builds both, showing cargo's own progress.
pub fn release(workspace: &Workspace) -> Result<()> {
    for mut command in commands(workspace) {
        if !command.status().while_doing("cargo build")?.success() {
            return Err(Failure::new("the build failed"));
        }
    }
    Ok(())
}
