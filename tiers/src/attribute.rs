//! Figures that say where they come from.

use std::fmt;

/// Where an [`Attribute`] comes from. Later sources do not override earlier ones by themselves: whoever merges two
/// attributes of the same tier decides, and `tierctl list` shows the one that was chosen with its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Source {
    /// The firmware's Heterogeneous Memory Attribute Table (ACPI 6.5, section 5.2.28), as the kernel exports it.
    Hmat,
    /// The device's own Coherent Device Attribute Table (CXL 3.1, section 9.14.1 and the CDAT specification).
    Cdat,
    /// The kernel reports it directly (capacities, block queue figures).
    Kernel,
    /// `tierctl probe` measured it on this machine.
    Measured,
    /// The user wrote it (a `SPEC`, a policy file, a topology file).
    Configured,
    /// The tier is emulated, and the profile of what it stands for says so; the memory behind it has another speed.
    Emulated,
    /// Nobody said; a typical figure for this kind of memory.
    Assumed,
}

impl Source {
    /// The word used in tables and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hmat => "HMAT",
            Self::Cdat => "CDAT",
            Self::Kernel => "kernel",
            Self::Measured => "measured",
            Self::Configured => "configured",
            Self::Emulated => "emulated",
            Self::Assumed => "assumed",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A value and its [`Source`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attribute<T> {
    /// The value; its unit stands in the name of the field that holds the attribute.
    pub value: T,
    /// Who says so.
    pub source: Source,
}

impl<T> Attribute<T> {
    /// Pairs a value with its source.
    pub const fn new(value: T, source: Source) -> Self {
        Self { value, source }
    }
}
