//! The verbs, one file each. A verb is a `clap::Args` struct with
//! `fn execute(self, output: &Output) -> Result<Exit, Failure>`.

mod completions;
mod emulate;
mod fault;
mod health;
mod instrument;
mod list;
mod man;
mod model;
mod policy;
mod probe;
mod profile;
mod ps;
mod qemu;
mod replay;
mod run;
mod sample;
mod stat;
mod trace;

use clap::Subcommand;

use crate::exit::{Exit, Failure};
use crate::output::Output;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    List(list::List),
    Probe(probe::Probe),
    Run(run::Run),
    Sample(sample::Sample),
    Ps(ps::Ps),
    Stat(stat::Stat),
    Trace(trace::TraceVerb),
    Replay(replay::ReplayVerb),
    Profile(profile::ProfileVerb),
    Policy(policy::PolicyVerb),
    Model(model::ModelVerb),
    Instrument(instrument::Instrument),
    Fault(fault::FaultVerb),
    Health(health::Health),
    Emulate(emulate::Emulate),
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
            Self::Sample(verb) => verb.execute(output),
            Self::Ps(verb) => verb.execute(output),
            Self::Stat(verb) => verb.execute(output),
            Self::Trace(verb) => verb.execute(output),
            Self::Replay(verb) => verb.execute(output),
            Self::Profile(verb) => verb.execute(output),
            Self::Policy(verb) => verb.execute(output),
            Self::Model(verb) => verb.execute(output),
            Self::Instrument(verb) => verb.execute(output),
            Self::Fault(verb) => verb.execute(output),
            Self::Health(verb) => verb.execute(output),
            Self::Emulate(verb) => verb.execute(output),
            Self::Qemu(verb) => verb.execute(output),
            Self::Completions(verb) => verb.execute(output),
            Self::Man(verb) => verb.execute(output),
        }
    }
}
