//! `tierctl`: finds, measures, runs and watches tiered memory.
//!
//! One file per verb in [`verb`]. Every verb takes its own arguments and an [`output::Output`] and ends with an
//! [`exit::Exit`] or an [`exit::Failure`]; nothing else decides how the process ends.

#![forbid(unsafe_code)]

mod chart;
mod curves;
mod events;
mod exit;
mod fault_plan;
mod instrument;
mod lab;
mod model;
mod output;
mod policy_file;
mod profile;
mod record;
mod replay;
mod report;
mod run;
mod sample;
mod segments;
mod summary;
mod symbols;
mod tier_spec;
mod tiers_here;
mod trace;
mod verb;

use std::process::ExitCode;

use clap::Parser;

use exit::{Exit, Failure};
use output::Output;

/// Finds, measures, runs and watches tiered memory.
///
/// Tables are for people: they are shown on a terminal. Piped, or with --json, every verb prints one JSON document
/// whose "format" field names its kind and version.
#[derive(Debug, Parser)]
#[command(name = "tierctl", version, propagate_version = true, after_long_help = exit::HELP, max_term_width = 100)]
struct Cli {
    /// Print JSON even on a terminal.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    verb: verb::Verb,
}

fn main() -> ExitCode {
    let ended = match Cli::try_parse() {
        Ok(cli) => cli.verb.execute(&Output::new(cli.json)),
        Err(error) => parse_failure(&error),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(),
    }
}

/// `--help` and `--version` arrive as errors too; real ones lose clap's own prefix and get ours.
fn parse_failure(error: &clap::Error) -> Result<Exit, Failure> {
    if !error.use_stderr() {
        error.print().map_err(|e| Failure::new(Exit::Failed, format!("cannot print the help: {e}")))?;
        return Ok(Exit::Ok);
    }
    let text = error.render().to_string();
    Err(Failure::new(Exit::Usage, text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
