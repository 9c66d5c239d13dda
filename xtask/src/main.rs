//! Project chores. `cargo xtask check` judges the sources, `cargo xtask test` runs everything that can be run here,
//! `cargo xtask demo` shows the main job on a real program, `cargo xtask bench` measures against peers.

mod bench;
mod build;
mod check;
mod demo;
mod failure;
mod failures;
mod fuzz;
mod gate;
mod lab;
mod packages;
mod step;
mod tally;
mod test;
mod tidy;
mod tools;
mod watch;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Result;
use crate::workspace::Workspace;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Project chores", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Measure against peers: installs and builds what is needed, then hands everything on to `tiermem-bench`.
    Bench(bench::Bench),
    /// Judge the sources: fmt, clippy, tidy, rustdoc, typos.
    Check,
    /// Run a real program with its memory on two tiers, check it and show where its memory was.
    Demo(demo::Demo),
    /// Run every test that can be run here.
    Test(test::Test),
    /// Only the project's own rules, a part of `check`.
    Tidy,
}

fn main() -> ExitCode {
    let done = Workspace::find().and_then(|workspace| run(&Cli::parse().chore, &workspace));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
fn run(chore: &Chore, workspace: &Workspace) -> Result<bool> {
    match chore {
        Chore::Bench(options) => bench::run(workspace, options),
        Chore::Check => check::run(workspace),
        Chore::Demo(options) => demo::run(workspace, options),
        Chore::Test(options) => test::run(workspace, options),
        Chore::Tidy => tidy::run(workspace),
    }
}
