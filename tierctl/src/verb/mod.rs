//! The verbs, one file each. A verb is a `clap::Args` struct with
//! `fn execute(self, output: &Output) -> Result<Exit, Failure>`.

mod completions;
mod list;
mod man;
mod policy;
mod probe;
mod profile;
mod ps;
mod qemu;
mod run;
mod stat;

use clap::Subcommand;

use crate::exit::{Exit, Failure};
use crate::output::Output;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    List(list::List),
    Probe(probe::Probe),
    Run(run::Run),
    Ps(ps::Ps),
    Stat(stat::Stat),
    Profile(profile::ProfileVerb),
    Policy(policy::PolicyVerb),
    Qemu(qemu::QemuVerb),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Verb {
    /// Does it.
    ///
    /// # Errors
    /// Whatever the verb says.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        match self {
            Self::List(verb) => verb.execute(output),
            Self::Probe(verb) => verb.execute(output),
            Self::Run(verb) => verb.execute(output),
            Self::Ps(verb) => verb.execute(output),
            Self::Stat(verb) => verb.execute(output),
            Self::Profile(verb) => verb.execute(output),
            Self::Policy(verb) => verb.execute(output),
            Self::Qemu(verb) => verb.execute(output),
            Self::Completions(verb) => verb.execute(output),
            Self::Man(verb) => verb.execute(output),
        }
    }
}
