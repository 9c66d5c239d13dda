//! The contract of [`Provider`] as code: one suite for every provider, real or emulated.
//!
//! Plain checks without a test harness, so that the same code runs under `cargo test`, from the `conformance` binary and
//! inside a guest. The suite uses all of the tier: give it one of 8 to 256 MiB that nobody else uses.

mod contents;
mod family;
pub mod faults;
mod fork;
mod placing;
mod space;
mod tools;

use tiermem_tiers::{ForkPlan, Provider};

/// Hears the name and outcome of each check; `Ok(Some(why))` means that it does not apply to this provider.
pub type Report<'a> = dyn FnMut(&str, Outcome) + 'a;

/// A check's outcome: passed, passed over for a reason, or failed for a reason.
pub type Outcome = Result<Option<&'static str>, String>;

type Check = (&'static str, fn(&dyn Provider) -> Outcome);

const CHECKS: [Check; 20] = [
    ("access-and-interface-agree", placing::access_and_interface_agree),
    ("bad-length-is-unsuitable", space::bad_length_is_unsuitable),
    ("new-extents-are-zeroed", contents::new_extents_are_zeroed),
    ("reads-back", contents::reads_back),
    ("extents-do-not-share-bytes", contents::extents_do_not_share_bytes),
    ("out-of-range-is-an-error", contents::out_of_range_is_an_error),
    ("foreign-extent-is-an-error", contents::foreign_extent_is_an_error),
    ("usage-follows", space::usage_follows),
    ("full-is-full-and-no-signal", space::full_is_full_and_no_signal),
    ("released-space-is-blank", space::released_space_is_blank),
    ("too-large-is-full", space::too_large_is_full),
    ("threads-do-not-collide", space::threads_do_not_collide),
    ("addresses-are-aligned-and-show-the-contents", placing::addresses_show_the_contents),
    ("reserve-at-and-release", placing::reserve_at_and_release),
    ("exclusive-replaces-nothing", placing::exclusive_replaces_nothing),
    ("fork-isolates", fork::fork_isolates),
    ("fork-loses-no-write", fork::fork_loses_no_write),
    ("snapshot-outlives-its-maker", fork::snapshot_outlives_its_maker),
    ("the-dead-give-back", family::the_dead_give_back),
    ("killed-in-the-middle", family::killed_in_the_middle),
];

/// Runs all checks on a provider that nobody else uses.
pub fn run(provider: &dyn Provider, report: &mut Report<'_>) {
    for (name, check) in CHECKS {
        report(name, check(provider));
    }
}

/// Runs one check; `None` if there is none of this name.
pub fn check(provider: &dyn Provider, name: &str) -> Option<Outcome> {
    CHECKS.iter().find(|(known, _)| *known == name).map(|(_, check)| check(provider))
}

/// Runs the checks on a tier that several processes open, each for itself, through `open`.
pub fn run_shared(open: &dyn Fn() -> Box<dyn Provider>, report: &mut Report<'_>) {
    report("strangers-do-not-overlap", family::strangers_do_not_overlap(open));
    report("stranger-inherits-from-the-dead", family::stranger_inherits_from_the_dead(open));
}

/// Whether relatives and strangers share the tier's space, so that claims outlive their process unless they are swept.
fn is_shared_space(provider: &dyn Provider) -> bool {
    provider.addressable().is_some_and(|tier| tier.fork_plan() != ForkPlan::Inherent)
}
