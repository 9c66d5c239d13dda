//! `tierctl policy`.

use std::path::PathBuf;

use serde::Serialize;
use tiermem_placement::{EXAMPLE, Policy};

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::policy_file::{self, Limit};
use crate::run::preload;
use crate::{segments, tier_spec};

/// Check, show or begin a policy.
#[derive(Debug, clap::Args)]
pub struct PolicyVerb {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Check a policy file; complaints name the line and column.
    Check {
        /// The policy file.
        file: PathBuf,
    },
    /// Show the policy of a running process (with what `tierctl run` added) or of a file, complete with its defaults.
    Show {
        /// A process id or a policy file; without it, the built-in policy.
        #[arg(value_name = "PID|FILE")]
        what: Option<String>,
    },
    /// Print an example with every key explained.
    Example,
}

/// `tiermem-policy/1`: `valid` is always true (what is wrong goes to stderr, with exit code 6); `tiers` are the names in
/// order of their ids; `chain` holds the names in the order in which they are filled; `toml` is the whole policy.
#[derive(Debug, Serialize)]
struct Document {
    file: Option<String>,
    valid: bool,
    strategy: &'static str,
    tiers: Vec<TierDocument>,
    chain: Vec<String>,
    rules: usize,
    toml: String,
}

#[derive(Debug, Serialize)]
struct TierDocument {
    name: String,
    source: Option<String>,
    limit: Option<u64>,
}

impl Document {
    fn new(policy: &Policy, file: Option<String>) -> Self {
        let tiers = policy.tiers();
        let tier = |t: &tiermem_placement::Tier| TierDocument {
            name: t.name().to_owned(),
            source: t.source().map(str::to_owned),
            limit: t.limit(),
        };
        let name = |t: &tiermem_placement::TierIndex| tiers.get(t.index()).map(|t| t.name().to_owned());
        Self {
            file,
            valid: true,
            strategy: policy.strategy().as_str(),
            tiers: tiers.iter().map(tier).collect(),
            chain: policy.chain().iter().filter_map(name).collect(),
            rules: policy.rules().len(),
            toml: policy.to_toml(),
        }
    }
}

impl PolicyVerb {
    /// Does it.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        match self.action {
            Action::Check { file } => check(file, *output)?,
            Action::Show { what } => show(what, *output)?,
            // Always text: it is the start of a file.
            Action::Example => output.text(EXAMPLE)?,
        }
        Ok(Exit::Ok)
    }
}

fn check(file: PathBuf, output: Output) -> Result<(), Failure> {
    let policy = policy_file::read(&file)?;
    let document = Document::new(&policy, Some(file.display().to_string()));
    if output.is_json() {
        return output.json("tiermem-policy/1", &document);
    }
    let rules = match document.rules {
        0 => "no rules".to_owned(),
        1 => "1 rule".to_owned(),
        n => format!("{n} rules"),
    };
    output.text(&format!("{}: good: {} {}, {rules}", file.display(), document.strategy, document.chain.join(" → ")))
}

fn show(what: Option<String>, output: Output) -> Result<(), Failure> {
    let (policy, file) = match what.map(|text| text.parse::<u32>().map_err(|_| PathBuf::from(text))) {
        None => (Policy::default(), None),
        Some(Ok(pid)) => policy_of_process(pid)?,
        Some(Err(file)) => (policy_file::read(&file)?, Some(file)),
    };
    if output.is_json() {
        return output.json("tiermem-policy/1", &Document::new(&policy, file.map(|f| f.display().to_string())));
    }
    output.text(&policy.to_toml())
}

/// The policy of a running process, with the tiers and limits that its environment adds, and the policy's file, if it is
/// not the built-in one.
fn policy_of_process(pid: u32) -> Result<(Policy, Option<PathBuf>), Failure> {
    let snapshot = segments::of_process(pid)?;
    if !snapshot.policy_error.is_empty() {
        eprintln!("tierctl: process {pid} could not use all of it: {}", snapshot.policy_error);
    }
    let file = (!snapshot.policy.is_empty()).then(|| PathBuf::from(snapshot.policy));
    let mut policy = file.as_deref().map_or_else(|| Ok(Policy::default()), policy_file::read)?;
    let environment = std::fs::read(format!("/proc/{pid}/environ"))
        .map_err(|e| Failure::from_io(format!("cannot read the environment of process {pid}"), &e))?;
    let tiers = list_variable(&environment, preload::TIERS_VARIABLE);
    let tiers = tiers.iter().map(|t| tier_spec::parse(t)).collect::<Result<Vec<_>, _>>()?;
    let limits = list_variable(&environment, preload::LIMITS_VARIABLE);
    let limits = limits.iter().map(|l| Limit::parse(l)).collect::<Result<Vec<_>, _>>()?;
    policy_file::amend(&mut policy, &tiers, &limits)?;
    Ok((policy, file))
}

/// The parts of a variable that holds a list with semicolons, from the bytes of `/proc/PID/environ`.
fn list_variable(environment: &[u8], name: &str) -> Vec<String> {
    let value = |entry: &[u8]| Some(entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.to_vec());
    let value = environment.split(|&b| b == 0).find_map(value).unwrap_or_default();
    String::from_utf8_lossy(&value).split(';').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::list_variable;

    #[test]
    fn lists_are_found_in_an_environment() {
        let environment = b"A=1\0TIERMEM_TIERS_X=no\0TIERMEM_TIERS=a=dram:0;b=dram:1\0B=";
        assert_eq!(list_variable(environment, "TIERMEM_TIERS"), ["a=dram:0", "b=dram:1"]);
        assert!(list_variable(environment, "TIERMEM_LIMITS").is_empty());
        assert!(list_variable(environment, "B").is_empty());
    }
}
