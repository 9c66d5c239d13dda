//! `tierctl completions SHELL`.

use clap::CommandFactory;

use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Print a completion script for a shell.
///
/// For bash: tierctl completions bash > ~/.local/share/bash-completion/completions/tierctl
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

impl Completions {
    /// Prints the script.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Cli::command(), "tierctl", &mut script);
        output.text(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Ok)
    }
}
