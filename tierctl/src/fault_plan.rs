//! Fault plans: read, checked, and handed to a program.

use std::fs;
use std::path::Path;

use tiermem_emulator::fault::{FaultKind, Plan};
use tiermem_placement::Policy;

use crate::exit::{Exit, Failure};

/// Reads and checks a plan.
///
/// # Errors
/// If it cannot be read, or, with [`Exit::BadInput`], everything that is wrong with it, each complaint with its line.
pub fn read(path: &Path) -> Result<Plan, Failure> {
    let shown = path.display().to_string();
    let text = fs::read(path).map_err(|e| Failure::from_io(format!("cannot read the fault plan {shown}"), &e))?;
    let text = String::from_utf8(text).map_err(|e| {
        Failure::new(Exit::BadInput, format!("{shown}: not UTF-8 text (byte {})", e.utf8_error().valid_up_to()))
    })?;
    Plan::parse(&text, &shown).map_err(|error| Failure::new(Exit::BadInput, error.to_string()))
}

/// The script of a plan for a program that runs under this policy.
///
/// # Errors
/// As [`read`]; also [`Exit::BadInput`] if the plan wants what cannot happen in such a program.
pub fn for_program(path: &Path, policy: &Policy) -> Result<String, Failure> {
    let plan = read(path)?;
    let bad = |what: String| Failure::new(Exit::BadInput, format!("{}: {what}", path.display()));
    if plan.crash().is_some() {
        let what = "`at_persist_point` is for programs that keep their data in a `tiermem_emulator::fault::Durable`; \
                    give the crash an `at_operation` or an `at_time`";
        return Err(bad(what.to_owned()));
    }
    // Heaps are placed on tiers that say where they are; DRAM without a source of its own is the system's memory.
    let with_source: Vec<&str> =
        policy.tiers().iter().filter(|tier| tier.source().is_some()).map(tiermem_placement::Tier::name).collect();
    if with_source.is_empty() {
        return Err(bad(
            "there is no tier on which anything could go wrong: add one with --tier or --policy".to_owned()
        ));
    }
    for fault in &plan.script().faults {
        if let Some(tier) = fault.tier.filter(|tier| !with_source.contains(&tier.as_str())) {
            let known = with_source.join(", ");
            return Err(bad(format!("a fault is for the tier `{tier}`; the tiers that can fail here are {known}")));
        }
    }
    if plan.script().faults.iter().any(|fault| matches!(fault.kind, FaultKind::Slow { .. })) {
        eprintln!("tierctl: the plan's `slow` faults are for models in virtual time; this program does not feel them");
    }
    Ok(plan.script().to_string())
}
