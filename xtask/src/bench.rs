//! `cargo xtask bench`: everything that a measurement against peers needs, and then the measurement. The arguments are
//! those of `tiermem-bench`, which lives in `benches/`.

use std::process::Command;

use clap::Args;

use crate::failure::{Context, Failure, Result};
use crate::step::Steps;
use crate::workspace::Workspace;
use crate::{build, gate, packages, tools};

/// The newest mimalloc 3 that there is ready-made: the crates' is older. The runner looks for it in [`WHEELS`].
const MIMALLOC: &str = "cmeel-mimalloc==3.4.3";
/// Its library, below the folder of the wheels.
const MIMALLOC_LIBRARY: &str = "cmeel.prefix/lib/libmimalloc.so.3.4";
/// Below cargo's target folder.
const WHEELS: &str = "rivals/wheels";

/// Options of `cargo xtask bench`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Bench {
    /// What to measure and how: the arguments of `tiermem-bench`; or `gate`, the step of `cargo xtask test` that holds the
    /// fast path to its instruction counts.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Installs, builds and measures; whether the measurement succeeded.
pub fn run(workspace: &Workspace, options: &Bench) -> Result<bool> {
    packages::ensure(packages::BENCH)?;
    match options.arguments.first().map(String::as_str) {
        Some("gate") => {
            let mut steps = Steps::default();
            steps.run("instruction gate", || gate::run(workspace));
            return Ok(steps.finish());
        }
        Some("startup") => build::release(workspace)?,
        Some("allocators" | "instructions" | "huge") => offer_mimalloc(workspace),
        _ => {}
    }
    if !build(workspace).status().while_doing("cargo build")?.success() {
        return Err(Failure::new("the build failed"));
    }
    runner(workspace).args(&options.arguments).status().while_doing("tiermem-bench").map(|status| status.success())
}

/// Builds the measuring program, which builds what it preloads.
pub fn build(workspace: &Workspace) -> Command {
    workspace.cargo(["build", "--release", "--package", "tiermem-benches"])
}

/// The measuring program.
pub fn runner(workspace: &Workspace) -> Command {
    workspace.command(workspace.target("release/tiermem-bench"))
}

/// Installs mimalloc's wheel. Without it the runner says that this column is left out.
fn offer_mimalloc(workspace: &Workspace) {
    let folder = workspace.target(WHEELS);
    if folder.join(MIMALLOC_LIBRARY).exists() {
        return;
    }
    if let Err(why) = tools::install(workspace, MIMALLOC, Some(&folder)) {
        println!("SKIP mimalloc 3.4: {why}");
    }
}
