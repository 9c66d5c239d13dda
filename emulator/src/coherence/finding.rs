//! What the explorer finds.

use std::fmt;

/// What watches for one kind of bug. Each can be switched off ([`Explorer::without`](super::Explorer::without)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Detector {
    /// A load returned an old value although the new one was in the pool and the host must have heard of it: the host
    /// did not invalidate its copy.
    StaleRead,
    /// A load returned an old value because the writer told of the new one before it had flushed and fenced it; or
    /// [`publish`](super::Host::publish) was called for bytes that are still in the cache.
    PublishBeforeFlush,
    /// A load over several lines of a published object returned a mixture of its versions.
    TornPublish,
    /// A line was written back over what another host had put there since: its own bytes, or neighbours in the line.
    WriteBackOverNewer,
    /// An atomic operation on a line that several hosts use and no hardware keeps coherent.
    CasOutsideCoherentRegion,
    /// An access under a lease or a generation that has ended.
    UseAfterEnd,
    /// What had been [promised durable](super::Host::promise_durable), or what another host knows of, was lost in a
    /// crash.
    LostAtCrash,
    /// Memory was handed out twice, or given back by somebody who did not have it.
    DoubleAllocation,
    /// A secret was still in the pool or a cache after its erasure, or came back.
    PlaintextAfterErase,
    /// A poisoned line was used again, handed out again, or nobody quarantined it.
    PoisonNotQuarantined,
}

impl Detector {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::StaleRead,
        Self::PublishBeforeFlush,
        Self::TornPublish,
        Self::WriteBackOverNewer,
        Self::CasOutsideCoherentRegion,
        Self::UseAfterEnd,
        Self::LostAtCrash,
        Self::DoubleAllocation,
        Self::PlaintextAfterErase,
        Self::PoisonNotQuarantined,
    ];

    const fn words(self) -> &'static str {
        match self {
            Self::StaleRead => "read of a stale line",
            Self::PublishBeforeFlush => "publish before flush",
            Self::TornPublish => "torn publish",
            Self::WriteBackOverNewer => "write-back over newer data",
            Self::CasOutsideCoherentRegion => "compare-and-swap outside the coherent region",
            Self::UseAfterEnd => "use after a lease or generation ended",
            Self::LostAtCrash => "lost at a crash",
            Self::DoubleAllocation => "double allocation",
            Self::PlaintextAfterErase => "plaintext after erase",
            Self::PoisonNotQuarantined => "poison not quarantined",
        }
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.words())
    }
}

/// What kind of finding it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FindingKind {
    /// A detector fired.
    Detected(Detector),
    /// The program panicked: an assertion of the test or of the code under test.
    Panic,
    /// Every host waits for something that no host will do, even if all caches behave well from here.
    Stuck,
    /// A run took more operations than allowed ([`Explorer::max_steps`](super::Explorer::max_steps)).
    TooLong,
    /// The medium failed, or its bytes changed under the run.
    Medium,
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Detected(detector) => detector.fmt(f),
            Self::Panic => f.pad("panic"),
            Self::Stuck => f.pad("stuck"),
            Self::TooLong => f.pad("too long"),
            Self::Medium => f.pad("medium"),
        }
    }
}

/// Something that is wrong with the program, in one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// What happened, in a sentence or two.
    pub story: String,
}

impl Finding {
    pub(super) fn detected(detector: Detector, story: String) -> Self {
        Self { kind: FindingKind::Detected(detector), story }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.story)
    }
}

/// Which detectors are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Detectors(u16);

impl Detectors {
    pub(super) const ALL: Self = Self(u16::MAX);

    pub(super) fn without(self, detector: Detector) -> Self {
        Self(self.0 & !(1 << detector as u16))
    }

    pub(super) fn has(self, detector: Detector) -> bool {
        self.0 & (1 << detector as u16) != 0
    }
}
