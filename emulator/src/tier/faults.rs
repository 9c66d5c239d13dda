//! Faults of an emulated machine: a plan that stays with it, as broken hardware stays broken, until it is healed. It is kept
//! beside each tier ([`kept`]), where every process that has the tier open looks.

use std::io;
use std::path::PathBuf;

use tiermem_tiers::provider::fault::kept::{self, Kept};
use tiermem_tiers::provider::fault::{Clock, Fault, Script};
use tiermem_tiers::{Bytes, Error, Provider, TierId, TierName};

use super::machine::{CreateError, Machine, TierRecord, system};
use super::provider::EmulatedTier;
use crate::fault::Plan;

impl Machine {
    /// Where the faults of a tier are kept.
    pub(super) fn faults_file(&self, tier: &TierRecord) -> PathBuf {
        kept::beside(&self.folder.join(&tier.name))
    }

    /// Puts a plan in force for everybody who has a tier of the machine open ([`open`](Self::open), `tierctl run`) or opens
    /// one from now on; it replaces an earlier one. Operations and times count, in each process, from when it comes into
    /// force there.
    ///
    /// # Errors
    /// The plan is none, is about tiers that the machine does not have or about persistent data, has too many faults, or the
    /// system refuses.
    pub fn attach_faults(&self, text: &str, file_name: &str) -> Result<(), CreateError> {
        let plan = self.check_faults(text, file_name)?;
        let scripts: Vec<Script> = self.tiers.iter().map(|tier| own(plan.script(), tier)).collect();
        for (tier, script) in self.tiers.iter().zip(&scripts) {
            let (count, most) = (script.faults.len(), kept::FAULTS_MAX);
            if count > most {
                return Err(CreateError::Unsuitable(format!(
                    "{file_name}: it has {count} faults for the tier {}, and a machine's tier takes {most} at a time",
                    tier.name
                )));
            }
        }
        self.tiers.iter().zip(&scripts).try_for_each(|(tier, script)| self.keep(tier, script))
    }

    /// Each tier gets its file when the machine is made: who opens the tier looks there from then on.
    pub(super) fn keep(&self, tier: &TierRecord, script: &Script) -> Result<(), CreateError> {
        let file = self.faults_file(tier);
        kept::keep(&file, script).map_err(|cause| system(format!("cannot write {}", file.display()), cause))
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

    /// Whether a plan is in force; also if it is damaged, and nobody knows which.
    pub fn has_faults(&self) -> bool {
        let harmless = |tier| self.faults(tier).is_ok_and(|script| script.faults.is_empty());
        !self.tiers.iter().all(harmless)
    }

    /// What goes wrong with one of its tiers, under the tier's own name; empty if nothing does.
    ///
    /// # Errors
    /// What is kept is damaged or cannot be read.
    pub fn faults(&self, tier: &TierRecord) -> Result<Script, CreateError> {
        let file = self.faults_file(tier);
        let mut script = kept::read(&file).map_err(|cause| match cause.kind() {
            io::ErrorKind::InvalidData => CreateError::Unsuitable(format!(
                "{}: damaged ({cause}): `tierctl emulate heal {}` makes it anew, without faults",
                file.display(),
                self.name
            )),
            _ => system(format!("cannot read {}", file.display()), cause),
        })?;
        let name = TierName::new(&tier.name);
        script.faults.iter_mut().for_each(|fault| fault.tier = name);
        Ok(script)
    }

    /// Opens one of its tiers, as number `id` of this process, with the faults that are in force now or come later.
    ///
    /// With [`Clock::Wall`] a thread looks for them ten times a second and every 2 ms while one waits for time, so they
    /// come also to a tier that nobody uses; it ends with the tier. A child of fork has no such thread, and with
    /// [`Clock::Virtual`] there is none: there they come with the next operation or look.
    ///
    /// # Errors
    /// The tier cannot be opened, or its faults not be read.
    pub fn open(&self, tier: &TierRecord, id: TierId, clock: Clock) -> Result<Box<dyn Provider>, CreateError> {
        self.faults(tier)?;
        let file = self.faults_file(tier);
        let kept = Kept::open(&file).map_err(|cause| system(format!("cannot read {}", file.display()), cause))?;
        Ok(Box::new(EmulatedTier::open_with_faults(tier, id, kept, clock)?))
    }

    /// Ends all faults, in running programs as for those that open a tier from now on, and takes into use again what was set
    /// aside and is held by nobody. Gives how much that was, tier by tier. What a program holds and has lost stays lost until
    /// it is released.
    ///
    /// # Errors
    /// A tier cannot be opened, or the system refuses.
    pub fn heal(&self) -> Result<Vec<(String, Bytes)>, CreateError> {
        self.tiers.iter().try_for_each(|tier| self.keep(tier, &Script::default()))?;
        let with_marks = self.tiers.iter().filter(|tier| tier.file().is_some());
        let healed = with_marks.map(|tier| {
            let opened = EmulatedTier::open(tier, TierId(0)).map_err(CreateError::Tier)?;
            Ok((tier.name.clone(), opened.repair().map_err(|error| refused(tier, &error))?))
        });
        healed.collect()
    }
}

/// What of a plan is for a tier, whatever a program calls it.
fn own(script: &Script, tier: &TierRecord) -> Script {
    let faults = script.faults.iter().filter(|fault| fault.tier.is_none_or(|wanted| wanted.as_str() == tier.name));
    let faults = faults.map(|fault| Fault { tier: None, ..*fault }).collect();
    Script { seed: script.seed, faults }
}

pub(super) fn refused(tier: &TierRecord, error: &Error) -> CreateError {
    CreateError::Unsuitable(format!("the tier {}: {error}", tier.name))
}
