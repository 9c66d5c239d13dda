//! What can stand in a trace.

/// A stream of events: a thread of the recorded program, or whatever else counts time by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

/// A place in the program that allocates. 0: unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub u32);

impl SiteId {
    /// The site of what has none.
    pub const UNKNOWN: Self = Self(0);
}

/// A tier of the recorded run, by its number in the trace; [`Definition::Tier`] gives its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TierTag(pub u8);

impl TierTag {
    /// The recorder did not know it.
    pub const UNKNOWN: Self = Self(u8::MAX);
}

impl Default for TierTag {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

/// What a tick of a trace's times is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Clock {
    /// Only the order counts.
    #[default]
    Order,
    /// Nanoseconds of the recorded machine's clock.
    RealNs,
    /// Picoseconds of virtual time.
    VirtualPs,
    /// Instructions that the stream has executed.
    Instructions,
}

impl Clock {
    /// The word for people and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::RealNs => "real ns",
            Self::VirtualPs => "virtual ps",
            Self::Instructions => "instructions",
        }
    }
}

/// How much of what happened stands in a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Completeness {
    /// Nothing of it.
    #[default]
    Absent,
    /// All of it.
    Exact,
    /// One in so many on average: accesses, or bytes of allocations. 0: in a ratio that nobody knows.
    Sampled(u64),
    /// Counts per extent and interval.
    Aggregated,
}

/// Where a trace comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// What recorded or converted it, with its version: `libtiermem.so 0.1.0`.
    pub tool: String,
    /// The recorded program and its arguments, as a shell would take them.
    pub command: String,
    /// The recorded process; 0 if unknown.
    pub pid: u32,
    /// When the recording began, nanoseconds since 1970; 0 if unknown.
    pub started_unix_ns: u64,
    /// What a tick is.
    pub clock: Clock,
    /// Whether times of different streams can be compared. If not, each stream has a clock of its own.
    pub common_clock: bool,
    /// How many of the accesses are here.
    pub accesses: Completeness,
    /// How many of the allocations are here.
    pub allocations: Completeness,
    /// What else is worth knowing, a line each.
    pub notes: Vec<String>,
}

/// A stack frame of a site.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Frame {
    /// An offset in a program or library (of its file), which means the same in every run.
    Code {
        /// Path of the file.
        module: String,
        /// Offset of the return address in the file, bytes.
        offset: u64,
    },
    /// A function, by name.
    Symbol(String),
    /// An address of the recorded process. With [`Definition::Module`] a reader makes a [`Frame::Code`] of it.
    Address(u64),
}

/// An allocation site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Its number in this trace.
    pub id: SiteId,
    /// Its stack, innermost frame first; may be short, or empty.
    pub frames: Vec<Frame>,
}

/// What events refer to. A definition may stand after its first use; the last one of a number counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Definition {
    /// An allocation site.
    Site(Site),
    /// The name of a tier.
    Tier {
        /// Its number in this trace.
        tag: TierTag,
        /// Its name.
        name: String,
    },
    /// What a stream is.
    Stream {
        /// Its number in this trace.
        id: StreamId,
        /// Number of the thread in its OS; 0 if it is none.
        os_id: u32,
        /// For people.
        name: String,
    },
    /// A mapping of code in the recorded process.
    Module {
        /// First address.
        start: u64,
        /// Address after the last one.
        end: u64,
        /// Offset of `start` in the file.
        offset: u64,
        /// Path of the file.
        path: String,
    },
}

/// One access to memory, before all caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// When, in ticks. The gap to the stream's last event is the work between the two.
    pub at: u64,
    /// Its first byte.
    pub address: u64,
    /// Bytes.
    pub len: u32,
    /// A store; else a load.
    pub write: bool,
    /// Its address depends on the value of the stream's last load, so that it cannot begin before that one is done.
    pub dependent: bool,
}

/// A block was allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocate {
    /// When, in ticks.
    pub at: u64,
    /// By whom.
    pub site: SiteId,
    /// Its first byte.
    pub address: u64,
    /// Bytes that were asked for.
    pub size: u64,
    /// Where it was.
    pub tier: TierTag,
}

/// A block was freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Free {
    /// When, in ticks.
    pub at: u64,
    /// Its first byte.
    pub address: u64,
}

/// A block was resized, in place or not: what was at `old` is at `address` now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reallocate {
    /// When, in ticks.
    pub at: u64,
    /// By whom.
    pub site: SiteId,
    /// Where it was.
    pub old: u64,
    /// Where it is.
    pub address: u64,
    /// Bytes that were asked for.
    pub size: u64,
    /// Where it is.
    pub tier: TierTag,
}

/// Memory was put on a tier, or moved to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// When, in ticks.
    pub at: u64,
    /// Its first byte.
    pub address: u64,
    /// Bytes.
    pub len: u64,
    /// Where it is from now on.
    pub tier: TierTag,
}

/// One access that was sampled and stands for several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When, in ticks.
    pub at: u64,
    /// The address that was accessed.
    pub address: u64,
    /// A store; else a load.
    pub write: bool,
    /// How many accesses it stands for.
    pub weight: u64,
    /// What the hardware measured, in its cycles; 0 if nothing.
    pub latency_cycles: u32,
}

/// How often memory was accessed in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// So many accesses.
    Counted {
        /// Loads.
        reads: u64,
        /// Stores.
        writes: u64,
    },
    /// The memory was looked at several times, and it had been accessed since the look before in some of them.
    Seen {
        /// How often it had been accessed.
        hits: u32,
        /// How often it was looked at; 0 if unknown.
        looks: u32,
    },
}

/// Accesses to a range of memory within an interval, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// End of the interval, in ticks.
    pub at: u64,
    /// Its length, in ticks.
    pub ticks: u64,
    /// First byte of the range.
    pub address: u64,
    /// Bytes.
    pub len: u64,
    /// How often.
    pub counts: Counts,
}

/// What was done with a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyAction {
    /// Its value was asked for.
    #[default]
    Get,
    /// It was given a value.
    Put,
    /// It was removed.
    Delete,
}

/// An operation of a cache or store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyOperation {
    /// When, in ticks.
    pub at: u64,
    /// What.
    pub action: KeyAction,
    /// The key, or a hash of it.
    pub key: u64,
    /// Bytes of the value; 0 if unknown.
    pub size: u64,
    /// Whose it is.
    pub tenant: u32,
    /// Operations of one request have one number.
    pub request: u64,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// See [`Access`].
    Access(Access),
    /// See [`Allocate`].
    Allocate(Allocate),
    /// See [`Free`].
    Free(Free),
    /// See [`Reallocate`].
    Reallocate(Reallocate),
    /// See [`Place`].
    Place(Place),
    /// See [`Sample`].
    Sample(Sample),
    /// See [`Interval`].
    Interval(Interval),
    /// See [`KeyOperation`].
    Key(KeyOperation),
}

impl Event {
    /// When it happened, in ticks.
    #[inline]
    pub const fn at(&self) -> u64 {
        match self {
            Self::Access(e) => e.at,
            Self::Allocate(e) => e.at,
            Self::Free(e) => e.at,
            Self::Reallocate(e) => e.at,
            Self::Place(e) => e.at,
            Self::Sample(e) => e.at,
            Self::Interval(e) => e.at,
            Self::Key(e) => e.at,
        }
    }
}
