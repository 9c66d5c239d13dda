//! A short run of every fuzz target, to see that it builds and that nothing shallow breaks. The targets stand in a
//! workspace of their own, `fuzz/`, because they are built with coverage counters.

use std::fs;

use cargo_metadata::MetadataCommand;

use crate::failure::{Context, Result};
use crate::step::{Outcome, succeeds};
use crate::workspace::Workspace;

/// How long each target runs, in seconds.
const SECONDS: &str = "20";
/// What `cargo fuzz` would set for a run without a sanitizer; these work with a stable compiler.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// The names of all targets.
pub fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let manifest = workspace.root().join("fuzz/Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().while_doing("fuzz/Cargo.toml")?;
    let targets = metadata.packages.into_iter().flat_map(|package| package.targets);
    Ok(targets.filter(|target| target.is_bin()).map(|target| target.name).collect())
}

/// Builds one target and runs it for a while, from its seeds in `fuzz/seeds/` if it has any.
pub fn smoke(workspace: &Workspace, target: &str) -> Outcome {
    // New inputs go to the first folder that is named.
    let corpus = workspace.target("fuzz/corpus").join(target);
    if let Err(error) = fs::create_dir_all(&corpus) {
        return Outcome::Failed(format!("{}: {error}", corpus.display()));
    }
    // A target given by name keeps the counters out of build scripts and procedural macros.
    let host = match workspace.host() {
        Ok(host) => host,
        Err(failure) => return Outcome::Failed(failure.to_string()),
    };
    let mut command = workspace.cargo(["run", "--release", "--manifest-path", "fuzz/Cargo.toml"]);
    command.args(["--target", &host, "--bin", target, "--"]);
    command.env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", workspace.target("fuzz"));
    // The same inputs each time: what fails belongs to the change that it is seen with. Exploring is for longer runs.
    command.args([&format!("-max_total_time={SECONDS}"), "-seed=1", "-rss_limit_mb=2048"]);
    command.arg(format!("-artifact_prefix={}/", workspace.target("fuzz").display()));
    let words = workspace.root().join("fuzz").join(format!("{target}.dict"));
    if words.is_file() {
        command.arg(format!("-dict={}", words.display()));
    }
    command.arg(&corpus);
    let seeds = workspace.root().join("fuzz/seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    succeeds(&mut command)
}
