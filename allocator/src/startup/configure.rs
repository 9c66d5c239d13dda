//! The policy and the tiers that the environment asks for.

use std::fmt::Display;
use std::path::Path;

use tiermem_placement::Policy;
use tiermem_sys::cgroup;
use tiermem_sys::sync::atomic::Ordering;
use tiermem_tiers::provider::fault::Script;
use tiermem_tiers::{Addressable, Bytes, TierId, TierKind, TierName, TierSpec, provider};

use super::faults;
use super::{CONTROL_VARIABLE, HUGE_VARIABLE, LIMITS_VARIABLE, POLICY_VARIABLE, PROFILE_VARIABLE, TIERS_VARIABLE};
use crate::control::{self, EventKind};
use crate::pool::huge::{self, HugePages};
use crate::{place, profile, purge, sites, tiers};

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    /// The policy file, if one was asked for.
    pub policy_path: String,
    /// What could not be done as asked, a line each.
    pub complaints: Vec<String>,
}

impl Outcome {
    pub fn complain(&mut self, complaint: impl Display) {
        // One line each: the rest of a longer complaint is for `tierctl policy check`.
        let text = complaint.to_string();
        let line = text.lines().next().unwrap_or_default();
        self.complaints.push(line.to_owned());
    }
}

/// A variable of the environment, unless it is empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
}

fn list(name: &str) -> Vec<String> {
    let split = |text: String| text.split(';').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect();
    variable(name).map(split).unwrap_or_default()
}

/// Reads the environment and puts what it asks for in force.
pub fn from_environment() -> Outcome {
    let mut outcome = Outcome::default();
    huge_pages(&mut outcome);
    heed_control_group();
    let path = variable(POLICY_VARIABLE);
    let (specs, limits) = (list(TIERS_VARIABLE), list(LIMITS_VARIABLE));
    if path.is_none() && specs.is_empty() && limits.is_empty() {
        return outcome;
    }
    let mut policy = path.map_or_else(Policy::default, |path| {
        let read = read_policy(&path);
        outcome.policy_path = path;
        read.unwrap_or_else(|complaint| {
            outcome.complain(format_args!("{complaint}; all memory is placed on DRAM"));
            Policy::default()
        })
    });
    for spec in specs {
        if let Err(error) = policy.add_tier(&spec) {
            outcome.complain(format_args!("{TIERS_VARIABLE}: {}", error.summary()));
        }
    }
    for limit in limits {
        if let Err(complaint) = set_limit(&mut policy, &limit) {
            outcome.complain(format_args!("{LIMITS_VARIABLE}: {complaint}"));
        }
    }
    install(&policy, &mut outcome);
    outcome
}

/// Limits DRAM to what the process's control group may still have, so that a request beyond it is answered with null: the
/// kernel would end the program when it touched the memory. A limit of the user's, set later, replaces this one.
fn heed_control_group() {
    let Some(group) = cgroup::memory() else { return };
    // An eighth is for what does not come from here: stacks, the program's own tables, code, the kernel's page tables.
    let rest = group.limit.saturating_sub(group.used).saturating_sub(group.limit / 8);
    tiers::slot(0).pool.counters.limit.store(rest, Ordering::Relaxed);
}

/// Reads how DRAM is to be backed.
fn huge_pages(outcome: &mut Outcome) {
    let Some(text) = variable(HUGE_VARIABLE) else { return };
    match HugePages::parse(&text) {
        Some(HugePages::Reserved) if !huge::reserve_has_some() => outcome.complain(format_args!(
            "{HUGE_VARIABLE}=hugetlb: the kernel has no free 2 MiB pages; reserve some (as root: `sysctl vm.nr_hugepages=N`); \
             ordinary pages are used instead"
        )),
        Some(mode) => huge::set_mode(mode),
        None => outcome.complain(format_args!(
            "{HUGE_VARIABLE}: `{text}` is none of auto, never, always, hugetlb; it stays on auto"
        )),
    }
}

/// The interval of the heap profile, bytes; 0 for none. Without a word about it, watched processes are sampled.
pub fn profile_interval(outcome: &mut Outcome) -> u64 {
    let default = if std::env::var_os(CONTROL_VARIABLE).is_some() { profile::INTERVAL_DEFAULT } else { 0 };
    let Some(text) = variable(PROFILE_VARIABLE) else { return default };
    if text == "off" {
        return 0;
    }
    match Bytes::parse(&text) {
        Ok(Bytes(interval)) if interval == profile::clamp(interval) => interval,
        _ => {
            outcome.complain(format_args!(
                "{PROFILE_VARIABLE}: `{text}` is neither `off` nor a size of {} to {}",
                Bytes(profile::INTERVAL_MIN),
                Bytes(profile::INTERVAL_MAX)
            ));
            default
        }
    }
}

fn read_policy(path: &str) -> Result<Policy, String> {
    let bytes = std::fs::read(Path::new(path)).map_err(|error| format!("{path}: {error}"))?;
    Policy::parse_bytes(&bytes, path).map_err(|error| error.summary())
}

fn set_limit(policy: &mut Policy, text: &str) -> Result<(), String> {
    let (name, size) = text.split_once('=').ok_or_else(|| format!("`{text}` is not TIER=SIZE"))?;
    let size = Bytes::parse(size).map_err(|error| format!("`{text}`: {error}"))?;
    if size == Bytes::ZERO {
        return Err(format!(
            "`{text}`: a limit of 0 would place nothing there; leave the tier out of the chain instead"
        ));
    }
    if !policy.set_limit(name, Some(size.0)) {
        return Err(format!("`{text}`: there is no tier `{name}`"));
    }
    Ok(())
}

/// Opens the tiers and puts the plan in force.
fn install(policy: &Policy, outcome: &mut Outcome) {
    let script = faults::script(outcome);
    for (i, tier) in policy.tiers().iter().enumerate() {
        let id = TierId(i as u8);
        let Some(name) = TierName::new(tier.name()) else { continue };
        let opened = tier.source().map(|source| open(tier.name(), source, id, &script)).transpose();
        let (kind, provider) = match opened {
            Ok(Some((kind, provider))) => (kind, Some(provider)),
            Ok(None) => (TierKind::Dram, None),
            Err(complaint) => {
                outcome.complain(format_args!("tier {name} is left out: {complaint}"));
                control::event(EventKind::TierMissing, Some(id.0), 0);
                (TierKind::DaxFile, None)
            }
        };
        // SAFETY: `start` runs once, and the tiers come in order.
        unsafe { tiers::add(id, name, kind, provider) };
        let counters = &tiers::slot(id.0).pool.counters;
        let missing = i > 0 && provider.is_none();
        match tier.limit() {
            _ if missing => counters.limit.store(0, Ordering::Relaxed),
            Some(limit) => counters.limit.store(limit, Ordering::Relaxed),
            // What the control group allows, if that is limited.
            None => {}
        }
        if let Some(provider) = provider {
            counters.capacity.store(provider.usage().capacity.0, Ordering::Relaxed);
        }
    }
    for tier in policy.bandwidths_missing() {
        outcome.complain(format_args!(
            "tier {}: its bandwidth is unknown, so it gets the least weight; write `bandwidth` in the policy, or run \
             `tierctl probe` and start the program with `tierctl run`",
            tier.name()
        ));
    }
    purge::set_decay(policy.decay_ms());
    sites::set_rules(policy.site_rules());
    // A plan is a kilobyte, made once.
    place::set_plan(Box::leak(Box::new(policy.compile())));
}

fn open(name: &str, source: &str, id: TierId, script: &Script) -> Result<(TierKind, &'static dyn Addressable), String> {
    let spec: TierSpec = format!("{name}={source}").parse().map_err(|error| format!("{error}"))?;
    let opened = provider::open(&spec, id).map_err(|error| error.to_string())?;
    let opened = faults::wrap(opened, &spec, script)?;
    let addressable = opened.addressable().ok_or_else(|| {
        format!("{} memory cannot be loaded from and stored to, so a heap cannot live there", spec.kind)
    })?;
    Ok((spec.kind, addressable))
}
