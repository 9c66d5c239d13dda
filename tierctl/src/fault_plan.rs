//! Fault plans: read, checked, and handed to a program.

use std::fs;
use std::path::Path;

use tiermem_emulator::fault::{Fault, FaultKind, Plan, Script};
use tiermem_emulator::tier::State;
use tiermem_emulator::tier::registry::Registry;
use tiermem_placement::Policy;
use tiermem_tiers::TierSpec;

use crate::exit::{Exit, Failure};

/// Reads and checks a plan.
///
/// # Errors
/// If it cannot be read, or, with [`Exit::BadInput`], everything that is wrong with it, each complaint with its line.
pub fn read(path: &Path) -> Result<Plan, Failure> {
    let text = text(path)?;
    Plan::parse(&text, &path.display().to_string()).map_err(|error| Failure::new(Exit::BadInput, error.to_string()))
}

/// The text of a plan, not yet checked.
///
/// # Errors
/// If it cannot be read.
pub fn text(path: &Path) -> Result<String, Failure> {
    let shown = path.display().to_string();
    let text = fs::read(path).map_err(|e| Failure::from_io(format!("cannot read the fault plan {shown}"), &e))?;
    String::from_utf8(text).map_err(|e| {
        Failure::new(Exit::BadInput, format!("{shown}: not UTF-8 text (byte {})", e.utf8_error().valid_up_to()))
    })
}

/// What goes wrong in a program that runs under this policy with these tiers, besides what does with the emulated machines whose
/// tiers it uses: those faults it finds by itself. `None` if nothing does.
///
/// # Errors
/// As [`read`]; also [`Exit::BadInput`] if the plan wants what cannot happen in such a program, or that of a machine is damaged.
pub fn for_program(path: Option<&Path>, policy: &Policy, specs: &[TierSpec]) -> Result<Option<String>, Failure> {
    let own = path.map(|path| own(path, policy)).transpose()?;
    let of_machines = specs.iter().map(of_machine).collect::<Result<Vec<Script>, _>>()?;
    if of_machines.iter().chain(&own).flat_map(|script| &script.faults).any(is_slow) {
        eprintln!("tierctl: the plan's `slow` faults are for models in virtual time; this program does not feel them");
    }
    Ok(own.map(|script| script.to_string()))
}

const fn is_slow(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::Slow { .. })
}

/// The faults of the emulated machine that the tier is a part of, if it is of one.
fn of_machine(spec: &TierSpec) -> Result<Script, Failure> {
    for (_, state) in Registry::default().machines() {
        let State::Ready(machine) = state else { continue };
        let Some(tier) = machine.tiers.iter().find(|tier| tier.file() == Some(Path::new(&spec.location))) else {
            continue;
        };
        return machine.faults(tier).map_err(|error| Failure::new(Exit::BadInput, error.to_string()));
    }
    Ok(Script::default())
}

fn own(path: &Path, policy: &Policy) -> Result<Script, Failure> {
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
    Ok(plan.script().clone())
}
