//! A tier: one kind of memory in one place.

use std::fmt;

use crate::{Attribute, Bytes};

/// Number of a tier within one process. Dense and small: the allocator keeps tables indexed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TierId(pub u8);

impl TierId {
    /// At most this many tiers can be in use in one process.
    pub const COUNT_MAX: usize = 8;

    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A tier's name: 1 to 23 characters of `[A-Za-z0-9._-]`, starting with a letter. Stored inline, so that it can be
/// copied on paths that must not allocate and stored in shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TierName {
    bytes: [u8; 23],
    len: u8,
}

impl TierName {
    /// Longest name, in bytes.
    pub const LEN_MAX: usize = 23;

    /// Checks and stores `name`; `None` if it breaks the rule above.
    pub const fn new(name: &str) -> Option<Self> {
        let src = name.as_bytes();
        if src.is_empty() || src.len() > Self::LEN_MAX || !src[0].is_ascii_alphabetic() {
            return None;
        }
        let mut bytes = [0; Self::LEN_MAX];
        let mut i = 0;
        while i < src.len() {
            if !(src[i].is_ascii_alphanumeric() || matches!(src[i], b'.' | b'_' | b'-')) {
                return None;
            }
            bytes[i] = src[i];
            i += 1;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most LEN_MAX")]
        Some(Self { bytes, len: src.len() as u8 })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or("?")
    }
}

impl fmt::Debug for TierName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for TierName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What kind of memory a tier is, which decides the provider that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TierKind {
    /// Host DRAM: a NUMA node with CPUs (or the whole machine where there is no NUMA).
    Dram,
    /// A CPU-less NUMA node: CXL memory in system-ram mode, or HBM.
    CxlNode,
    /// A `/dev/daxX.Y` character device.
    Devdax,
    /// A file that is mapped: fsdax, tmpfs, memfd, or any other file (an emulated coherent-memory tier).
    DaxFile,
    /// Files on an NVMe-backed directory, through direct I/O. Not addressable by the CPU.
    Nvme,
    /// Memory of an accelerator (CUDA, OpenCL, or emulated). Not addressable by the CPU.
    Device,
}

impl TierKind {
    /// The word used in a `SPEC`, in tables and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dram => "dram",
            Self::CxlNode => "cxl-node",
            Self::Devdax => "devdax",
            Self::DaxFile => "dax-file",
            Self::Nvme => "nvme",
            Self::Device => "device",
        }
    }
}

impl fmt::Display for TierKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether a tier can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// Nothing is known against it.
    Good,
    /// It works, with a part of it set aside (poisoned extents in quarantine).
    Degraded,
    /// It fails or is gone; nothing new is placed there.
    Failed,
}

/// The figures of a tier, each with its source, `None` where nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Attributes {
    /// Idle read latency of a dependent load, nanoseconds.
    pub read_latency_ns: Option<Attribute<f64>>,
    /// Idle write latency, nanoseconds.
    pub write_latency_ns: Option<Attribute<f64>>,
    /// Read bandwidth, bytes per second.
    pub read_bandwidth: Option<Attribute<f64>>,
    /// Write bandwidth, bytes per second.
    pub write_bandwidth: Option<Attribute<f64>>,
    /// Size of the tier.
    pub capacity: Option<Attribute<Bytes>>,
}

/// One kind of memory in one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// Its number in this process.
    pub id: TierId,
    /// Its name, unique in this process.
    pub name: TierName,
    /// What it is.
    pub kind: TierKind,
    /// Its figures.
    pub attributes: Attributes,
}
