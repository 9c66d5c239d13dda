//! Faults of an emulated machine: a plan that stays with it, as broken hardware stays broken, until it is healed.

use std::fs;
use std::io;
use std::path::PathBuf;

use tiermem_tiers::provider::fault::{Clock, Faulty, Script};
use tiermem_tiers::{Bytes, Error, Provider, TierId, TierName};

use super::machine::{CreateError, Machine, TierRecord, system};
use super::provider::EmulatedTier;
use crate::fault::Plan;

/// The plan, in the machine's folder.
pub(super) const FAULTS: &str = "faults.toml";

impl Machine {
    fn faults_file(&self) -> PathBuf {
        self.folder.join(FAULTS)
    }

    /// Puts a plan in force for whoever opens a tier of the machine from now on; it replaces an earlier one.
    ///
    /// # Errors
    /// The plan is none, is about tiers that the machine does not have or about persistent data, or the system refuses.
    pub fn attach_faults(&self, text: &str, file_name: &str) -> Result<(), CreateError> {
        self.check_faults(text, file_name)?;
        let file = self.faults_file();
        // Whoever opens a tier meanwhile sees the old plan or the new one.
        let new = self.folder.join(format!("{FAULTS}.new"));
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &file))
            .map_err(|cause| system(format!("cannot write {}", file.display()), cause))
    }

    fn check_faults(&self, text: &str, file_name: &str) -> Result<Plan, CreateError> {
        let plan = Plan::parse(text, file_name).map_err(|error| CreateError::Unsuitable(error.to_string()))?;
        let bad = |what: String| CreateError::Unsuitable(format!("{file_name}: {what}"));
        if plan.crash().is_some() {
            return Err(bad("`at_persist_point` is for programs with persistent data, not for a machine".to_owned()));
        }
        let names: Vec<&str> = self.tiers.iter().map(|tier| tier.name.as_str()).collect();
        let tiers = plan.script().faults.iter().filter_map(|fault| fault.tier);
        if let Some(unknown) = tiers.into_iter().find(|tier| !names.contains(&tier.as_str())) {
            let (name, known) = (&self.name, names.join(", "));
            return Err(bad(format!("a fault is for the tier `{unknown}`; the tiers of {name} are {known}")));
        }
        Ok(plan)
    }

    /// Whether a plan is in force.
    pub fn has_faults(&self) -> bool {
        self.faults_file().exists()
    }

    /// What goes wrong with one of its tiers, for a program that calls it `name`; empty if nothing does.
    ///
    /// # Errors
    /// The plan cannot be read any more.
    pub fn faults(&self, tier: &TierRecord, name: TierName) -> Result<Script, CreateError> {
        let file = self.faults_file();
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Script::default()),
            Err(cause) => return Err(system(format!("cannot read {}", file.display()), cause)),
        };
        let mut script = self.check_faults(&text, &file.display().to_string())?.script().clone();
        script.faults.retain(|fault| fault.tier.is_none_or(|wanted| wanted.as_str() == tier.name));
        script.faults.iter_mut().for_each(|fault| fault.tier = Some(name));
        Ok(script)
    }

    /// Opens one of its tiers, as number `id` of this process, with the faults that are in force.
    ///
    /// # Errors
    /// The tier cannot be opened, or its faults not be read.
    pub fn open(&self, tier: &TierRecord, id: TierId, clock: Clock) -> Result<Box<dyn Provider>, CreateError> {
        let opened = EmulatedTier::open(tier, id).map_err(CreateError::Tier)?;
        let script = self.faults(tier, opened.tier().name)?;
        if script.faults.is_empty() {
            return Ok(Box::new(opened));
        }
        Ok(Box::new(Faulty::new(Box::new(opened), &script, clock).map_err(|error| refused(tier, &error))?))
    }

    /// Ends all faults: takes the plan away from whoever opens a tier from now on, and takes into use again what was set
    /// aside and is held by nobody. Gives how much that was, tier by tier.
    ///
    /// # Errors
    /// A tier cannot be opened, or the system refuses.
    pub fn heal(&self) -> Result<Vec<(String, Bytes)>, CreateError> {
        match fs::remove_file(self.faults_file()) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(system(format!("cannot remove {}", self.faults_file().display()), cause));
            }
            _ => {}
        }
        let with_marks = self.tiers.iter().filter(|tier| tier.file().is_some());
        let healed = with_marks.map(|tier| {
            let opened = EmulatedTier::open(tier, TierId(0)).map_err(CreateError::Tier)?;
            Ok((tier.name.clone(), opened.repair().map_err(|error| refused(tier, &error))?))
        });
        healed.collect()
    }
}

fn refused(tier: &TierRecord, error: &Error) -> CreateError {
    CreateError::Unsuitable(format!("the tier {}: {error}", tier.name))
}
