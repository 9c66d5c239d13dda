//! Events of a control segment in words.

use tiermem::control::{Event, EventKind, Snapshot};
use tiermem_tiers::Bytes;

/// How much an event matters to somebody who reads one line of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Part of normal work.
    Normal,
    /// Placement had to differ from what was asked.
    Notable,
    /// Something is wrong: act.
    Serious,
}

/// How much an event matters.
pub fn weight(event: &Event, snapshot: &Snapshot) -> Weight {
    match event.kind {
        EventKind::Spilled | EventKind::Full => Weight::Notable,
        // What is rewritten after it leaves its tier for DRAM.
        EventKind::Forked if event.bytes > 0 => Weight::Notable,
        EventKind::Failed | EventKind::TierMissing | EventKind::OutOfMemory => Weight::Serious,
        EventKind::ForeignFree | EventKind::Misuse | EventKind::Quarantined => Weight::Serious,
        EventKind::Injected => Weight::Notable,
        EventKind::Policy if !snapshot.policy_error.is_empty() => Weight::Serious,
        _ => Weight::Normal,
    }
}

/// The event as a sentence without a full stop.
pub fn describe(event: &Event, snapshot: &Snapshot) -> String {
    let tier = event.tier.and_then(|t| snapshot.tiers.get(t)).map_or("a tier", |t| t.name.as_str());
    let size = Bytes(event.bytes);
    let sized = |text: String| if event.bytes > 0 { format!("{text} ({size})") } else { text };
    match event.kind {
        EventKind::Started => "the allocator started".to_owned(),
        EventKind::Spilled => {
            sized(format!("{tier} reached its limit or watermark; placement went on along the chain"))
        }
        EventKind::Full => sized(format!("{tier} had no room although its limit allowed it")),
        EventKind::Failed => sized(format!("{tier} failed; nothing new is placed there")),
        EventKind::TierMissing => format!("{tier} could not be opened; the chain goes on without it"),
        EventKind::Forked if event.bytes > 0 => {
            format!("the process forked with {size} on files; what is written there from now on is copied to DRAM")
        }
        EventKind::Forked => {
            "the process forked; what is written to tiers on files from now on is copied to DRAM".to_owned()
        }
        EventKind::Returned => format!("{size} of {tier} went back to the system"),
        EventKind::OutOfMemory => format!("no tier of the chain had {size}: the program got a null pointer"),
        EventKind::Policy if snapshot.policy_error.is_empty() => "the policy was read".to_owned(),
        EventKind::Policy => format!("the policy could not be used: {}", snapshot.policy_error),
        EventKind::Quarantined => format!("{size} of {tier} went bad: nothing new is placed there"),
        EventKind::Injected => format!("a fault of the plan came on {tier}"),
        EventKind::ForeignFree => "the program freed an address that was never allocated here".to_owned(),
        EventKind::Misuse => sized("the hardened allocator caught a misuse of a block; see standard error".to_owned()),
        _ => sized(format!("{} on {tier}", event.kind.as_str())),
    }
}
