//! The tiers that `tierctl list` shows: this machine's, and those of this user's emulated machines.

use tiermem_discovery::report::{Figure, Figures, TierReport};
use tiermem_discovery::{Report, Roots, cache, machine};
use tiermem_emulator::tier::State;
use tiermem_emulator::tier::registry::Registry;
use tiermem_tiers::{Source, TierKind, TierSpec};

use crate::exit::{Exit, Failure};

/// What discovery finds, with what was measured before.
pub fn report() -> Report {
    let mut report = machine(&Roots::host());
    match cache::load() {
        Ok(measured) => measured.apply(&mut report),
        Err(error) => report.notes.push(format!("measurements left out: {error}")),
    }
    add_emulated(&mut report);
    report
}

/// The tiers of this user's emulated machines, as if they were hardware, but for what they say of themselves.
fn add_emulated(report: &mut Report) {
    for (machine, state) in Registry::default().machines() {
        let State::Ready(found) = state else {
            report.notes.push(format!("the emulated machine {machine} is lost: `tierctl emulate destroy {machine}`"));
            continue;
        };
        for tier in &found.tiers {
            let spec = tier.bare_spec();
            let taken = report.tiers.iter().any(|known| known.name == tier.name);
            let name = if taken { format!("{machine}/{}", tier.name) } else { tier.name.clone() };
            let mut shown = TierReport::new(spec.kind, name, tier.location.clone(), &tier.description);
            let detail = format!("profile {} in the topology {}", tier.profile, found.topology);
            let emulated = |value| Some(Figures::one(Figure::new(value, Source::Emulated, detail.clone())));
            shown.attributes.read_latency_ns = emulated(tier.read_latency_ns);
            shown.attributes.write_latency_ns = emulated(tier.write_latency_ns);
            shown.attributes.read_bandwidth = emulated(tier.read_bandwidth);
            shown.attributes.write_bandwidth = emulated(tier.write_bandwidth);
            #[expect(clippy::cast_precision_loss, reason = "sizes below 2^53")]
            let size = tier.size_bytes as f64;
            shown.attributes.capacity_bytes = emulated(size);
            if !tier.is_whole() {
                shown.notes.push(format!(
                    "its file was cut or removed: `tierctl emulate destroy {machine}`, then make it anew"
                ));
                report.tiers.push(shown);
                continue;
            }
            shown.spec = Some(tier.spec().to_string());
            if found.has_faults() {
                shown.notes.push(format!("a fault plan is in force: `tierctl emulate heal {machine}` ends it"));
            }
            shown.notes.push(format!("emulated, part of {machine}: its memory is as fast as {}", behind(&spec.kind)));
            report.tiers.push(shown);
        }
    }
}

fn behind(kind: &TierKind) -> &'static str {
    if *kind == TierKind::Device { "host DRAM" } else { "the file system that holds it" }
}

/// The `SPEC` of the tier that `tierctl list` calls `name`.
///
/// # Errors
/// [`Exit::NotFound`] if there is none, [`Exit::Unsupported`] if something has to be done before it can be used.
pub fn find(name: &str) -> Result<TierSpec, Failure> {
    let report = report();
    let tier = report.tiers.iter().find(|tier| tier.name == name).ok_or_else(|| unknown(name, &report))?;
    let unusable = |why: String| Failure::new(Exit::Unsupported, format!("the tier {name} cannot be used yet: {why}"));
    let text = tier.spec.as_deref().ok_or_else(|| unusable(tier.notes.join("; ")))?;
    text.parse().map_err(|error| unusable(format!("{error}")))
}

/// That there is no tier of this name, and which there are.
pub fn unknown(name: &str, report: &Report) -> Failure {
    let known: Vec<&str> = report.tiers.iter().map(|tier| tier.name.as_str()).collect();
    Failure::new(Exit::NotFound, format!("no tier is called {name}; `tierctl list` shows: {}", known.join(", ")))
}
