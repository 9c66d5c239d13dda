//! `tierctl man DIR`.

use std::path::PathBuf;

use clap::CommandFactory;

use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Write the man pages, one for tierctl and one for each verb.
#[derive(Debug, clap::Args)]
pub struct Man {
    /// Where to write tierctl.1, tierctl-run.1, …; made if missing.
    dir: PathBuf,
}

impl Man {
    /// Writes the pages. They come from the same definitions as `--help` and the completions.
    pub fn execute(self, _output: &Output) -> Result<Exit, Failure> {
        let failure =
            |e: std::io::Error| Failure::from_io(format!("cannot write man pages to {}", self.dir.display()), &e);
        std::fs::create_dir_all(&self.dir).map_err(failure)?;
        clap_mangen::generate_to(crate::Cli::command(), &self.dir).map_err(failure)?;
        Ok(Exit::Ok)
    }
}
