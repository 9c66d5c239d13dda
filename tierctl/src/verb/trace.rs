//! `tierctl trace`.

use std::path::PathBuf;

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::trace::check;
use crate::trace::import::Import;
use crate::trace::show;

/// Look at recorded traces, check them, or make them out of other tools' records.
#[derive(Debug, clap::Args)]
pub struct TraceVerb {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show where a trace comes from and what it holds.
    Show {
        /// The trace.
        file: PathBuf,
        /// Also print the first N events.
        #[arg(long, value_name = "N", default_value_t = 0)]
        events: u64,
        /// Of a damaged trace, show what can be read.
        #[arg(long)]
        salvage: bool,
    },
    /// Read all of a trace and tell each place where it is damaged, with what can be read.
    Check {
        /// The trace.
        file: PathBuf,
    },
    /// Make a trace out of another tool's record.
    Import(Import),
}

impl TraceVerb {
    /// Does it.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        match self.action {
            Action::Show { file, events, salvage } => show::show(&file, events, salvage, *output),
            Action::Check { file } => check::check(&file, *output),
            Action::Import(import) => import.execute(*output),
        }
    }
}
