//! What a reader of a control segment sees: plain values, copied out at one moment.

use std::path::PathBuf;

/// The state of one process's tiered memory at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Process id.
    pub pid: u32,
    /// The process that this one was forked or started from, where that one was under tiermem too; else 0.
    pub parent: u32,
    /// The program's name (`/proc/PID/comm`).
    pub command: String,
    /// Milliseconds since the process's allocator started, at the moment the figures were taken.
    pub uptime_ms: u64,
    /// Wall-clock time of the start, seconds since 1970.
    pub started_unix_s: u64,
    /// Whether the process has said that it ends (its last figures stay readable).
    pub ended: bool,
    /// The policy in force: path of its file, empty for the built-in one.
    pub policy: String,
    /// Where the policy could not be used: the complaint. Empty otherwise.
    pub policy_error: String,
    /// Resident set of the whole process, bytes, as the kernel counts it.
    pub rss: u64,
    /// One entry per tier, in the order of their ids.
    pub tiers: Vec<TierUse>,
    /// One entry per size class in use, ascending; the last one (`block_size == 0`) holds all large blocks.
    pub size_classes: Vec<SizeClassUse>,
    /// Sampled allocation sites, most bytes first.
    pub sites: Vec<SiteUse>,
    /// What these sites' figures cover.
    pub profile: ProfileUse,
    /// The latest events, oldest first (older ones may have been overwritten; see `events_total`).
    pub events: Vec<Event>,
    /// How many events there were in all.
    pub events_total: u64,
    /// Executable mappings, for naming the sites' addresses.
    pub modules: Vec<Module>,
}

/// One tier's part. All sizes in bytes; counters are since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TierUse {
    /// Its name.
    pub name: String,
    /// Its kind, as in a `SPEC`.
    pub kind: String,
    /// The limit that the policy sets for this process; 0 for none.
    pub limit: u64,
    /// Bytes in blocks that the program holds.
    pub live: u64,
    /// Bytes in extents: what the tier has promised to this process now. Of anonymous memory only the part that was
    /// touched is resident.
    pub committed: u64,
    /// Highest `committed`.
    pub committed_max: u64,
    /// Blocks allocated.
    pub allocations: u64,
    /// Blocks freed.
    pub frees: u64,
    /// Bytes given back to the OS or to the tier.
    pub returned: u64,
    /// Requests that this tier should have served and that went to another one, because it was full, over its limit
    /// or failed.
    pub fallbacks: u64,
    /// Failed or full right now.
    pub unavailable: bool,
    /// Bytes in extents of which a part was found bad (poisoned, or lost with its device) so far; nothing new is placed there.
    pub quarantined: u64,
}

/// One size class's part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SizeClassUse {
    /// Bytes per block; 0 for the entry that holds the large blocks.
    pub block_size: u64,
    /// Per tier, in the order of the tiers: blocks that the program holds.
    pub live: Vec<u64>,
    /// Per tier: blocks allocated since the start.
    pub allocations: Vec<u64>,
    /// Per tier: bytes that the program holds.
    pub live_bytes: Vec<u64>,
}

/// One sampled allocation site. All figures but `samples` are estimates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SiteUse {
    /// Return addresses, innermost first; none for all the samples whose own site could not be entered.
    pub frames: Vec<u64>,
    /// Per tier, in the order of the tiers.
    pub tiers: Vec<SiteTierUse>,
    /// Samples taken.
    pub samples: u64,
}

/// What one site did in one tier since sampling began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SiteTierUse {
    /// Blocks allocated.
    pub allocated_objects: f64,
    /// Bytes asked for in them.
    pub allocated_bytes: u64,
    /// Of these blocks, the ones that the program holds.
    pub live_objects: f64,
    /// Bytes asked for in those.
    pub live_bytes: u64,
}

impl SiteUse {
    /// Bytes allocated, over all tiers.
    pub fn allocated_bytes(&self) -> u64 {
        self.tiers.iter().map(|tier| tier.allocated_bytes).sum()
    }
}

/// What the sites' figures cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfileUse {
    /// Mean bytes between two samples now; 0 while nothing is sampled.
    pub interval: u64,
    /// What a reader asked for last; in force with the next publication.
    pub wanted: u64,
    /// When sampling began, on the clock of [`Snapshot::uptime_ms`]; 0 if it never did. Blocks from before are not in the
    /// figures.
    pub since_ms: u64,
    /// For how long it was off since then, milliseconds, not counting the present pause.
    pub off_ms: u64,
    /// Samples that are missing from the live figures, because too many blocks were tracked.
    pub lost: u64,
}

/// Something that the user should know happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, milliseconds since the allocator started.
    pub at_ms: u64,
    /// What.
    pub kind: EventKind,
    /// The tier it concerns (index into [`Snapshot::tiers`]).
    pub tier: Option<usize>,
    /// Its size in bytes, or 0.
    pub bytes: u64,
    /// How many alike were folded into this entry (at least 1).
    pub count: u64,
}

/// Kinds of [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum EventKind {
    /// The allocator started; `bytes` is 0.
    Started = 0,
    /// A tier passed its watermark or limit: placement went on along the chain.
    Spilled = 1,
    /// A tier had no room although its limit allowed it.
    Full = 2,
    /// A tier failed.
    Failed = 3,
    /// The tiers of a policy could not be opened; the chain goes on without this one.
    TierMissing = 4,
    /// The process forked; `bytes` of file-backed memory became copy-on-write.
    Forked = 5,
    /// Memory was given back.
    Returned = 6,
    /// An allocation failed on every tier of its chain: the program got a null pointer.
    OutOfMemory = 7,
    /// The policy was read again, or could not be used.
    Policy = 8,
    /// The program freed an address that was never allocated here; it was left alone.
    ForeignFree = 9,
    /// A hardened process caught the program misusing a block; see standard error.
    Misuse = 10,
    /// A part of an extent was found bad (poisoned, or lost with its device): nothing new is placed in it. `bytes` is the
    /// extent's length.
    Quarantined = 11,
    /// A fault that was asked for (`TIERMEM_FAULTS`) came.
    Injected = 12,
}

impl EventKind {
    /// The word used in tables and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Spilled => "spilled",
            Self::Full => "full",
            Self::Failed => "failed",
            Self::TierMissing => "tier-missing",
            Self::Forked => "forked",
            Self::Returned => "returned",
            Self::OutOfMemory => "out-of-memory",
            Self::Policy => "policy",
            Self::ForeignFree => "foreign-free",
            Self::Misuse => "misuse",
            Self::Quarantined => "quarantined",
            Self::Injected => "injected",
        }
    }

    /// The kind with this number in a segment.
    pub(super) fn from_number(number: u32) -> Option<Self> {
        const ALL: [EventKind; 13] = [
            EventKind::Started,
            EventKind::Spilled,
            EventKind::Full,
            EventKind::Failed,
            EventKind::TierMissing,
            EventKind::Forked,
            EventKind::Returned,
            EventKind::OutOfMemory,
            EventKind::Policy,
            EventKind::ForeignFree,
            EventKind::Misuse,
            EventKind::Quarantined,
            EventKind::Injected,
        ];
        ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// An executable mapping of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Offset of `start` in the file.
    pub file_offset: u64,
    /// The file.
    pub path: PathBuf,
}
