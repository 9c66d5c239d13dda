//! Which telemetry and migration mechanisms work on this machine, with these rights. Each is really tried, in
//! miniature: a mapping of a few OS pages, a fault taken and resolved, a sample read.

mod migration;
mod telemetry;

use serde::{Deserialize, Serialize};

use crate::report::Report;

/// All mechanisms, best first within each list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mechanisms {
    /// Ways to learn which memory is used.
    pub telemetry: Vec<Mechanism>,
    /// Ways to move memory, and what moving needs.
    pub migration: Vec<Mechanism>,
}

/// One mechanism and its verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mechanism {
    /// Its name, stable: `userfaultfd-minor`, `move-pages` …
    pub name: String,
    /// What it gives, in a few words.
    pub gives: String,
    /// Whether it works.
    pub verdict: Verdict,
    /// Why not, or what is limited; `null` if it works without reservation.
    pub reason: Option<String>,
    /// What to do about it; `null` if nothing can be done or nothing needs to be.
    pub remedy: Option<String>,
}

/// Whether a mechanism works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was tried and did what it should.
    Works,
    /// It was tried and did a part of it, or could not be tried to the end.
    Limited,
    /// It was tried and failed, or this kernel or machine has nothing of the kind.
    Absent,
}

impl Verdict {
    /// The word used in tables and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Limited => "limited",
            Self::Absent => "absent",
        }
    }
}

/// What a trial found, before it gets its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    verdict: Verdict,
    reason: Option<String>,
    remedy: Option<String>,
}

impl Finding {
    pub(crate) const fn works() -> Self {
        Self { verdict: Verdict::Works, reason: None, remedy: None }
    }

    pub(crate) fn works_with(note: impl Into<String>) -> Self {
        Self { verdict: Verdict::Works, reason: Some(note.into()), remedy: None }
    }

    pub(crate) fn limited(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Limited, reason: Some(reason.into()), remedy: None }
    }

    pub(crate) fn absent(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Absent, reason: Some(reason.into()), remedy: None }
    }

    pub(crate) fn but(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    pub(crate) fn named(self, name: &str, gives: &str) -> Mechanism {
        Mechanism {
            name: name.to_owned(),
            gives: gives.to_owned(),
            verdict: self.verdict,
            reason: self.reason,
            remedy: self.remedy,
        }
    }
}

/// Tries everything. Takes well under a second, changes nothing that outlives it.
pub fn probe_all(report: &Report) -> Mechanisms {
    let memory_nodes: Vec<u32> = report.tiers.iter().filter_map(|tier| Some(tier.node.as_ref()?.node)).collect();
    Mechanisms { telemetry: telemetry::probe(), migration: migration::probe(&memory_nodes) }
}

/// What gives full userfaultfd rights.
const USERFAULT_RIGHTS: &str =
    "run as root, grant CAP_SYS_PTRACE or access to /dev/userfaultfd, or sysctl vm.unprivileged_userfaultfd=1";

/// A userfaultfd trial that failed with the lesser rights too.
fn userfault_refusal(obstacle: &tiermem_sys::trial::Obstacle) -> Finding {
    use tiermem_sys::Errno;
    match obstacle.errno {
        Some(Errno::ENOSYS) => Finding::absent("this kernel has no userfaultfd, or a container profile hides it"),
        Some(Errno::EPERM) => Finding::absent(obstacle.to_string()).but(USERFAULT_RIGHTS),
        Some(Errno::EINVAL) => Finding::absent(format!("{obstacle} (this kernel lacks the feature)")),
        _ => Finding::absent(obstacle.to_string()),
    }
}
